//! `UpdateInstance`: what can change while the guest runs changes at once; what the guest is made of
//! changes with a restart, by a workflow.

use calotype_api::error::ApiError;
use calotype_api::images::{LaunchMode, LaunchOptions, NetworkType, VolumeType};
use calotype_api::instances::{
    InstanceState, LaunchInstanceShapeConfigDetails, UpdateInstanceDetails,
    UpdateInstanceShapeConfigDetails, UpdateLaunchOptions, UpdateOperationConstraint,
};
use calotype_api::sources::UpdateInstanceSourceDetails;

use super::source::{Source, firmware_is_here};
use super::{agent, load, metadata_limits, platform};
use crate::app::capabilities::effect;
use crate::app::images::compatible_shapes;
use crate::app::{Context, hardware, identity, shapes, tags};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::Seeded as _;
use crate::jobs::update_instance::{Hardware, UpdateInstance};
use crate::records::{ImageRecord, InstanceRecord};

/// `UpdateInstance`.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateInstanceDetails = request.json()?;
    let mut instance = load(&context, &request.path("instanceId")?).await?;
    request.check_etag(&instance.etag())?;
    let state = instance.resource.lifecycle_state;
    if matches!(state, InstanceState::Terminating | InstanceState::Terminated) {
        return Err(ApiError::not_authorized_or_not_found());
    }
    refuse_unsupported(&details)?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(
        &context,
        (&instance.resource.freeform_tags, &instance.resource.defined_tags),
        freeform,
        defined,
    )
    .await?;
    if changes_hardware(&details) {
        let update = Update::prepare(&context, instance, details).await?;
        return update.submit(&context).await;
    }
    describe(&mut instance.value, details)?;
    crate::app::replace(&context, instance, |record| Reply::ok(&record.resource)).await
}

fn refuse_unsupported(details: &UpdateInstanceDetails) -> Result<(), ApiError> {
    let size = details.shape_config.as_ref();
    let unsupported = [
        ("capacityReservationId", details.capacity_reservation_id.is_some()),
        ("dedicatedVmHostId", details.dedicated_vm_host_id.is_some()),
        ("isAIEnterpriseEnabled", details.is_ai_enterprise_enabled == Some(true)),
        ("licensingConfigs", details.licensing_configs.is_some()),
        ("securityAttributes", details.security_attributes.is_some()),
        ("shapeConfig.nvmes", size.is_some_and(|size| size.nvmes.is_some())),
        (
            "shapeConfig.localVolumeSizeInGBs",
            size.is_some_and(|size| size.local_volume_size_in_gbs.is_some()),
        ),
        ("timeMaintenanceRebootDue", details.time_maintenance_reboot_due.is_some()),
    ];
    crate::app::refuse_given(&unsupported)
}

/// Whether clients expect a work request.
fn changes_hardware(details: &UpdateInstanceDetails) -> bool {
    details.shape.is_some()
        || details.shape_config.is_some()
        || details.launch_options.is_some()
        || details.fault_domain.is_some()
        || details.platform_config.is_some()
        || details.source_details.is_some()
}

/// What the guest need not be restarted for.
fn describe(instance: &mut InstanceRecord, details: UpdateInstanceDetails) -> Result<(), ApiError> {
    let resource = &mut instance.resource;
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
        let has = &mut resource.availability_config;
        has.is_live_migration_preferred =
            config.is_live_migration_preferred.or(has.is_live_migration_preferred);
        has.recovery_action = config.recovery_action.or(has.recovery_action);
    }
    if let Some(config) = details.agent_config {
        agent::change(&mut resource.agent_config, config)?;
    }
    Ok(())
}

/// A change of what the guest is made of, checked: everything it will write, put together before
/// anything is written.
pub struct Update {
    /// The instance as it shall be; STOPPING if the workflow has anything to do.
    pub instance: Versioned<InstanceRecord>,
    /// It, and the boot volume that it shall have; fails if what they rest on has changed meanwhile.
    pub batch: Batch,
    /// What carries it out.
    pub job: UpdateInstance,
}

impl Update {
    /// Checks what was asked for.
    pub async fn prepare(
        context: &Context,
        mut instance: Versioned<InstanceRecord>,
        mut details: UpdateInstanceDetails,
    ) -> Result<Self, ApiError> {
        let id = instance.resource.id.clone();
        let was_running = match instance.resource.lifecycle_state {
            InstanceState::Running => true,
            InstanceState::Stopped => false,
            _ => return Err(ApiError::instance_busy(&id)),
        };
        let before = Hardware::of(&instance);
        let constraint = details.update_operation_constraint;
        let preserve = details.source_details.as_ref().is_some_and(preserves);
        let mut batch = Batch::new();
        if let Some(asked) = details.source_details.take() {
            batch = change_source(context, &mut instance.value, &asked).await?;
        }
        if let Some(asked) = details.launch_options.take() {
            schema_allows(context, &instance, &asked).await?;
            let resource = &mut instance.value.resource;
            let options = launch_options(&resource.launch_options, &asked)?;
            if options != resource.launch_options {
                resource.launch_mode = LaunchMode::Custom;
                resource.launch_options = options;
            }
        }
        change_shape(
            context,
            &mut instance.value,
            details.shape.take(),
            details.shape_config.as_ref(),
        )
        .await?;
        let resource = &mut instance.value.resource;
        let (offer, has) = (shapes::find(&resource.shape)?, resource.platform_config.take());
        resource.platform_config = platform::changed(offer, has, details.platform_config.take())?;
        if let Some(asked) = details.fault_domain.take() {
            instance.value.resource.fault_domain = identity::fault_domain(Some(&asked))?;
        }
        describe(&mut instance.value, details)?;
        firmware_is_here(context, &instance.resource.launch_options)?;
        let restarts = was_running && before.needs_restart(&Hardware::of(&instance));
        if restarts && constraint == Some(UpdateOperationConstraint::AvoidDowntime) {
            return Err(ApiError::invalid_parameter(
                "updateOperationConstraint",
                format!(
                    "is AVOID_DOWNTIME, but instance {id} runs and must be restarted for this: \
                         stop it, or allow downtime"
                ),
            ));
        }
        if restarts {
            let resource = &instance.resource;
            shapes::check_room(context, &resource.shape, &resource.shape_config, Some(&id))?;
        }
        let grace = context.region.config.guests.soft_stop_seconds;
        let job = UpdateInstance::new(&instance, before, restarts, preserve, grace);
        if job.has_work() {
            instance.value.resource.lifecycle_state = InstanceState::Stopping;
        }
        batch = batch.replace(&instance);
        Ok(Self { instance, batch, job })
    }

    async fn submit(self, context: &Context) -> Result<Reply, ApiError> {
        let reply = Reply::ok(&self.instance.resource)?.etag(self.instance.next_etag());
        if self.job.has_work() {
            return crate::app::submit_visible(context, self.job, self.batch, reply).await;
        }
        let seed = self.job.seed(&context.region);
        crate::app::done_visible(context, seed, self.batch, reply).await
    }
}

fn preserves(details: &UpdateInstanceSourceDetails) -> bool {
    let asked = match details {
        UpdateInstanceSourceDetails::Image(source) => source.is_preserve_boot_volume_enabled,
        UpdateInstanceSourceDetails::BootVolume(source) => source.is_preserve_boot_volume_enabled,
    };
    asked.unwrap_or(false)
}

/// Gives the instance another boot volume.
async fn change_source(
    context: &Context,
    instance: &mut InstanceRecord,
    asked: &UpdateInstanceSourceDetails,
) -> Result<Batch, ApiError> {
    if instance.capturing.is_some() {
        return Err(ApiError::instance_busy(&instance.resource.id));
    }
    let source = Source::of_update(context, asked).await?;
    source.check_terms(context, &instance.resource.compartment_id).await?;
    source.give_to(context, instance).await
}

/// Refuses options that the capability schema of the instance's image does not allow.
async fn schema_allows(
    context: &Context,
    instance: &InstanceRecord,
    asked: &UpdateLaunchOptions,
) -> Result<(), ApiError> {
    let asked = LaunchOptions {
        boot_volume_type: asked.boot_volume_type,
        network_type: asked.network_type,
        ..LaunchOptions::default()
    };
    let db = &context.region.db;
    if let Some(id) = &instance.resource.image_id
        && let Some(image) = db.get::<ImageRecord>(id.as_str()).await?
    {
        effect::of_launch(db, &image, Some(&asked)).await?;
    }
    Ok(())
}

/// The options with what is asked for instead.
fn launch_options(
    has: &LaunchOptions,
    asked: &UpdateLaunchOptions,
) -> Result<LaunchOptions, ApiError> {
    let volume = [VolumeType::Iscsi, VolumeType::Paravirtualized, VolumeType::Nvme];
    if let Some(kind) = asked.boot_volume_type.filter(|kind| !volume.contains(kind)) {
        let must = format!("is {kind}, but must be ISCSI, PARAVIRTUALIZED or NVME in an update");
        return Err(ApiError::invalid_parameter("launchOptions.bootVolumeType", must));
    }
    if asked.network_type == Some(NetworkType::E1000) {
        let must = "is E1000, but must be VFIO, PARAVIRTUALIZED or ACCELERATEDPV in an update";
        return Err(ApiError::invalid_parameter("launchOptions.networkType", must));
    }
    let asked = LaunchOptions {
        boot_volume_type: asked.boot_volume_type,
        network_type: asked.network_type,
        is_pv_encryption_in_transit_enabled: asked.is_pv_encryption_in_transit_enabled,
        ..LaunchOptions::default()
    };
    Ok(hardware::merge(has, Some(asked)))
}

/// Gives the instance another shape, or another size of its flexible one.
async fn change_shape(
    context: &Context,
    instance: &mut InstanceRecord,
    name: Option<String>,
    size: Option<&UpdateInstanceShapeConfigDetails>,
) -> Result<(), ApiError> {
    if name.is_none() && size.is_none() {
        return Ok(());
    }
    let vnics = instance.vnic_ids().count();
    let resource = &mut instance.resource;
    let name = name.unwrap_or_else(|| resource.shape.clone());
    let offer = shapes::find(&name)?;
    shapes::check_resize(&resource.shape, offer)?;
    let image = match &resource.image_id {
        Some(id) => context.region.db.get::<ImageRecord>(id.as_str()).await?,
        None => None,
    };
    if let Some(image) = image.as_ref().filter(|_| name != resource.shape) {
        compatible_shapes::check_shape(image, &name)?;
    }
    let is_flexible = |name: &str| shapes::find(name).is_ok_and(shapes::Offer::is_flexible);
    let stays_flexible = is_flexible(&resource.shape) && is_flexible(&name);
    let asked = size.cloned().unwrap_or_default();
    let has = stays_flexible.then_some(&resource.shape_config);
    // What is absent stays: of another number of OCPUs only the memory, if it still fits.
    let new_ocpus = asked.ocpus.is_some() || asked.vcpus.is_some();
    let wanted = LaunchInstanceShapeConfigDetails {
        baseline_ocpu_utilization: asked
            .baseline_ocpu_utilization
            .or(resource.shape_config.baseline_ocpu_utilization),
        memory_in_gbs: asked.memory_in_gbs.or_else(|| has?.memory_in_gbs),
        ocpus: if new_ocpus { asked.ocpus } else { has.and_then(|has| has.ocpus) },
        resource_management: asked.resource_management,
        vcpus: asked.vcpus,
        nvmes: None,
        local_volume_size_in_gbs: None,
    };
    let given = size.is_some() || has.is_some();
    resource.shape_config = shapes::configure(offer, given.then_some(&wanted))?;
    let (vnics, most) = (vnics as u64, resource.shape_config.max_vnic_attachments);
    if most.is_some_and(|most| vnics > most) {
        let few =
            format!("{name} in this size has fewer VNICs than the {vnics} attached: detach some");
        return Err(ApiError::invalid_parameter("shape", few));
    }
    if let Some(image) = &image {
        compatible_shapes::check_size(image, &name, &resource.shape_config)?;
    }
    resource.shape = name;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_asks_for_the_devices_that_a_running_system_has_drivers_for() {
        let has = LaunchOptions { network_type: Some(NetworkType::E1000), ..Default::default() };
        let ask = |boot_volume_type, network_type| {
            let asked =
                UpdateLaunchOptions { boot_volume_type, network_type, ..Default::default() };
            launch_options(&has, &asked)
        };
        let kept = ask(Some(VolumeType::Iscsi), None).unwrap();
        assert_eq!(kept.boot_volume_type, Some(VolumeType::Iscsi));
        assert_eq!(kept.network_type, Some(NetworkType::E1000));
        assert!(ask(None, Some(NetworkType::Vfio)).is_ok());
        let refused = ask(Some(VolumeType::Ide), None).unwrap_err();
        assert!(refused.message.contains("launchOptions.bootVolumeType is IDE"));
        let refused = ask(None, Some(NetworkType::E1000)).unwrap_err();
        assert!(refused.message.contains("launchOptions.networkType is E1000"));
    }
}
