//! What an `.oci` archive says of its image, and what an image says in one.
//!
//! Sources: `behaviour.md` 2.7 gathers what is known of the file, which Oracle does not document.

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::{LaunchMode, LaunchOptions, VolumeType};
use calotype_disk::oci_archive::{AdditionalMetadata, ExternalLaunchOptions, ImageMetadata};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::import::is_unknown;
use super::{compatible_shapes, preset};
use crate::app::capabilities::{CapabilitySchemaRecord, born};
use crate::app::measured;
use crate::records::{ImageCapabilities, ImageRecord};

/// The version of the file's form.
const VERSION: u32 = 2;
/// How the guest's paravirtual disks are attached.
const ATTACHMENT_VERSION: u32 = 2;

/// Takes over what an archive says. The operating system is what the request said, if it said one.
pub(crate) fn describe(image: &mut ImageRecord, archive: &ImageMetadata) -> Result<(), ApiError> {
    let said = &archive.external_launch_options;
    let mode: LaunchMode = word("launchOptionsSource", said.launch_options_source.as_ref())?
        .unwrap_or(LaunchMode::Paravirtualized);
    let usual = preset(mode);
    let resource = &mut image.resource;
    resource.launch_mode = mode;
    resource.launch_options = LaunchOptions {
        boot_volume_type: word("bootVolumeType", said.boot_volume_type.as_ref())?
            .or(usual.boot_volume_type),
        firmware: word("firmware", said.firmware.as_ref())?.or(usual.firmware),
        is_consistent_volume_naming_enabled: said
            .consistent_volume_naming_enabled
            .or(usual.is_consistent_volume_naming_enabled),
        is_pv_encryption_in_transit_enabled: said
            .pv_encryption_in_transit_enabled
            .or(usual.is_pv_encryption_in_transit_enabled),
        network_type: word("networkType", said.network_type.as_ref())?.or(usual.network_type),
        remote_data_volume_type: word(
            "remoteDataVolumeType",
            said.remote_data_volume_type.as_ref(),
        )?
        .or(usual.remote_data_volume_type),
        ..usual
    };
    let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if is_unknown(&resource.operating_system)
        && let Some(system) = named(&archive.operating_system)
    {
        resource.operating_system = measured("operatingSystem", system)?;
        if is_unknown(&resource.operating_system_version)
            && let Some(version) = named(&archive.operating_system_version)
        {
            resource.operating_system_version = measured("operatingSystemVersion", version)?;
        }
    }
    let listed = &archive.additional_metadata.shape_compatibilities;
    let named = compatible_shapes::of_archive(listed)?;
    // An archive that names none of the shapes here is as good as one that names none.
    if !named.is_empty() {
        image.compatible_shapes = named;
    }
    image.capabilities = capabilities(archive)?;
    Ok(())
}

/// What the archive says of capabilities, if that is a part of what the region knows. `{}` says nothing.
fn capabilities(archive: &ImageMetadata) -> Result<Option<ImageCapabilities>, ApiError> {
    let said = archive.image_capability_data.clone().filter(|data| !data.capabilities.is_empty());
    let Some(data) = said else { return Ok(None) };
    let schema_version = archive.image_caps_format_version.clone();
    let capabilities = ImageCapabilities { schema_version, data };
    match born::read(&capabilities) {
        Ok(_) => Ok(Some(capabilities)),
        Err(error) => {
            let why = format!(
                "The file cannot be imported: imageCapabilityData of image_metadata.json: {}",
                error.message
            );
            Err(ApiError::new(ErrorCode::InvalidParameter, why))
        }
    }
}

/// What the archive of an image says.
pub(crate) fn of(image: &ImageRecord, schema: Option<&CapabilitySchemaRecord>) -> ImageMetadata {
    let resource = &image.resource;
    let options = &resource.launch_options;
    ImageMetadata {
        version: VERSION,
        external_launch_options: ExternalLaunchOptions {
            firmware: text(options.firmware.as_ref()),
            network_type: text(options.network_type.as_ref()),
            boot_volume_type: text(options.boot_volume_type.as_ref()),
            remote_data_volume_type: text(options.remote_data_volume_type.as_ref()),
            // A region without local disks: as the others, which every guest of the image can use.
            local_data_volume_type: text(options.remote_data_volume_type.as_ref()),
            launch_options_source: text(Some(&resource.launch_mode)),
            pv_attachment_version: (options.boot_volume_type == Some(VolumeType::Paravirtualized))
                .then_some(ATTACHMENT_VERSION),
            pv_encryption_in_transit_enabled: options.is_pv_encryption_in_transit_enabled,
            consistent_volume_naming_enabled: options.is_consistent_volume_naming_enabled,
        },
        image_capability_data: schema.map(|schema| born::to_archive(&schema.resource.schema_data)),
        image_caps_format_version: schema.map(|schema| {
            schema.resource.compute_global_image_capability_schema_version_name.clone()
        }),
        operating_system: Some(resource.operating_system.clone()),
        operating_system_version: Some(resource.operating_system_version.clone()),
        additional_metadata: AdditionalMetadata {
            source_public_image_id: resource.base_image_id.as_ref().map(ToString::to_string),
            shape_compatibilities: compatible_shapes::for_archive(image.shapes()),
        },
    }
}

/// A word of the wire's, which the archive has as well.
fn word<T: DeserializeOwned>(field: &str, said: Option<&String>) -> Result<Option<T>, ApiError> {
    let Some(said) = said else { return Ok(None) };
    let known = serde_json::from_value(Value::String(said.clone()));
    known.map(Some).map_err(|_| {
        let why = format!(
            "The file cannot be imported: field externalLaunchOptions.{field} of \
             image_metadata.json is {said:?}, which is not known here"
        );
        ApiError::new(ErrorCode::InvalidParameter, why)
    })
}

fn text<T: Serialize>(word: Option<&T>) -> Option<String> {
    let text = serde_json::to_value(word?).ok()?;
    text.as_str().map(ToOwned::to_owned)
}
