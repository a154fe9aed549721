//! Which shapes an image can be launched with, and how large its instances may be then.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;

/// A shape that an image is compatible with. The model of lists is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageShapeCompatibilityEntry {
    pub image_id: Ocid,
    pub memory_constraints: Option<ImageMemoryConstraints>,
    pub ocpu_constraints: Option<ImageOcpuConstraints>,
    pub shape: String,
}

/// Body of AddImageShapeCompatibilityEntry, which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddImageShapeCompatibilityEntryDetails {
    pub memory_constraints: Option<ImageMemoryConstraints>,
    pub ocpu_constraints: Option<ImageOcpuConstraints>,
}

/// How much memory instances may have, in GiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageMemoryConstraints {
    #[serde(rename = "maxInGBs")]
    pub max_in_gbs: Option<u64>,
    #[serde(rename = "minInGBs")]
    pub min_in_gbs: Option<u64>,
}

/// How many OCPUs instances may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageOcpuConstraints {
    pub max: Option<u64>,
    pub min: Option<u64>,
}
