//! The schema that an image comes into the world with: of the image its instance was launched from, or of
//! the archive it was imported from.
//!
//! It waits in the image's record until the image is AVAILABLE, and is written in the same batch.

use calotype_api::capability_schemas::{
    CapabilitySchemaState, CapabilitySource, ComputeImageCapabilitySchema,
    ImageCapabilitySchemaDescriptor as Descriptor, SchemaData,
};
use calotype_api::error::ApiError;
use calotype_api::images::Firmware;
use calotype_api::ocid::Ocid;
use calotype_api::tags::{DefinedTags, FreeformTags};
use calotype_disk::oci_archive::{Capability, ImageCapabilityData};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{CapabilitySchemaRecord, created, deleted, effect, global, of_image, rules};
use crate::db::{Batch, Db, Versioned};
use crate::records::{ImageCapabilities, ImageRecord};
use crate::region::Region;

/// Elements that a launch mode decides: an image that is given one does not inherit them.
const OF_LAUNCH_MODE: &[&str] = &[
    effect::LAUNCH_MODE,
    "Network.AttachmentType",
    "Storage.BootVolumeType",
    "Storage.LocalDataVolumeType",
    "Storage.RemoteDataVolumeType",
];
const FIRMWARE: &str = "Compute.Firmware";

/// The name of a schema that was given none, as OCI makes it.
pub(super) fn default_name(now: Timestamp) -> String {
    format!("computeimgcapschema{}", now.strftime("%Y%m%d%H%M%S"))
}

/// What an image inherits of the image its instance was launched from. If a launch mode is asked for,
/// nothing that this decides. The disk boots by the firmware it ran with.
pub async fn inherited(
    db: &Db,
    base: &Ocid,
    has_launch_mode: bool,
    firmware: Option<Firmware>,
) -> Result<Option<ImageCapabilities>, ApiError> {
    let Some(schema) = of_image(db, base).await? else { return Ok(None) };
    let resource = schema.value.resource;
    let mut data = resource.schema_data;
    if has_launch_mode {
        data.retain(|element, _| !OF_LAUNCH_MODE.contains(&element.as_str()));
    }
    if let (Some(firmware), Some(Descriptor::EnumString { default_value, values, .. })) =
        (firmware, data.get_mut(FIRMWARE))
        && values.iter().any(|value| value == firmware.as_str())
    {
        *default_value = Some(firmware.as_str().to_owned());
    }
    Ok((!data.is_empty()).then(|| ImageCapabilities {
        schema_version: Some(resource.compute_global_image_capability_schema_version_name),
        data: to_archive(&data),
    }))
}

/// Deletes the schema of an image that is being deleted. The image keeps what it says, in case that it is
/// restored.
pub async fn put_away(db: &Db, image: &mut ImageRecord) -> Result<Batch, ApiError> {
    if let Some(schema) = of_image(db, &image.resource.id).await? {
        let resource = &schema.resource;
        let version = &resource.compute_global_image_capability_schema_version_name;
        image.capabilities = Some(ImageCapabilities {
            schema_version: Some(version.clone()),
            data: to_archive(&resource.schema_data),
        });
    }
    deleted(db, &image.resource.id).await
}

/// The schema of an image that becomes AVAILABLE, if it comes with one: to be written with the image,
/// which no longer holds it.
pub fn schema(region: &Region, image: &mut ImageRecord, now: Timestamp) -> Result<Batch, ApiError> {
    let Some(capabilities) = image.capabilities.take() else { return Ok(Batch::new()) };
    let (version_name, schema_data) = read(&capabilities)?;
    let resource = &image.resource;
    let schema = Versioned::first(CapabilitySchemaRecord {
        resource: ComputeImageCapabilitySchema {
            compartment_id: resource.compartment_id.clone(),
            compute_global_image_capability_schema_id: global::id(&region.config),
            compute_global_image_capability_schema_version_name: version_name,
            defined_tags: DefinedTags::new(),
            display_name: default_name(now),
            freeform_tags: FreeformTags::new(),
            id: region.new_id("computeimgcapschema"),
            image_id: resource.id.clone(),
            lifecycle_state: Some(CapabilitySchemaState::Active),
            schema_data,
            time_created: now.into(),
        },
    });
    Ok(created(&schema))
}

/// What an archive says, as a schema. One that was made for a version that is not known here must be a part
/// of the current one.
pub fn read(said: &ImageCapabilities) -> Result<(String, SchemaData), ApiError> {
    let known = said.schema_version.as_deref().and_then(global::version);
    let version = known.unwrap_or(global::current());
    let mut data = SchemaData::new();
    for (element, capability) in &said.data.capabilities {
        let descriptor = descriptor(capability).map_err(|error| {
            ApiError::invalid_parameter(&format!("schemaData.{element}:"), error)
        })?;
        data.insert(element.clone(), descriptor);
    }
    rules::check(version, &data)?;
    Ok((version.name.clone(), data))
}

/// The element as the wire has it. An archive says nothing of sources: whatever it has, the image says.
fn descriptor(said: &Capability) -> serde_json::Result<Descriptor> {
    let mut fields = Map::new();
    fields.insert("descriptorType".into(), said.descriptor_type.clone().into());
    fields.insert("source".into(), CapabilitySource::Image.as_str().into());
    if let Some(default) = &said.default_value {
        fields.insert("defaultValue".into(), default.clone());
    }
    // A boolean has none; that it says so is no mistake.
    if let Some(values) = &said.values
        && said.descriptor_type != "boolean"
    {
        fields.insert("values".into(), values.clone().into());
    }
    serde_json::from_value(Value::Object(fields))
}

/// A schema as an archive has it: only what the image says itself.
pub fn to_archive(data: &SchemaData) -> ImageCapabilityData {
    let own = data.iter().filter(|(_, said)| said.source() == CapabilitySource::Image);
    let capabilities = own.map(|(element, said)| {
        let (values, default_value) = match said.clone() {
            Descriptor::Boolean { default_value, .. } => (None, default_value.map(Value::from)),
            Descriptor::EnumInteger { values, default_value, .. } => (
                Some(values.into_iter().map(Value::from).collect()),
                default_value.map(Value::from),
            ),
            Descriptor::EnumString { values, default_value, .. } => (
                Some(values.into_iter().map(Value::from).collect()),
                default_value.map(Value::from),
            ),
        };
        let descriptor_type = said.descriptor_type().to_owned();
        (element.clone(), Capability { descriptor_type, values, default_value })
    });
    ImageCapabilityData { capabilities: capabilities.collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(version: &str, data: &Value) -> ImageCapabilities {
        ImageCapabilities {
            schema_version: Some(version.into()),
            data: serde_json::from_value(json!({ "capabilities": data })).unwrap(),
        }
    }

    #[test]
    fn what_an_archive_says_becomes_the_images_own_schema_and_goes_back_as_it_was() {
        let archive = said(
            "02b83c1f-a4db-4867-80df-d50d50f3b759",
            &json!({
                "Compute.Firmware": {
                    "descriptorType": "enumstring", "values": ["UEFI_64"], "defaultValue": "UEFI_64",
                },
                "Compute.SecureBoot": { "descriptorType": "boolean", "defaultValue": true },
                "Storage.ParaVirtualization.AttachmentVersion": {
                    "descriptorType": "enuminteger", "values": [1, 2], "defaultValue": 1,
                },
            }),
        );
        let (version, data) = read(&archive).unwrap();
        assert_eq!(Some(version), archive.schema_version);
        assert!(data.values().all(|said| said.source() == CapabilitySource::Image));
        assert_eq!(to_archive(&data), archive.data);
    }

    #[test]
    fn an_archive_of_an_unknown_version_must_keep_to_the_current_one() {
        let firmware = |word: &str| {
            said(
                "34dd2cea-aff2-4f45-b8f6-1cb5290bfab2",
                &json!({ "Compute.Firmware": { "descriptorType": "enumstring", "values": [word] } }),
            )
        };
        assert_eq!(read(&firmware("BIOS")).unwrap().0, global::current().name);
        let error = read(&firmware("OPENBOOT")).unwrap_err();
        assert!(error.message.contains("Compute.Firmware.values has OPENBOOT"), "{error}");
        let unknown = said("", &json!({ "A": { "descriptorType": "enumfloat" } }));
        assert!(read(&unknown).unwrap_err().message.contains("schemaData.A"));
    }
}
