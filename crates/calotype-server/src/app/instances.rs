//! Instances: launched, read, edited, powered on and off, terminated.

use calotype_api::error::ApiError;
use calotype_api::instances::{InstanceState, UpdateInstanceDetails};
use calotype_api::ocid::Ocid;

use super::{Context, identity, tags};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::power_instance::{Action, PowerInstance};
use crate::jobs::terminate_instance::TerminateInstance;
use crate::records::InstanceRecord;

mod launch;
mod metadata_limits;

pub use launch::{Launch, launch};
pub use metadata_limits::{PUBLIC_TCP_PORTS, public_tcp_ports};

/// The instance with that id, whatever its state.
pub async fn load(context: &Context, id: &Ocid) -> Result<Versioned<InstanceRecord>, ApiError> {
    super::load(context, id).await
}

/// `GetInstance`. A terminated instance is still answered, as TERMINATED.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let instance = load(&context, &request.path("instanceId")?).await?;
    Ok(Reply::ok(&instance.resource)?.etag(instance.etag()))
}

/// `ListInstances`.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    super::refuse_queries(&request, &["capacityReservationId", "computeClusterId"])?;
    let domain = request.query::<String>("availabilityDomain")?;
    super::list(&context, &request, &compartment, |record: &InstanceRecord| {
        let here = domain.as_ref().is_none_or(|name| *name == record.resource.availability_domain);
        here.then(|| record.resource.clone())
    })
    .await
}

/// `UpdateInstance`: what can change while the guest runs.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateInstanceDetails = request.json()?;
    let mut instance = load(&context, &request.path("instanceId")?).await?;
    request.check_etag(&instance.etag())?;
    if matches!(
        instance.resource.lifecycle_state,
        InstanceState::Terminating | InstanceState::Terminated
    ) {
        return Err(ApiError::not_authorized_or_not_found());
    }
    refuse_unsupported(&details)?;
    tags::check(details.freeform_tags.as_ref(), details.defined_tags.as_ref())?;
    let resource = &mut instance.value.resource;
    if let Some(metadata) = details.metadata {
        metadata_limits::immutable_keys_stay(&resource.metadata, &metadata)?;
        resource.metadata = metadata;
    }
    if let Some(extended) = details.extended_metadata {
        resource.extended_metadata = extended;
    }
    metadata_limits::check(Some(&resource.metadata), Some(&resource.extended_metadata))?;
    if let Some(name) = details.display_name {
        resource.display_name = name.into();
    }
    if let Some(tags) = details.freeform_tags {
        resource.freeform_tags = tags;
    }
    if let Some(tags) = details.defined_tags {
        resource.defined_tags = tags;
    }
    if let Some(options) = details.instance_options {
        resource.instance_options = options;
    }
    if let Some(config) = details.availability_config {
        resource.availability_config.is_live_migration_preferred =
            config.is_live_migration_preferred;
        resource.availability_config.recovery_action = config.recovery_action;
    }
    if let Some(config) = details.agent_config {
        let agent = &mut resource.agent_config;
        agent.are_all_plugins_disabled = config.are_all_plugins_disabled;
        agent.is_management_disabled = config.is_management_disabled;
        agent.is_monitoring_disabled = config.is_monitoring_disabled;
        agent.plugins_config = config.plugins_config;
    }
    super::replace(&context, instance, |record| Reply::ok(&record.resource)).await
}

fn refuse_unsupported(details: &UpdateInstanceDetails) -> Result<(), ApiError> {
    let unsupported = [
        ("capacityReservationId", details.capacity_reservation_id.is_some()),
        ("dedicatedVmHostId", details.dedicated_vm_host_id.is_some()),
        ("faultDomain", details.fault_domain.is_some()),
        ("launchOptions", details.launch_options.is_some()),
        ("licensingConfigs", details.licensing_configs.is_some()),
        ("securityAttributes", details.security_attributes.is_some()),
        ("platformConfig", details.platform_config.is_some()),
        ("shape", details.shape.is_some()),
        ("shapeConfig", details.shape_config.is_some()),
        ("sourceDetails", details.source_details.is_some()),
    ];
    super::refuse_given(&unsupported)
}

/// `InstanceAction`.
pub async fn action(context: Context, request: Request) -> Result<Reply, ApiError> {
    let action: String = request.required_query("action")?;
    let action = Action::parse(&action)?;
    let mut instance = load(&context, &request.path("instanceId")?).await?;
    request.check_etag(&instance.etag())?;
    let id = instance.resource.id.clone();
    let next = match (instance.resource.lifecycle_state, action) {
        (InstanceState::Stopped, Action::Start) => InstanceState::Starting,
        (
            InstanceState::Running,
            Action::Stop | Action::SoftStop | Action::Reset | Action::SoftReset,
        ) => InstanceState::Stopping,
        (state @ (InstanceState::Running | InstanceState::Stopped), _) => {
            return Err(ApiError::incorrect_state(format!(
                "instance {id} is {state}: {action} is not possible"
            )));
        }
        (InstanceState::Terminating | InstanceState::Terminated, _) => {
            return Err(ApiError::not_authorized_or_not_found());
        }
        _ => return Err(ApiError::instance_busy(&id)),
    };
    if action == Action::Start {
        context.region.guests.check_capacity(&instance.resource.shape_config)?;
    }
    instance.value.resource.lifecycle_state = next;
    let job = PowerInstance::new(&instance, action, &context.region.config.guests);
    let batch = Batch::new().replace(&instance);
    let reply = Reply::ok(&instance.resource)?.etag(instance.next_etag());
    super::submit(&context, job, batch, reply).await
}

/// `TerminateInstance`.
pub async fn terminate(context: Context, request: Request) -> Result<Reply, ApiError> {
    let preserve_boot_volume = request.query::<bool>("preserveBootVolume")?.unwrap_or(false);
    let mut instance = load(&context, &request.path("instanceId")?).await?;
    request.check_etag(&instance.etag())?;
    let id = instance.resource.id.clone();
    if instance.capturing.is_some() {
        return Err(ApiError::instance_busy(&id));
    }
    match instance.resource.lifecycle_state {
        InstanceState::Running | InstanceState::Stopped => {}
        InstanceState::Terminating | InstanceState::Terminated => {
            return Err(ApiError::not_authorized_or_not_found());
        }
        _ => return Err(ApiError::instance_busy(&id)),
    }
    instance.value.resource.lifecycle_state = InstanceState::Terminating;
    let job = TerminateInstance::new(&instance, preserve_boot_volume);
    let batch = Batch::new().replace(&instance);
    super::submit_visible(&context, job, batch, Reply::no_content()).await
}
