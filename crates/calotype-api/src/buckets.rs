//! Buckets: where objects lie, and the namespace that their names are unique in.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// Only if asked for.
    pub approximate_count: Option<u64>,
    /// Bytes, only if asked for.
    pub approximate_size: Option<u64>,
    pub auto_tiering: Option<AutoTiering>,
    pub bucket_scope: Option<BucketScope>,
    pub compartment_id: Ocid,
    pub created_by: String,
    pub defined_tags: Option<DefinedTags>,
    pub etag: String,
    pub freeform_tags: Option<FreeformTags>,
    pub id: Option<Ocid>,
    pub is_bucket_key_enabled: Option<bool>,
    pub is_read_only: Option<bool>,
    pub kms_key_id: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub name: String,
    pub namespace: String,
    pub object_events_enabled: Option<bool>,
    pub object_lifecycle_policy_etag: Option<String>,
    pub public_access_type: Option<PublicAccessType>,
    pub replication_enabled: Option<bool>,
    pub storage_tier: Option<BucketStorageTier>,
    pub time_created: Time,
    pub versioning: Option<Versioning>,
}

/// A bucket in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketSummary {
    pub bucket_scope: Option<String>,
    pub compartment_id: Ocid,
    pub created_by: String,
    pub defined_tags: Option<DefinedTags>,
    pub etag: String,
    pub freeform_tags: Option<FreeformTags>,
    pub name: String,
    pub namespace: String,
    pub time_created: Time,
}

/// Body of CreateBucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateBucketDetails {
    pub auto_tiering: Option<String>,
    pub bucket_scope: Option<String>,
    pub compartment_id: Ocid,
    pub defined_tags: Option<DefinedTags>,
    pub freeform_tags: Option<FreeformTags>,
    pub is_bucket_key_enabled: Option<bool>,
    pub kms_key_id: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub name: String,
    pub object_events_enabled: Option<bool>,
    pub public_access_type: Option<PublicAccessType>,
    pub storage_tier: Option<BucketStorageTier>,
    pub versioning: Option<Versioning>,
}

/// Body of UpdateBucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateBucketDetails {
    pub auto_tiering: Option<String>,
    pub bucket_scope: Option<String>,
    pub compartment_id: Option<Ocid>,
    pub defined_tags: Option<DefinedTags>,
    pub freeform_tags: Option<FreeformTags>,
    pub is_bucket_key_enabled: Option<bool>,
    pub kms_key_id: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub object_events_enabled: Option<bool>,
    pub public_access_type: Option<PublicAccessType>,
    pub versioning: Option<Versioning>,
}

/// Where buckets of other protocols would lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceMetadata {
    #[serde(rename = "defaultS3CompartmentId")]
    pub default_s3_compartment_id: Ocid,
    pub default_swift_compartment_id: Ocid,
    pub namespace: String,
}

wire_enum! {
    /// Whether objects move between tiers by themselves.
    AutoTiering {
        Disabled = "Disabled",
        InfrequentAccess = "InfrequentAccess",
    }
}

wire_enum! {
    /// Within what a bucket's name is unique.
    BucketScope {
        Namespace = "NAMESPACE",
        Region = "REGION",
    }
}

wire_enum! {
    /// What may be done without a signature.
    PublicAccessType {
        NoPublicAccess = "NoPublicAccess",
        ObjectRead = "ObjectRead",
        ObjectReadWithoutList = "ObjectReadWithoutList",
    }
}

wire_enum! {
    /// The tier of new objects of a bucket.
    BucketStorageTier {
        Standard = "Standard",
        Archive = "Archive",
    }
}

wire_enum! {
    /// Whether objects that are replaced are kept.
    Versioning {
        Enabled = "Enabled",
        Suspended = "Suspended",
        Disabled = "Disabled",
    }
}
