//! What an instance boots from: a new boot volume of an image, or a boot volume that is there.

use calotype_api::boot_volumes::{BootVolume, BootVolumeState};
use calotype_api::error::ApiError;
use calotype_api::images::{ImageState, LaunchMode, LaunchOptions};
use calotype_api::instances::{InstanceShapeConfig, LaunchInstanceDetails};
use calotype_api::ocid::Ocid;
use calotype_api::sources::{
    InstanceSourceDetails, InstanceSourceViaBootVolumeDetails, InstanceSourceViaImageDetails,
    UpdateInstanceSourceDetails,
};
use calotype_api::tags::{DefinedTags, FreeformTags};
use calotype_store::ManifestId;

use super::image_filter;
use crate::app::app_catalog::terms;
use crate::app::boot_volumes::{BOOT_VOLUME_GIB, BYTES_PER_GIB};
use crate::app::capabilities::effect;
use crate::app::images::{self, compatible_shapes};
use crate::app::{Context, boot_volumes, hardware};
use crate::db::{Batch, Versioned};
use crate::records::{BootVolumeRecord, ImageRecord, InstanceRecord};

const BYTES_PER_MIB: u64 = 1 << 20;

/// What an instance boots from.
pub(super) enum Source {
    /// A new boot volume of an image.
    Image {
        image: Box<Versioned<ImageRecord>>,
        manifest: ManifestId,
        size_bytes: u64,
        vpus_per_gb: u64,
    },
    /// A boot volume that is there, and the image that it was made of if that is still known.
    Volume { volume: Box<Versioned<BootVolumeRecord>>, image: Option<Box<ImageRecord>> },
}

/// The instance whose boot volume it becomes.
pub(super) struct VolumeOwner<'a> {
    pub(super) instance_id: &'a Ocid,
    pub(super) instance_name: &'a str,
    pub(super) compartment_id: &'a Ocid,
    pub(super) availability_domain: &'a str,
    pub(super) freeform_tags: FreeformTags,
    pub(super) defined_tags: DefinedTags,
}

impl Source {
    /// What a launch asks for, also by the fields of old.
    pub(super) async fn of_launch(
        context: &Context,
        details: &LaunchInstanceDetails,
    ) -> Result<Self, ApiError> {
        match (&details.source_details, &details.image_id) {
            (Some(InstanceSourceDetails::Image(source)), old) => {
                let mut id = source.image_id.clone();
                super::launch::agree("imageId", &mut id, old.as_ref())?;
                let id = match (id, &source.instance_source_image_filter_details) {
                    (Some(id), None) => id,
                    (None, Some(filter)) => {
                        image_filter::newest(context, filter, details.shape.as_deref()).await?
                    }
                    (Some(_), Some(_)) => {
                        return Err(ApiError::invalid_parameter(
                            "sourceDetails.instanceSourceImageFilterDetails",
                            "must not be given together with imageId",
                        ));
                    }
                    (None, None) => {
                        return Err(ApiError::missing_parameter("sourceDetails.imageId"));
                    }
                };
                let vpus = source.boot_volume_vpus_per_gb;
                Self::image(context, &id, source.boot_volume_size_in_gbs, vpus).await
            }
            (Some(InstanceSourceDetails::BootVolume(_)), Some(_)) => {
                let both = "must not be given together with the boot volume of sourceDetails";
                Err(ApiError::invalid_parameter("imageId", both))
            }
            (Some(InstanceSourceDetails::BootVolume(source)), None) => {
                Self::volume(context, &source.boot_volume_id).await
            }
            (None, Some(id)) => Self::image(context, id, None, None).await,
            (None, None) => Err(ApiError::missing_parameter("sourceDetails")),
        }
    }

    /// Refuses an image whose publisher's terms nobody has agreed to in the compartment.
    pub(super) async fn check_terms(
        &self,
        context: &Context,
        compartment: &Ocid,
    ) -> Result<(), ApiError> {
        let Self::Image { image, .. } = self else { return Ok(()) };
        terms::may_be_launched(&context.region.db, &image.resource.id, compartment).await
    }

    /// What an update asks for instead of the boot volume.
    pub(super) async fn of_update(
        context: &Context,
        details: &UpdateInstanceSourceDetails,
    ) -> Result<Self, ApiError> {
        match details {
            UpdateInstanceSourceDetails::Image(source) => {
                let unsupported = [("sourceDetails.kmsKeyId", source.kms_key_id.is_some())];
                crate::app::refuse_given(&unsupported)?;
                Self::image(context, &source.image_id, source.boot_volume_size_in_gbs, None).await
            }
            UpdateInstanceSourceDetails::BootVolume(source) => {
                Self::volume(context, &source.boot_volume_id).await
            }
        }
    }

    async fn image(
        context: &Context,
        id: &Ocid,
        boot_volume_gib: Option<u64>,
        vpus_per_gb: Option<u64>,
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
        if image.lifecycle.time_disabled.is_some_and(|time| time <= context.now) {
            return Err(ApiError::incorrect_state(format!(
                "image {id} is about to be DISABLED: nothing is launched from it any more"
            )));
        }
        let size_bytes = boot_volume_size(boot_volume_gib, image.size_bytes)?;
        let vpus_per_gb =
            boot_volumes::vpus_per_gb("sourceDetails.bootVolumeVpusPerGB", vpus_per_gb)?;
        Ok(Self::Image { image: Box::new(image), manifest, size_bytes, vpus_per_gb })
    }

    async fn volume(context: &Context, id: &Ocid) -> Result<Self, ApiError> {
        let volume = crate::app::load::<BootVolumeRecord>(context, id).await?;
        boot_volumes::is_free(&volume)?;
        let image = match &volume.resource.image_id {
            Some(id) => context.region.db.get::<ImageRecord>(id.as_str()).await?,
            None => None,
        };
        Ok(Self::Volume {
            volume: Box::new(volume),
            image: image.map(|image| Box::new(image.value)),
        })
    }

    pub(super) fn image_record(&self) -> Option<&ImageRecord> {
        match self {
            Self::Image { image, .. } => Some(&image.value),
            Self::Volume { image, .. } => image.as_deref(),
        }
    }

    pub(super) fn image_id(&self) -> Option<Ocid> {
        match self {
            Self::Image { image, .. } => Some(image.resource.id.clone()),
            Self::Volume { volume, .. } => volume.resource.image_id.clone(),
        }
    }

    /// Makes it what an instance boots from that is there already. A disk of another image boots as that
    /// is meant to, since the options of the disk before may not fit.
    pub(super) async fn give_to(
        &self,
        context: &Context,
        instance: &mut InstanceRecord,
    ) -> Result<Batch, ApiError> {
        let resource = &mut instance.resource;
        let owner = VolumeOwner {
            instance_id: &resource.id,
            instance_name: &resource.display_name,
            compartment_id: &resource.compartment_id,
            availability_domain: &resource.availability_domain,
            freeform_tags: resource.freeform_tags.clone(),
            defined_tags: resource.defined_tags.clone(),
        };
        let (volume_id, batch) = self.claim(context, owner);
        self.accepts(&resource.shape, &resource.shape_config)?;
        let is_same = matches!(self, Self::Volume { .. }) && self.image_id() == resource.image_id;
        if self.image_record().is_some() && !is_same {
            (resource.launch_mode, resource.launch_options) =
                self.launch_options(context, None).await?;
        }
        resource.image_id = self.image_id();
        resource.source_details = self.details(&volume_id);
        instance.boot_volume_id = volume_id;
        instance.boot_volume_detached = false;
        Ok(batch)
    }

    /// Refuses an instance of that shape and size if the image does not allow it.
    pub(super) fn accepts(&self, shape: &str, size: &InstanceShapeConfig) -> Result<(), ApiError> {
        let Some(image) = self.image_record() else { return Ok(()) };
        compatible_shapes::check_shape(image, shape)?;
        compatible_shapes::check_size(image, shape, size)
    }

    /// How an instance boots: as its image and that one's capability schema say, unless the request asks
    /// for something else that they allow.
    pub(super) async fn launch_options(
        &self,
        context: &Context,
        asked: Option<&LaunchOptions>,
    ) -> Result<(LaunchMode, LaunchOptions), ApiError> {
        let booted = match self {
            Self::Image { .. } => None,
            Self::Volume { volume, .. } => volume.booted.as_ref(),
        };
        let Some(image) = self.image_record() else {
            let mode = LaunchMode::Paravirtualized;
            let (mode, options) = booted.map_or_else(
                || (mode, images::preset(mode)),
                |booted| (booted.launch_mode, booted.launch_options.clone()),
            );
            return Ok((mode, hardware::merge(&options, asked.cloned())));
        };
        let (mode, mut options) = effect::of_launch(&context.region.db, image, asked).await?;
        // A disk boots by the firmware it ran with, whatever its image says.
        let asked = asked.and_then(|asked| asked.firmware);
        let firmware = asked.or_else(|| booted?.launch_options.firmware);
        options.firmware = firmware.or(options.firmware);
        Ok((mode, options))
    }

    /// How an instance says what it boots from.
    pub(super) fn details(&self, volume_id: &Ocid) -> InstanceSourceDetails {
        match self {
            Self::Image { image, size_bytes, vpus_per_gb, .. } => {
                InstanceSourceDetails::Image(InstanceSourceViaImageDetails {
                    image_id: Some(image.resource.id.clone()),
                    boot_volume_size_in_gbs: Some(size_bytes.div_ceil(BYTES_PER_GIB)),
                    boot_volume_vpus_per_gb: Some(*vpus_per_gb),
                    kms_key_id: None,
                    instance_source_image_filter_details: None,
                })
            }
            Self::Volume { .. } => {
                InstanceSourceDetails::BootVolume(InstanceSourceViaBootVolumeDetails {
                    boot_volume_id: volume_id.clone(),
                })
            }
        }
    }

    /// The boot volume's id and documents. A volume made of an image holds the image to the version
    /// that was read: if it is deleted meanwhile the batch fails, and nobody ever reaches for chunks
    /// that are gone.
    pub(super) fn claim(&self, context: &Context, owner: VolumeOwner) -> (Ocid, Batch) {
        match self {
            Self::Image { image, manifest, size_bytes, vpus_per_gb } => {
                let id = context.region.new_id("bootvolume");
                let instance_id = owner.instance_id.clone();
                let image_id = image.resource.id.clone();
                let resource =
                    new_volume(context, &id, owner, image_id, (*size_bytes, *vpus_per_gb));
                let record = BootVolumeRecord {
                    resource,
                    base: *manifest,
                    next_base: None,
                    layers: vec!["overlay-1.qcow2".into()],
                    directory: short_name(&id),
                    size_bytes: *size_bytes,
                    instance_id: Some(instance_id),
                    time_terminated: None,
                    booted: None,
                };
                (id, Batch::new().require(image).insert(&record))
            }
            Self::Volume { volume, .. } => {
                let mut volume = (**volume).clone();
                volume.value.instance_id = Some(owner.instance_id.clone());
                (volume.resource.id.clone(), Batch::new().replace(&volume))
            }
        }
    }
}

/// Makes a boot volume that is free the instance's; the batch fails if it is taken meanwhile.
pub async fn attach_volume(
    context: &Context,
    instance: &mut InstanceRecord,
    volume_id: &Ocid,
) -> Result<Batch, ApiError> {
    let source = Source::volume(context, volume_id).await?;
    let batch = source.give_to(context, instance).await?;
    firmware_is_here(context, &instance.resource.launch_options)?;
    Ok(batch)
}

fn new_volume(
    context: &Context,
    id: &Ocid,
    owner: VolumeOwner,
    image_id: Ocid,
    (size_bytes, vpus_per_gb): (u64, u64),
) -> BootVolume {
    BootVolume {
        id: id.clone(),
        auto_tuned_vpus_per_gb: None,
        autotune_policies: None,
        availability_domain: owner.availability_domain.to_owned(),
        boot_volume_replicas: None,
        cluster_placement_group_id: None,
        compartment_id: owner.compartment_id.clone(),
        defined_tags: owner.defined_tags,
        display_name: format!("{} (Boot Volume)", owner.instance_name),
        freeform_tags: owner.freeform_tags,
        image_id: Some(image_id),
        is_auto_tune_enabled: Some(false),
        is_hydrated: true,
        kms_key_id: None,
        lifecycle_state: BootVolumeState::Provisioning,
        size_in_gbs: size_bytes.div_ceil(BYTES_PER_GIB),
        size_in_mbs: size_bytes.div_ceil(BYTES_PER_MIB),
        source_details: None,
        system_tags: DefinedTags::new(),
        time_created: context.now.into(),
        volume_group_id: None,
        vpus_per_gb: Some(vpus_per_gb),
    }
}

/// Refuses at once what could only fail later: UEFI on a host without its firmware.
pub(super) fn firmware_is_here(context: &Context, options: &LaunchOptions) -> Result<(), ApiError> {
    if hardware::firmware(options) == calotype_vm::Firmware::Uefi64
        && !context.region.guests.hypervisor().has_uefi()
    {
        return Err(ApiError::invalid_parameter(
            "launchOptions.firmware",
            "is UEFI_64, and this host has no UEFI firmware: its operator can install ovmf",
        ));
    }
    Ok(())
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

/// A directory name that keeps socket paths short: the end of an OCID is as unique as its whole.
pub(in crate::app) fn short_name(id: &Ocid) -> String {
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
