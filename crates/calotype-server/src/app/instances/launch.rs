//! `LaunchInstance`: everything is checked and reserved before the answer; the guest itself is
//! started by a workflow.

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::{LaunchMode, LaunchOptions};
use calotype_api::instances::{
    CreateVnicDetails, Instance, InstanceAvailabilityConfig, InstanceShapeConfig, InstanceState,
    LaunchInstanceDetails, RecoveryAction,
};
use calotype_api::ocid::Ocid;
use calotype_api::platform_config::PlatformConfig;
use calotype_api::sources::InstanceSourceDetails;
use uuid::Uuid;

use super::source::{Source, VolumeOwner, firmware_is_here, short_name};
use super::{agent, metadata_limits, platform};
use crate::app::{Context, identity, network, shapes, tags};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::launch_instance::LaunchInstance;
use crate::records::InstanceRecord;

/// How often a launch looks for another address when somebody took the one it had chosen.
const ADDRESS_ATTEMPTS: usize = 8;

/// `LaunchInstance`.
pub async fn launch(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: LaunchInstanceDetails = request.json()?;
    let mut attempts = ADDRESS_ATTEMPTS;
    loop {
        let launch = Launch::prepare(&context, details.clone()).await?;
        match launch.submit(&context).await {
            // Another launch took the address first, or the image changed: look again.
            Err(error) if error.code == ErrorCode::Conflict && attempts > 0 => attempts -= 1,
            other => return other,
        }
    }
}

fn kms_key_id(details: &LaunchInstanceDetails) -> Option<&Ocid> {
    match &details.source_details {
        Some(InstanceSourceDetails::Image(source)) => source.kms_key_id.as_ref(),
        _ => None,
    }
}

fn refuse_unsupported(details: &LaunchInstanceDetails) -> Result<(), ApiError> {
    let size = details.shape_config.as_ref();
    let unsupported = [
        ("capacityReservationId", details.capacity_reservation_id.is_some()),
        ("clusterPlacementGroupId", details.cluster_placement_group_id.is_some()),
        ("computeClusterId", details.compute_cluster_id.is_some()),
        ("dedicatedVmHostId", details.dedicated_vm_host_id.is_some()),
        ("instanceConfigurationId", details.instance_configuration_id.is_some()),
        ("ipxeScript", details.ipxe_script.is_some()),
        ("isAIEnterpriseEnabled", details.is_ai_enterprise_enabled == Some(true)),
        ("licensingConfigs", details.licensing_configs.is_some()),
        ("placementConstraintDetails", details.placement_constraint_details.is_some()),
        ("securityAttributes", details.security_attributes.is_some()),
        ("sourceDetails.kmsKeyId", kms_key_id(details).is_some()),
        ("shapeConfig.nvmes", size.is_some_and(|size| size.nvmes.is_some())),
        (
            "shapeConfig.localVolumeSizeInGBs",
            size.is_some_and(|size| size.local_volume_size_in_gbs.is_some()),
        ),
        ("launchVolumeAttachments", details.launch_volume_attachments.is_some()),
        ("preemptibleInstanceConfig", details.preemptible_instance_config.is_some()),
    ];
    crate::app::refuse_given(&unsupported)
}

/// The VNIC that was asked for, also by the fields of old: both may be given if they agree.
fn vnic_details(details: &LaunchInstanceDetails) -> Result<CreateVnicDetails, ApiError> {
    let mut vnic = details.create_vnic_details.clone().unwrap_or_default();
    agree("subnetId", &mut vnic.subnet_id, details.subnet_id.as_ref())?;
    let label = details.hostname_label.as_ref().map(ToString::to_string);
    agree("hostnameLabel", &mut vnic.hostname_label, label.as_ref())?;
    if vnic.subnet_id.is_none() {
        return Err(ApiError::missing_parameter("createVnicDetails.subnetId"));
    }
    Ok(vnic)
}

/// Takes the value of an old field into the new one, which may say the same.
pub(super) fn agree<T: Clone + PartialEq>(
    field: &str,
    new: &mut Option<T>,
    old: Option<&T>,
) -> Result<(), ApiError> {
    match (&new, old) {
        (Some(new), Some(old)) if new != old => {
            Err(ApiError::invalid_parameter(field, "differs from createVnicDetails"))
        }
        (None, Some(old)) => {
            *new = Some(old.clone());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A launch that was checked: everything it will write, put together before anything is written.
pub struct Launch {
    /// The instance, PROVISIONING.
    pub instance: Versioned<InstanceRecord>,
    /// It, its volume and its network card; fails if what they rest on has changed meanwhile.
    pub batch: Batch,
}

impl Launch {
    /// Checks what was asked for and chooses what was not.
    pub async fn prepare(
        context: &Context,
        mut details: LaunchInstanceDetails,
    ) -> Result<Self, ApiError> {
        refuse_unsupported(&details)?;
        identity::compartment_exists(context, &details.compartment_id).await?;
        identity::availability_domain_exists(context, &details.availability_domain).await?;
        let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.take());
        let compartment = &details.compartment_id;
        details.defined_tags =
            Some(tags::on_create(context, compartment, freeform, defined).await?);

        let metadata = (details.metadata.as_ref(), details.extended_metadata.as_ref());
        metadata_limits::check(metadata.0, metadata.1)?;
        let name = details.shape.as_deref();
        let name = name.ok_or_else(|| ApiError::missing_parameter("shape"))?;
        let source = Source::of_launch(context, &details).await?;
        source.check_terms(context, &details.compartment_id).await?;
        let asked = details.shape_config.as_ref();
        let platform = platform::chosen(shapes::find(name)?, details.platform_config.take())?;
        let size = shapes::check(context, source.image_record(), name, asked, None)?;
        let asked = details.launch_options.as_ref();
        let (mode, mut options) = source.launch_options(context, asked).await?;
        options.is_pv_encryption_in_transit_enabled = details
            .is_pv_encryption_in_transit_enabled
            .or(options.is_pv_encryption_in_transit_enabled);
        firmware_is_here(context, &options)?;
        let hardware = Hardware { size, mode, options, platform };
        let vnic = vnic_details(&details)?;

        let id = context.region.new_id("instance");
        let display_name = details.display_name.as_ref().map_or_else(
            || format!("instance{}", context.now.strftime("%Y%m%d%H%M%S")),
            ToString::to_string,
        );
        let owner = network::VnicOwner {
            instance_id: id.clone(),
            compartment_id: details.compartment_id.clone(),
            display_name: display_name.clone(),
            availability_domain: details.availability_domain.to_string(),
            is_primary: true,
            attachment_name: None,
        };
        let planned = network::plan_vnic(context, &owner, &vnic).await?;
        let volume_owner = VolumeOwner {
            instance_id: &id,
            instance_name: &display_name,
            compartment_id: &details.compartment_id,
            availability_domain: &details.availability_domain,
            freeform_tags: details.freeform_tags.clone().unwrap_or_default(),
            defined_tags: details.defined_tags.clone().unwrap_or_default(),
        };
        let (volume_id, volume_batch) = source.claim(context, volume_owner);
        let resource = resource(context, details, id, display_name, hardware, &source, &volume_id)?;
        let instance = Versioned::first(InstanceRecord {
            directory: short_name(&resource.id),
            resource,
            boot_volume_id: volume_id,
            vnic_id: planned.vnic_id,
            secondary_vnic_ids: Vec::new(),
            system_uuid: Uuid::new_v4().to_string(),
            capturing: None,
            boot_volume_detached: false,
            time_terminated: None,
        });
        let batch = planned.batch.and(volume_batch).create(&instance);
        Ok(Self { instance, batch })
    }

    async fn submit(self, context: &Context) -> Result<Reply, ApiError> {
        let job = LaunchInstance::new(&self.instance);
        let reply = Reply::ok(&self.instance.resource)?.etag(self.instance.etag());
        crate::app::submit_visible(context, job, self.batch, reply).await
    }
}

/// What the guest is made of.
struct Hardware {
    size: InstanceShapeConfig,
    mode: LaunchMode,
    options: LaunchOptions,
    platform: Option<PlatformConfig>,
}

fn resource(
    context: &Context,
    details: LaunchInstanceDetails,
    id: Ocid,
    display_name: String,
    hardware: Hardware,
    source: &Source,
    volume_id: &Ocid,
) -> Result<Instance, ApiError> {
    let fault_domain = identity::fault_domain(details.fault_domain.as_deref())?;
    let availability = details.availability_config.unwrap_or_default();
    let agent_config = agent::chosen(details.agent_config)?;
    let overridden = details.launch_options.is_some();
    Ok(Instance {
        id,
        agent_config,
        availability_config: InstanceAvailabilityConfig {
            is_live_migration_preferred: availability.is_live_migration_preferred,
            recovery_action: Some(
                availability.recovery_action.unwrap_or(RecoveryAction::RestoreInstance),
            ),
        },
        availability_domain: details.availability_domain.into(),
        capacity_reservation_id: None,
        cluster_placement_group_id: None,
        compartment_id: details.compartment_id,
        dedicated_vm_host_id: None,
        defined_tags: details.defined_tags.unwrap_or_default(),
        display_name,
        extended_metadata: details.extended_metadata.unwrap_or_default(),
        fault_domain,
        freeform_tags: details.freeform_tags.unwrap_or_default(),
        image_id: source.image_id(),
        instance_configuration_id: None,
        instance_options: details.instance_options.unwrap_or_default(),
        ipxe_script: None,
        is_ai_enterprise_enabled: None,
        is_cross_numa_node: Some(false),
        launch_mode: if overridden { LaunchMode::Custom } else { hardware.mode },
        launch_options: hardware.options,
        licensing_configs: None,
        lifecycle_state: InstanceState::Provisioning,
        metadata: details.metadata.unwrap_or_default(),
        placement_constraint_details: None,
        platform_config: hardware.platform,
        preemptible_instance_config: None,
        region: context.region.config.region.clone(),
        security_attributes: None,
        security_attributes_state: None,
        shape: details.shape.unwrap_or_default(),
        shape_config: hardware.size,
        source_details: source.details(volume_id),
        system_tags: context.region.guests.system_tags(),
        time_created: context.now.into(),
        time_maintenance_reboot_due: None,
    })
}
