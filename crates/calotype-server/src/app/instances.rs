//! Instances: launched, read, edited, powered on and off, terminated.

use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;

use super::{Context, identity};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::terminate_instance::TerminateInstance;
use crate::records::InstanceRecord;

mod actions;
mod agent;
mod compartment;
mod credentials;
mod database_system;
mod devices;
mod image_filter;
mod launch;
mod maintenance;
mod metadata_limits;
mod platform;
mod source;
mod update;

pub use actions::action;
pub use compartment::change_compartment;
pub use credentials::windows_initial_credentials;
pub use database_system::{is_database_system, mark_database_system};
pub use devices::list_devices;
pub use launch::{Launch, launch};
pub use maintenance::{get_maintenance_reboot, list_maintenance_events};
pub use metadata_limits::{PUBLIC_TCP_PORTS, public_tcp_ports};
pub use source::attach_volume;
pub use update::{Update, update};

pub(super) use source::short_name;

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
