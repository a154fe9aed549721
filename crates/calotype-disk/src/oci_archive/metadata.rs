//! `image_metadata.json`: what an `.oci` archive says of its disk.
//!
//! Oracle does not document the file; the fields are those of real exports. Words such as
//! `PARAVIRTUALIZED` stay text here: which of them a region knows is for the region to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::ARCHIVE_METADATA_BYTES_MAX;
use crate::{Error, ErrorKind, Result};

/// The only version that has been seen.
const VERSION: u32 = 2;

/// The whole file. Unknown fields are passed over; what is optional is `null` or missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageMetadata {
    /// Always 2.
    pub version: u32,
    /// The devices that a guest of the image expects.
    pub external_launch_options: ExternalLaunchOptions,
    /// What the image's capability schema allows. A JSON text inside a JSON string in what is
    /// written; an object in its place is read too, as older tools wrote it.
    #[serde(default, with = "json_in_text")]
    pub image_capability_data: Option<ImageCapabilityData>,
    /// The name of the version of the global schema that the capabilities were made for.
    #[serde(default)]
    pub image_caps_format_version: Option<String>,
    /// As `Oracle Linux`.
    #[serde(default)]
    pub operating_system: Option<String>,
    /// As `8`.
    #[serde(default)]
    pub operating_system_version: Option<String>,
    /// Where the image comes from and where it runs.
    #[serde(default)]
    pub additional_metadata: AdditionalMetadata,
}

/// The launch options, by the names that the archive has for them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalLaunchOptions {
    /// `BIOS` or `UEFI_64`.
    pub firmware: Option<String>,
    /// As `PARAVIRTUALIZED`, `VFIO`, `E1000`.
    pub network_type: Option<String>,
    /// As `PARAVIRTUALIZED`, `ISCSI`.
    pub boot_volume_type: Option<String>,
    /// As `PARAVIRTUALIZED`, `ISCSI`.
    pub remote_data_volume_type: Option<String>,
    /// As `PARAVIRTUALIZED`, `ISCSI`.
    pub local_data_volume_type: Option<String>,
    /// The launch mode: `PARAVIRTUALIZED`, `NATIVE`, `CUSTOM` and so on.
    pub launch_options_source: Option<String>,
    /// 1 or 2.
    pub pv_attachment_version: Option<u32>,
    /// Whether the attachment of the boot volume is encrypted.
    pub pv_encryption_in_transit_enabled: Option<bool>,
    /// Whether volumes have stable device paths.
    pub consistent_volume_naming_enabled: Option<bool>,
}

/// What a capability schema holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageCapabilityData {
    /// By element, as `Compute.Firmware`.
    pub capabilities: BTreeMap<String, Capability>,
}

/// One element of a capability schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capability {
    /// `enumstring`, `enuminteger` or `boolean`.
    pub descriptor_type: String,
    /// What is allowed; a `boolean` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
    /// What a launch gets that asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_value: Option<Value>,
}

/// Where an image comes from and where it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdditionalMetadata {
    /// The platform image that it was made of.
    pub source_public_image_id: Option<String>,
    /// The shapes that it may be launched with.
    pub shape_compatibilities: Vec<ShapeCompatibility>,
}

/// A shape that an image may be launched with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShapeCompatibility {
    /// For a virtual machine the public name; bare metal has names of its own.
    pub internal_shape_name: String,
    /// How many processors, for a flexible shape.
    #[serde(default)]
    pub ocpu_constraints: Option<OcpuConstraints>,
    /// How much memory, for a flexible shape.
    #[serde(default)]
    pub memory_constraints: Option<MemoryConstraints>,
}

/// How many processors (OCPUs) an image may be launched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OcpuConstraints {
    /// At least.
    pub min: Option<u32>,
    /// At most.
    pub max: Option<u32>,
}

/// How much memory an image may be launched with, in GB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryConstraints {
    /// At least.
    #[serde(rename = "minInGBs", alias = "min")]
    pub min_in_gbs: Option<u32>,
    /// At most.
    #[serde(rename = "maxInGBs", alias = "max")]
    pub max_in_gbs: Option<u32>,
}

impl ImageMetadata {
    /// Reads the file; [`ErrorKind::InvalidFormat`] names the field that is wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > ARCHIVE_METADATA_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::OutOfBounds,
                format!(
                    "image_metadata.json of {} bytes, over {ARCHIVE_METADATA_BYTES_MAX}",
                    bytes.len()
                ),
            ));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let metadata: Self =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
                malformed(format!("field {} of image_metadata.json", error.path()))
                    .with_source(error.into_inner())
            })?;
        deserializer
            .end()
            .map_err(|error| malformed("the end of image_metadata.json").with_source(error))?;
        if metadata.version != VERSION {
            return Err(malformed(format!(
                "field version of image_metadata.json is {}, not {VERSION}",
                metadata.version
            )));
        }
        Ok(metadata)
    }

    /// The file, as real exports have it.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| malformed("writing image_metadata.json").with_source(error))
    }
}

fn malformed(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidFormat, context)
}

/// JSON inside a JSON string.
mod json_in_text {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ImageCapabilityData;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Object(ImageCapabilityData),
    }

    #[expect(clippy::ref_option, reason = "serde's derive passes the field by reference")]
    pub(super) fn serialize<S: Serializer>(
        data: &Option<ImageCapabilityData>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text =
            data.as_ref().map(serde_json::to_string).transpose().map_err(S::Error::custom)?;
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ImageCapabilityData>, D::Error> {
        match Option::deserialize(deserializer)? {
            None => Ok(None),
            Some(Written::Object(data)) => Ok(Some(data)),
            Some(Written::Text(text)) => {
                serde_json::from_str(&text).map(Some).map_err(D::Error::custom)
            }
        }
    }
}
