//! `LaunchInstance`: everything is checked and reserved before the answer; the guest itself is
//! started by a workflow.

use calotype_api::boot_volumes::{BootVolume, BootVolumeState};
use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::{ImageState, LaunchMode, LaunchOptions};
use calotype_api::instances::{
    CreateVnicDetails, Instance, InstanceAgentConfig, InstanceAvailabilityConfig,
    InstanceShapeConfig, InstanceState, LaunchInstanceDetails, RecoveryAction,
};
use calotype_api::ocid::Ocid;
use calotype_api::sources::{
    InstanceSourceDetails, InstanceSourceViaBootVolumeDetails, InstanceSourceViaImageDetails,
};
use calotype_store::ManifestId;
use uuid::Uuid;

use super::metadata_limits;
use crate::app::{Context, hardware, identity, images, network, shapes, tags};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::launch_instance::LaunchInstance;
use crate::records::{BootVolumeRecord, ImageRecord, InstanceRecord};

const BYTES_PER_GIB: u64 = 1 << 30;
const BYTES_PER_MIB: u64 = 1 << 20;

/// Sizes of a boot volume that may be asked for, in GiB.
const BOOT_VOLUME_GIB: std::ops::RangeInclusive<u64> = 50..=32_768;

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

/// Refuses at once what could only fail later: UEFI on a host without its firmware.
fn firmware_is_here(
    context: &Context,
    source: &Source,
    details: &LaunchInstanceDetails,
) -> Result<(), ApiError> {
    let options = hardware::merge(&source.launch_mode().1, details.launch_options.clone());
    if hardware::firmware(&options) == calotype_vm::Firmware::Uefi64
        && !context.region.guests.hypervisor().has_uefi()
    {
        return Err(ApiError::invalid_parameter(
            "launchOptions.firmware",
            "is UEFI_64, and this host has no UEFI firmware: its operator can install ovmf",
        ));
    }
    Ok(())
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
        ("platformConfig", details.platform_config.is_some()),
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

fn agree<T: Clone + PartialEq>(
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

/// What the instance boots from.
enum Source {
    Image { image: Box<Versioned<ImageRecord>>, manifest: ManifestId, size_bytes: u64 },
    Volume { volume: Box<Versioned<BootVolumeRecord>>, image: Option<Box<ImageRecord>> },
}

impl Source {
    async fn resolve(context: &Context, details: &LaunchInstanceDetails) -> Result<Self, ApiError> {
        match (&details.source_details, &details.image_id) {
            (Some(InstanceSourceDetails::Image(source)), old) => {
                if source.instance_source_image_filter_details.is_some() {
                    let unsupported = [("sourceDetails.instanceSourceImageFilterDetails", true)];
                    crate::app::refuse_given(&unsupported)?;
                }
                let mut id = source.image_id.clone();
                agree("imageId", &mut id, old.as_ref())?;
                let id = id.ok_or_else(|| ApiError::missing_parameter("sourceDetails.imageId"))?;
                Self::image(context, &id, source.boot_volume_size_in_gbs).await
            }
            (Some(InstanceSourceDetails::BootVolume(source)), _) => {
                Self::volume(context, &source.boot_volume_id).await
            }
            (None, Some(id)) => Self::image(context, id, None).await,
            (None, None) => Err(ApiError::missing_parameter("sourceDetails")),
        }
    }

    async fn image(
        context: &Context,
        id: &Ocid,
        boot_volume_gib: Option<u64>,
    ) -> Result<Self, ApiError> {
        let image = images::load(context, id).await?;
        let manifest = match (image.resource.lifecycle_state, image.manifest) {
            (ImageState::Available | ImageState::Exporting, Some(manifest)) => manifest,
            (ImageState::Deleted, _) => return Err(ApiError::not_authorized_or_not_found()),
            (state, _) => {
                return Err(ApiError::incorrect_state(format!(
                    "image {id} is {state}: instances are launched from AVAILABLE images"
                )));
            }
        };
        let size_bytes = boot_volume_size(boot_volume_gib, image.size_bytes)?;
        Ok(Self::Image { image: Box::new(image), manifest, size_bytes })
    }

    async fn volume(context: &Context, id: &Ocid) -> Result<Self, ApiError> {
        let volume = crate::app::load::<BootVolumeRecord>(context, id).await?;
        if volume.resource.lifecycle_state != BootVolumeState::Available
            || volume.instance_id.is_some()
        {
            return Err(ApiError::incorrect_state(format!(
                "boot volume {id} is {} and attached to {}: it must be AVAILABLE and free",
                volume.resource.lifecycle_state,
                volume.instance_id.as_ref().map_or("nothing", |id| id.as_str()),
            )));
        }
        let image = match &volume.resource.image_id {
            Some(id) => context.region.db.get::<ImageRecord>(id.as_str()).await?,
            None => None,
        };
        Ok(Self::Volume {
            volume: Box::new(volume),
            image: image.map(|image| Box::new(image.value)),
        })
    }

    fn image_record(&self) -> Option<&ImageRecord> {
        match self {
            Self::Image { image, .. } => Some(&image.value),
            Self::Volume { image, .. } => image.as_deref(),
        }
    }

    fn image_id(&self) -> Option<Ocid> {
        match self {
            Self::Image { image, .. } => Some(image.resource.id.clone()),
            Self::Volume { volume, .. } => volume.resource.image_id.clone(),
        }
    }

    fn accepts_shape(&self, shape: &str) -> Result<(), ApiError> {
        match self.image_record() {
            Some(image) if !image.compatible_shapes.iter().any(|name| name == shape) => {
                Err(ApiError::new(
                    ErrorCode::InvalidParameter,
                    format!("Shape {shape} is not valid for image {}.", image.resource.id),
                ))
            }
            _ => Ok(()),
        }
    }

    fn launch_mode(&self) -> (LaunchMode, LaunchOptions) {
        self.image_record().map_or_else(
            || (LaunchMode::Paravirtualized, images::preset(LaunchMode::Paravirtualized)),
            |image| (image.resource.launch_mode, image.resource.launch_options.clone()),
        )
    }
}

/// The size of a new boot volume in bytes.
fn boot_volume_size(asked_gib: Option<u64>, image_bytes: u64) -> Result<u64, ApiError> {
    let Some(gib) = asked_gib else { return Ok(image_bytes) };
    let field = "sourceDetails.bootVolumeSizeInGBs";
    if !BOOT_VOLUME_GIB.contains(&gib) {
        return Err(ApiError::invalid_parameter(
            field,
            format!("must be between {} and {}", BOOT_VOLUME_GIB.start(), BOOT_VOLUME_GIB.end()),
        ));
    }
    let bytes = gib * BYTES_PER_GIB;
    if bytes < image_bytes {
        let least = image_bytes.div_ceil(BYTES_PER_GIB);
        return Err(ApiError::invalid_parameter(
            field,
            format!("is {gib}, but the image needs at least {least}"),
        ));
    }
    Ok(bytes)
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
        details: LaunchInstanceDetails,
    ) -> Result<Self, ApiError> {
        refuse_unsupported(&details)?;
        identity::compartment_exists(context, &details.compartment_id).await?;
        identity::availability_domain_exists(context, &details.availability_domain).await?;
        tags::check(details.freeform_tags.as_ref(), details.defined_tags.as_ref())?;
        let metadata = (details.metadata.as_ref(), details.extended_metadata.as_ref());
        metadata_limits::check(metadata.0, metadata.1)?;
        let name = details.shape.as_deref();
        let shape = shapes::find(name.ok_or_else(|| ApiError::missing_parameter("shape"))?)?;
        let shape_config = shapes::configure(shape, details.shape_config.as_ref())?;
        let source = Source::resolve(context, &details).await?;
        source.accepts_shape(&shape.shape)?;
        firmware_is_here(context, &source, &details)?;
        context.region.guests.check_capacity(&shape_config)?;
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
        };
        let planned = network::plan_vnic(context, &owner, &vnic).await?;
        let (volume_id, volume_batch) =
            volume_documents(context, &details, &source, &id, &display_name);
        let resource =
            resource(context, details, id, display_name, &shape_config, &source, &volume_id)?;
        let instance = Versioned::first(InstanceRecord {
            directory: short_name(&resource.id),
            resource,
            boot_volume_id: volume_id,
            vnic_id: planned.vnic_id,
            system_uuid: Uuid::new_v4().to_string(),
            capturing: None,
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

/// The boot volume's documents. A volume made of an image holds the image to the version that was
/// read: if it is deleted meanwhile the launch fails, and never reaches for chunks that are gone.
fn volume_documents(
    context: &Context,
    details: &LaunchInstanceDetails,
    source: &Source,
    instance_id: &Ocid,
    instance_name: &str,
) -> (Ocid, Batch) {
    match source {
        Source::Image { image, manifest, size_bytes } => {
            let id = context.region.new_id("bootvolume");
            let record = BootVolumeRecord {
                resource: BootVolume {
                    id: id.clone(),
                    auto_tuned_vpus_per_gb: None,
                    autotune_policies: None,
                    availability_domain: details.availability_domain.to_string(),
                    boot_volume_replicas: None,
                    cluster_placement_group_id: None,
                    compartment_id: details.compartment_id.clone(),
                    defined_tags: details.defined_tags.clone().unwrap_or_default(),
                    display_name: format!("{instance_name} (Boot Volume)"),
                    freeform_tags: details.freeform_tags.clone().unwrap_or_default(),
                    image_id: Some(image.resource.id.clone()),
                    is_auto_tune_enabled: Some(false),
                    is_hydrated: true,
                    kms_key_id: None,
                    lifecycle_state: BootVolumeState::Provisioning,
                    size_in_gbs: size_bytes.div_ceil(BYTES_PER_GIB),
                    size_in_mbs: size_bytes.div_ceil(BYTES_PER_MIB),
                    source_details: None,
                    system_tags: calotype_api::tags::DefinedTags::new(),
                    time_created: context.now.into(),
                    volume_group_id: None,
                    vpus_per_gb: Some(10),
                },
                base: *manifest,
                next_base: None,
                layers: vec!["overlay-1.qcow2".into()],
                directory: short_name(&id),
                size_bytes: *size_bytes,
                instance_id: Some(instance_id.clone()),
            };
            (id, Batch::new().require(image).insert(&record))
        }
        Source::Volume { volume, .. } => {
            let mut volume = (**volume).clone();
            volume.value.instance_id = Some(instance_id.clone());
            (volume.resource.id.clone(), Batch::new().replace(&volume))
        }
    }
}

fn resource(
    context: &Context,
    details: LaunchInstanceDetails,
    id: Ocid,
    display_name: String,
    shape_config: &InstanceShapeConfig,
    source: &Source,
    volume_id: &Ocid,
) -> Result<Instance, ApiError> {
    let (launch_mode, image_options) = source.launch_mode();
    let fault_domain = identity::fault_domain(details.fault_domain.as_deref())?;
    let availability = details.availability_config.unwrap_or_default();
    let agent = details.agent_config.unwrap_or_default();
    let overridden = details.launch_options.is_some();
    Ok(Instance {
        id,
        agent_config: InstanceAgentConfig {
            are_all_plugins_disabled: Some(agent.are_all_plugins_disabled.unwrap_or(false)),
            is_management_disabled: Some(agent.is_management_disabled.unwrap_or(false)),
            is_monitoring_disabled: Some(agent.is_monitoring_disabled.unwrap_or(false)),
            plugins_config: agent.plugins_config,
        },
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
        launch_mode: if overridden { LaunchMode::Custom } else { launch_mode },
        launch_options: hardware::merge(&image_options, details.launch_options),
        licensing_configs: None,
        lifecycle_state: InstanceState::Provisioning,
        metadata: details.metadata.unwrap_or_default(),
        placement_constraint_details: None,
        platform_config: None,
        preemptible_instance_config: None,
        region: context.region.config.region.clone(),
        security_attributes: None,
        security_attributes_state: None,
        shape: details.shape.unwrap_or_default(),
        shape_config: shape_config.clone(),
        source_details: match source {
            Source::Image { image, size_bytes, .. } => {
                InstanceSourceDetails::Image(InstanceSourceViaImageDetails {
                    image_id: Some(image.resource.id.clone()),
                    boot_volume_size_in_gbs: Some(size_bytes.div_ceil(BYTES_PER_GIB)),
                    boot_volume_vpus_per_gb: Some(10),
                    kms_key_id: None,
                    instance_source_image_filter_details: None,
                })
            }
            Source::Volume { .. } => {
                InstanceSourceDetails::BootVolume(InstanceSourceViaBootVolumeDetails {
                    boot_volume_id: volume_id.clone(),
                })
            }
        },
        system_tags: context.region.guests.system_tags(),
        time_created: context.now.into(),
        time_maintenance_reboot_due: None,
    })
}

/// A directory name that keeps socket paths short: the end of an OCID is as unique as its whole.
fn short_name(id: &Ocid) -> String {
    const LENGTH: usize = 16;
    let text = id.as_str();
    text[text.len().saturating_sub(LENGTH)..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_volume_is_as_large_as_its_image_unless_more_is_asked_for() {
        assert_eq!(boot_volume_size(None, 256 << 20).unwrap(), 256 << 20);
        assert_eq!(boot_volume_size(Some(50), 256 << 20).unwrap(), 50 << 30);
    }

    #[test]
    fn refuses_a_boot_volume_below_the_image_or_outside_the_limits() {
        let error = boot_volume_size(Some(60), 100 << 30).unwrap_err();
        assert!(error.message.contains("at least 100"), "{}", error.message);
        assert!(boot_volume_size(Some(49), 1 << 20).is_err());
        assert!(boot_volume_size(Some(32_769), 1 << 20).is_err());
    }
}
