//! What a schema does to a launch.
//!
//! Launch options come from three places, each over the one before: the image, its schema, the request.
//!
//! * An element whose source is `IMAGE` sets its option to the element's default; without one the image's
//!   own stays if it is allowed, else the first allowed value is taken.
//! * `Compute.LaunchMode` sets all options at once to those of the mode, except the firmware; `CUSTOM` sets
//!   none. Elements of single options come over it.
//! * A request for a value that such an element does not list is refused.
//! * An image that was captured here is known to boot with its own options. An element that says what the
//!   global schema says as well overrides nothing then: Packer copies every element of the global schema,
//!   and a disk that boots by BIOS would not boot any more.

use calotype_api::capability_schemas::{
    CapabilitySource, ImageCapabilitySchemaDescriptor as Descriptor, SchemaData,
};
use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::{Firmware, LaunchMode, LaunchOptions, NetworkType, VolumeType};

use super::global::{self, Version};
use super::{of_image, rules};
use crate::app::{hardware, images};
use crate::db::Db;
use crate::records::ImageRecord;

/// Elements that set a launch option, and the option's field.
const FIRMWARE: (&str, &str) = ("Compute.Firmware", "firmware");
const NETWORK: (&str, &str) = ("Network.AttachmentType", "networkType");
const BOOT_VOLUME: (&str, &str) = ("Storage.BootVolumeType", "bootVolumeType");
const DATA_VOLUME: (&str, &str) = ("Storage.RemoteDataVolumeType", "remoteDataVolumeType");
pub(super) const LAUNCH_MODE: &str = "Compute.LaunchMode";
const VOLUME_NAMING: &str = "Storage.ConsistentVolumeNaming";
const ENCRYPTION: &str = "Storage.ParaVirtualization.EncryptionInTransit";

/// Launch mode and options of an instance of `image` for which a request asks what it does.
pub async fn of_launch(
    db: &Db,
    image: &ImageRecord,
    asked: Option<&LaunchOptions>,
) -> Result<(LaunchMode, LaunchOptions), ApiError> {
    let Some(schema) = of_image(db, &image.resource.id).await? else {
        let options = hardware::merge(&image.resource.launch_options, asked.cloned());
        return Ok((image.resource.launch_mode, options));
    };
    let schema = &schema.resource;
    let version = global::version(&schema.compute_global_image_capability_schema_version_name);
    effective(image, version, &schema.schema_data, asked)
}

fn effective(
    image: &ImageRecord,
    version: Option<&Version>,
    data: &SchemaData,
    asked: Option<&LaunchOptions>,
) -> Result<(LaunchMode, LaunchOptions), ApiError> {
    let is_captured = image.resource.base_image_id.is_some();
    let overrides = Overrides {
        version: version.filter(|_| is_captured),
        data,
        image: image.resource.id.as_str(),
    };
    if let Some(asked) = asked {
        overrides.allow(FIRMWARE, asked.firmware.map(Firmware::as_str))?;
        overrides.allow(NETWORK, asked.network_type.map(NetworkType::as_str))?;
        overrides.allow(BOOT_VOLUME, asked.boot_volume_type.map(VolumeType::as_str))?;
        overrides.allow(DATA_VOLUME, asked.remote_data_volume_type.map(VolumeType::as_str))?;
    }
    let (mut mode, mut options) =
        (image.resource.launch_mode, image.resource.launch_options.clone());
    if let Some(word) = overrides.word(LAUNCH_MODE, Some(mode.as_str())) {
        // VDPA is a way to reach a paravirtual card, which the guest does not notice.
        mode = word.parse().unwrap_or(LaunchMode::Paravirtualized);
        if mode != LaunchMode::Custom {
            options = LaunchOptions { firmware: options.firmware, ..images::preset(mode) };
        }
    }
    let volume = |(element, _): (&str, &str), own: Option<VolumeType>| {
        overrides
            .word(element, own.map(VolumeType::as_str))
            .and_then(|word| word.parse().ok())
            .or(own)
    };
    options.boot_volume_type = volume(BOOT_VOLUME, options.boot_volume_type);
    options.remote_data_volume_type = volume(DATA_VOLUME, options.remote_data_volume_type);
    let firmware = overrides.word(FIRMWARE.0, options.firmware.map(Firmware::as_str));
    options.firmware = firmware.and_then(|word| word.parse().ok()).or(options.firmware);
    if let Some(word) = overrides.word(NETWORK.0, options.network_type.map(NetworkType::as_str)) {
        options.network_type = Some(word.parse().unwrap_or(NetworkType::Paravirtualized));
    }
    if let Some(naming) = overrides.flag(VOLUME_NAMING) {
        options.is_consistent_volume_naming_enabled = Some(naming);
    }
    if let Some(encrypted) = overrides.flag(ENCRYPTION) {
        options.is_pv_encryption_in_transit_enabled = Some(encrypted);
    }
    Ok((mode, hardware::merge(&options, asked.cloned())))
}

/// The elements of a schema that override what the image says.
struct Overrides<'a> {
    /// The version whose elements override nothing.
    version: Option<&'a Version>,
    data: &'a SchemaData,
    /// The image's id, for messages.
    image: &'a str,
}

impl Overrides<'_> {
    fn get(&self, element: &str) -> Option<&Descriptor> {
        let own = self.data.get(element)?;
        let same = self.version.and_then(|version| version.schema_data.get(element));
        let overrides = own.source() == CapabilitySource::Image;
        (overrides && !same.is_some_and(|global| says_the_same(own, global))).then_some(own)
    }

    /// What the element sets an option to that is `own` otherwise.
    fn word<'a>(&'a self, element: &str, own: Option<&'a str>) -> Option<&'a str> {
        let Some(Descriptor::EnumString { default_value, values, .. }) = self.get(element) else {
            return None;
        };
        let allowed = own.filter(|own| values.iter().any(|value| value == own));
        default_value.as_deref().or(allowed).or(values.first().map(String::as_str))
    }

    fn flag(&self, element: &str) -> Option<bool> {
        match self.get(element)? {
            Descriptor::Boolean { default_value, .. } => *default_value,
            _ => None,
        }
    }

    /// Refuses a value that the element does not list.
    fn allow(&self, (element, field): (&str, &str), asked: Option<&str>) -> Result<(), ApiError> {
        let (Some(asked), Some(Descriptor::EnumString { values, .. })) = (asked, self.get(element))
        else {
            return Ok(());
        };
        if values.iter().any(|value| value == asked) {
            return Ok(());
        }
        Err(ApiError::new(
            ErrorCode::InvalidParameter,
            format!(
                "launchOptions.{field} {asked} is not valid for image {}: {element} of its capability \
                 schema allows {}",
                self.image,
                rules::listed(values)
            ),
        ))
    }
}

/// Whether two descriptors allow and choose the same, whoever says it and in whatever order.
fn says_the_same(one: &Descriptor, other: &Descriptor) -> bool {
    use Descriptor::{Boolean, EnumInteger, EnumString};

    match (one, other) {
        (Boolean { default_value: one, .. }, Boolean { default_value: other, .. }) => one == other,
        (
            EnumInteger { default_value: one, values: some, .. },
            EnumInteger { default_value: other, values: others, .. },
        ) => one == other && same_values(some, others),
        (
            EnumString { default_value: one, values: some, .. },
            EnumString { default_value: other, values: others, .. },
        ) => one == other && same_values(some, others),
        _ => false,
    }
}

fn same_values<T: PartialEq>(some: &[T], others: &[T]) -> bool {
    some.len() == others.len() && some.iter().all(|value| others.contains(value))
}

#[cfg(test)]
mod tests;
