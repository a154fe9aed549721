//! What images and instances are made from: bodies whose `sourceType` says which other fields they have.
//!
//! They are read through a flat form with every field optional, because the usual reading of a tagged union buffers
//! its content and then cannot say which of its fields is wrong.

use serde::{Deserialize, Serialize};

use crate::images::{ExportFormat, SourceImageType};
use crate::instances::InstanceSourceImageFilterDetails;
use crate::ocid::Ocid;

/// A source description that lacks a field, or has one that its `sourceType` does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongSource {
    /// A field that this `sourceType` needs is absent.
    #[error("must have {field} when sourceType is {source_type}")]
    Missing {
        /// The absent field.
        field: &'static str,
        /// The value of `sourceType`.
        source_type: &'static str,
    },
    /// A field is present that this `sourceType` does not have.
    #[error("must not have {field} when sourceType is {source_type}")]
    Unexpected {
        /// The field that is too much.
        field: &'static str,
        /// The value of `sourceType`.
        source_type: &'static str,
    },
}

/// What an instance boots from. The same form is asked and answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "sourceType", rename_all = "camelCase", try_from = "InstanceSourceFields")]
pub enum InstanceSourceDetails {
    /// A new boot volume made from an image.
    Image(InstanceSourceViaImageDetails),
    /// An existing boot volume.
    BootVolume(InstanceSourceViaBootVolumeDetails),
}

/// A boot volume made from an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSourceViaImageDetails {
    /// The image; absent only if a filter chooses it.
    pub image_id: Option<Ocid>,
    /// Size of the boot volume in GiB, 50 to 32,768; absent: the image's.
    #[serde(rename = "bootVolumeSizeInGBs")]
    pub boot_volume_size_in_gbs: Option<u64>,
    /// Performance units of the boot volume for each GiB.
    #[serde(rename = "bootVolumeVpusPerGB")]
    pub boot_volume_vpus_per_gb: Option<u64>,
    /// Key the boot volume is encrypted with.
    pub kms_key_id: Option<Ocid>,
    /// Chooses the newest image with these properties.
    pub instance_source_image_filter_details: Option<InstanceSourceImageFilterDetails>,
}

/// An existing boot volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSourceViaBootVolumeDetails {
    /// The boot volume.
    pub boot_volume_id: Ocid,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum InstanceSourceType {
    Image,
    BootVolume,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InstanceSourceFields {
    source_type: InstanceSourceType,
    image_id: Option<Ocid>,
    #[serde(rename = "bootVolumeSizeInGBs")]
    boot_volume_size_in_gbs: Option<u64>,
    #[serde(rename = "bootVolumeVpusPerGB")]
    boot_volume_vpus_per_gb: Option<u64>,
    kms_key_id: Option<Ocid>,
    instance_source_image_filter_details: Option<InstanceSourceImageFilterDetails>,
    boot_volume_id: Option<Ocid>,
}

impl TryFrom<InstanceSourceFields> for InstanceSourceDetails {
    type Error = WrongSource;

    fn try_from(fields: InstanceSourceFields) -> Result<Self, WrongSource> {
        match fields.source_type {
            InstanceSourceType::Image => {
                refuse("image", "bootVolumeId", fields.boot_volume_id.as_ref())?;
                Ok(Self::Image(InstanceSourceViaImageDetails {
                    image_id: fields.image_id,
                    boot_volume_size_in_gbs: fields.boot_volume_size_in_gbs,
                    boot_volume_vpus_per_gb: fields.boot_volume_vpus_per_gb,
                    kms_key_id: fields.kms_key_id,
                    instance_source_image_filter_details: fields
                        .instance_source_image_filter_details,
                }))
            }
            InstanceSourceType::BootVolume => {
                let kind = "bootVolume";
                refuse(kind, "imageId", fields.image_id.as_ref())?;
                refuse(kind, "bootVolumeSizeInGBs", fields.boot_volume_size_in_gbs.as_ref())?;
                refuse(kind, "bootVolumeVpusPerGB", fields.boot_volume_vpus_per_gb.as_ref())?;
                refuse(kind, "kmsKeyId", fields.kms_key_id.as_ref())?;
                refuse(
                    kind,
                    "instanceSourceImageFilterDetails",
                    fields.instance_source_image_filter_details.as_ref(),
                )?;
                let boot_volume_id = require(kind, "bootVolumeId", fields.boot_volume_id)?;
                Ok(Self::BootVolume(InstanceSourceViaBootVolumeDetails { boot_volume_id }))
            }
        }
    }
}

/// What an instance shall boot from instead of its boot volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "sourceType", rename_all = "camelCase", try_from = "UpdateInstanceSourceFields")]
pub enum UpdateInstanceSourceDetails {
    /// A new boot volume made from an image.
    Image(UpdateInstanceSourceViaImageDetails),
    /// An existing boot volume.
    BootVolume(UpdateInstanceSourceViaBootVolumeDetails),
}

/// A new boot volume made from an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateInstanceSourceViaImageDetails {
    /// The image.
    pub image_id: Ocid,
    /// Size of the boot volume in GiB, 50 to 32,768; absent: the image's.
    #[serde(rename = "bootVolumeSizeInGBs")]
    pub boot_volume_size_in_gbs: Option<u64>,
    /// Key the boot volume is encrypted with.
    pub kms_key_id: Option<Ocid>,
    /// Whether the boot volume that is replaced stays.
    pub is_preserve_boot_volume_enabled: Option<bool>,
}

/// An existing boot volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateInstanceSourceViaBootVolumeDetails {
    /// The boot volume.
    pub boot_volume_id: Ocid,
    /// Whether the boot volume that is replaced stays.
    pub is_preserve_boot_volume_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateInstanceSourceFields {
    source_type: InstanceSourceType,
    image_id: Option<Ocid>,
    #[serde(rename = "bootVolumeSizeInGBs")]
    boot_volume_size_in_gbs: Option<u64>,
    kms_key_id: Option<Ocid>,
    boot_volume_id: Option<Ocid>,
    is_preserve_boot_volume_enabled: Option<bool>,
}

impl TryFrom<UpdateInstanceSourceFields> for UpdateInstanceSourceDetails {
    type Error = WrongSource;

    fn try_from(fields: UpdateInstanceSourceFields) -> Result<Self, WrongSource> {
        let is_preserve_boot_volume_enabled = fields.is_preserve_boot_volume_enabled;
        match fields.source_type {
            InstanceSourceType::Image => {
                refuse("image", "bootVolumeId", fields.boot_volume_id.as_ref())?;
                Ok(Self::Image(UpdateInstanceSourceViaImageDetails {
                    image_id: require("image", "imageId", fields.image_id)?,
                    boot_volume_size_in_gbs: fields.boot_volume_size_in_gbs,
                    kms_key_id: fields.kms_key_id,
                    is_preserve_boot_volume_enabled,
                }))
            }
            InstanceSourceType::BootVolume => {
                let kind = "bootVolume";
                refuse(kind, "imageId", fields.image_id.as_ref())?;
                refuse(kind, "bootVolumeSizeInGBs", fields.boot_volume_size_in_gbs.as_ref())?;
                refuse(kind, "kmsKeyId", fields.kms_key_id.as_ref())?;
                Ok(Self::BootVolume(UpdateInstanceSourceViaBootVolumeDetails {
                    boot_volume_id: require(kind, "bootVolumeId", fields.boot_volume_id)?,
                    is_preserve_boot_volume_enabled,
                }))
            }
        }
    }
}

/// The file that an image is imported from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ImageSourceFields", rename_all = "camelCase")]
pub struct ImageSourceDetails {
    /// Operating system to record, instead of what the image says.
    pub operating_system: Option<String>,
    /// Its version.
    pub operating_system_version: Option<String>,
    /// Format of the file; absent: an image in the service's own format.
    pub source_image_type: Option<SourceImageType>,
    /// Where the file is.
    #[serde(flatten)]
    pub location: ImageSourceLocation,
}

/// Where a file to import is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "sourceType", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ImageSourceLocation {
    /// An object named by its place.
    ObjectStorageTuple {
        /// Object storage namespace.
        namespace_name: String,
        /// Bucket.
        bucket_name: String,
        /// Object.
        object_name: String,
    },
    /// An object named by its address.
    ObjectStorageUri {
        /// Address of the object.
        source_uri: String,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ImageSourceType {
    ObjectStorageTuple,
    ObjectStorageUri,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImageSourceFields {
    source_type: ImageSourceType,
    operating_system: Option<String>,
    operating_system_version: Option<String>,
    source_image_type: Option<SourceImageType>,
    namespace_name: Option<String>,
    bucket_name: Option<String>,
    object_name: Option<String>,
    source_uri: Option<String>,
}

impl TryFrom<ImageSourceFields> for ImageSourceDetails {
    type Error = WrongSource;

    fn try_from(fields: ImageSourceFields) -> Result<Self, WrongSource> {
        let location = match fields.source_type {
            ImageSourceType::ObjectStorageTuple => {
                let kind = "objectStorageTuple";
                refuse(kind, "sourceUri", fields.source_uri.as_ref())?;
                ImageSourceLocation::ObjectStorageTuple {
                    namespace_name: require(kind, "namespaceName", fields.namespace_name)?,
                    bucket_name: require(kind, "bucketName", fields.bucket_name)?,
                    object_name: require(kind, "objectName", fields.object_name)?,
                }
            }
            ImageSourceType::ObjectStorageUri => {
                let kind = "objectStorageUri";
                refuse(kind, "namespaceName", fields.namespace_name.as_ref())?;
                refuse(kind, "bucketName", fields.bucket_name.as_ref())?;
                refuse(kind, "objectName", fields.object_name.as_ref())?;
                ImageSourceLocation::ObjectStorageUri {
                    source_uri: require(kind, "sourceUri", fields.source_uri)?,
                }
            }
        };
        Ok(Self {
            operating_system: fields.operating_system,
            operating_system_version: fields.operating_system_version,
            source_image_type: fields.source_image_type,
            location,
        })
    }
}

/// Body of ExportImage: where the file goes, and in which format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ExportImageFields", rename_all = "camelCase")]
pub struct ExportImageDetails {
    /// Format of the file; absent: the service's own.
    pub export_format: Option<ExportFormat>,
    /// Where the file goes.
    #[serde(flatten)]
    pub destination: ExportDestination,
}

/// Where an exported file goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "destinationType", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ExportDestination {
    /// An object named by its place.
    ObjectStorageTuple {
        /// Object storage namespace.
        namespace_name: String,
        /// Bucket.
        bucket_name: String,
        /// Object.
        object_name: String,
    },
    /// An object named by its address.
    ObjectStorageUri {
        /// Address of the object.
        destination_uri: String,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ExportDestinationType {
    ObjectStorageTuple,
    ObjectStorageUri,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExportImageFields {
    destination_type: ExportDestinationType,
    export_format: Option<ExportFormat>,
    namespace_name: Option<String>,
    bucket_name: Option<String>,
    object_name: Option<String>,
    destination_uri: Option<String>,
}

impl TryFrom<ExportImageFields> for ExportImageDetails {
    type Error = WrongSource;

    fn try_from(fields: ExportImageFields) -> Result<Self, WrongSource> {
        let destination = match fields.destination_type {
            ExportDestinationType::ObjectStorageTuple => {
                let kind = "objectStorageTuple";
                refuse(kind, "destinationUri", fields.destination_uri.as_ref())?;
                ExportDestination::ObjectStorageTuple {
                    namespace_name: require(kind, "namespaceName", fields.namespace_name)?,
                    bucket_name: require(kind, "bucketName", fields.bucket_name)?,
                    object_name: require(kind, "objectName", fields.object_name)?,
                }
            }
            ExportDestinationType::ObjectStorageUri => {
                let kind = "objectStorageUri";
                refuse(kind, "namespaceName", fields.namespace_name.as_ref())?;
                refuse(kind, "bucketName", fields.bucket_name.as_ref())?;
                refuse(kind, "objectName", fields.object_name.as_ref())?;
                ExportDestination::ObjectStorageUri {
                    destination_uri: require(kind, "destinationUri", fields.destination_uri)?,
                }
            }
        };
        Ok(Self { export_format: fields.export_format, destination })
    }
}

fn require<T>(
    source_type: &'static str,
    field: &'static str,
    value: Option<T>,
) -> Result<T, WrongSource> {
    value.ok_or(WrongSource::Missing { field, source_type })
}

fn refuse<T>(
    source_type: &'static str,
    field: &'static str,
    value: Option<&T>,
) -> Result<(), WrongSource> {
    match value {
        Some(_) => Err(WrongSource::Unexpected { field, source_type }),
        None => Ok(()),
    }
}
