//! Capability schemas: what images allow their instances, within what the region allows all images.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::text::DisplayName;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// What a schema says of each element, as `Compute.Firmware`.
pub type SchemaData = BTreeMap<String, ImageCapabilitySchemaDescriptor>;

/// What a schema says of one element. A default that was not given stays away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "descriptorType", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ImageCapabilitySchemaDescriptor {
    /// Yes or no; both are allowed.
    #[serde(rename = "boolean")]
    Boolean {
        source: CapabilitySource,
        #[serde(skip_serializing_if = "Option::is_none")]
        default_value: Option<bool>,
    },
    /// One of some numbers.
    #[serde(rename = "enuminteger")]
    EnumInteger {
        source: CapabilitySource,
        #[serde(skip_serializing_if = "Option::is_none")]
        default_value: Option<i64>,
        values: Vec<i64>,
    },
    /// One of some words.
    #[serde(rename = "enumstring")]
    EnumString {
        source: CapabilitySource,
        #[serde(skip_serializing_if = "Option::is_none")]
        default_value: Option<String>,
        values: Vec<String>,
    },
}

impl ImageCapabilitySchemaDescriptor {
    /// Who says so.
    pub fn source(&self) -> CapabilitySource {
        match self {
            Self::Boolean { source, .. }
            | Self::EnumInteger { source, .. }
            | Self::EnumString { source, .. } => *source,
        }
    }

    /// The word of its type on the wire.
    pub fn descriptor_type(&self) -> &'static str {
        match self {
            Self::Boolean { .. } => "boolean",
            Self::EnumInteger { .. } => "enuminteger",
            Self::EnumString { .. } => "enumstring",
        }
    }
}

/// The region's schema: what any image can be allowed. In lists it looks the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeGlobalImageCapabilitySchema {
    pub compartment_id: Option<Ocid>,
    pub current_version_name: Option<String>,
    pub defined_tags: DefinedTags,
    pub display_name: String,
    pub freeform_tags: FreeformTags,
    pub id: Ocid,
    pub time_created: Time,
}

/// A version of the region's schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeGlobalImageCapabilitySchemaVersion {
    pub compute_global_image_capability_schema_id: Ocid,
    pub display_name: String,
    pub name: String,
    pub schema_data: SchemaData,
    pub time_created: Time,
}

/// A version of the region's schema, in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeGlobalImageCapabilitySchemaVersionSummary {
    pub compute_global_image_capability_schema_id: Ocid,
    pub display_name: Option<String>,
    pub name: String,
    pub time_created: Time,
}

/// The schema of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeImageCapabilitySchema {
    pub compartment_id: Option<Ocid>,
    pub compute_global_image_capability_schema_id: Ocid,
    pub compute_global_image_capability_schema_version_name: String,
    pub defined_tags: DefinedTags,
    pub display_name: String,
    pub freeform_tags: FreeformTags,
    pub id: Ocid,
    pub image_id: Ocid,
    pub lifecycle_state: Option<CapabilitySchemaState>,
    pub schema_data: SchemaData,
    pub time_created: Time,
}

/// The schema of an image, in a list. Packer needs `schemaData` in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComputeImageCapabilitySchemaSummary {
    pub compartment_id: Option<Ocid>,
    pub compute_global_image_capability_schema_version_name: String,
    pub defined_tags: DefinedTags,
    pub display_name: String,
    pub freeform_tags: FreeformTags,
    pub id: Ocid,
    pub image_id: Ocid,
    pub schema_data: Option<SchemaData>,
    pub time_created: Time,
}

/// Body of CreateComputeImageCapabilitySchema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateComputeImageCapabilitySchemaDetails {
    pub compartment_id: Ocid,
    pub compute_global_image_capability_schema_version_name: String,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub image_id: Ocid,
    pub schema_data: SchemaData,
}

/// Body of UpdateComputeImageCapabilitySchema: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateComputeImageCapabilitySchemaDetails {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub schema_data: Option<SchemaData>,
}

/// Body of ChangeComputeImageCapabilitySchemaCompartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeComputeImageCapabilitySchemaCompartmentDetails {
    pub compartment_id: Ocid,
}

wire_enum! {
    /// Who says what an element allows: the region, or the image in its place.
    CapabilitySource {
        Global = "GLOBAL",
        Image = "IMAGE",
    }
}

wire_enum! {
    /// The states of an image's schema.
    CapabilitySchemaState {
        Creating = "CREATING",
        Active = "ACTIVE",
        Deleted = "DELETED",
    }
}
