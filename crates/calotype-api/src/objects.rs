//! Objects: their lists, uploads in parts, copies and new names.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// A page of a bucket's objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListObjects {
    /// Name of the first object of the next page; none on the last.
    pub next_start_with: Option<String>,
    pub objects: Vec<ObjectSummary>,
    /// What names begin with that have the delimiter behind the prefix asked for.
    pub prefixes: Option<Vec<String>>,
}

/// An object in a list: its name, and of the rest what was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectSummary {
    pub archival_state: Option<ArchivalState>,
    pub etag: Option<String>,
    pub md5: Option<String>,
    pub name: String,
    /// Bytes.
    pub size: Option<u64>,
    pub storage_tier: Option<StorageTier>,
    pub time_created: Option<Time>,
    pub time_modified: Option<Time>,
}

/// Body of CopyObject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CopyObjectDetails {
    pub destination_bucket: String,
    pub destination_namespace: String,
    #[serde(rename = "destinationObjectIfMatchETag")]
    pub destination_object_if_match: Option<String>,
    #[serde(rename = "destinationObjectIfNoneMatchETag")]
    pub destination_object_if_none_match: Option<String>,
    pub destination_object_metadata: Option<BTreeMap<String, String>>,
    pub destination_object_name: String,
    pub destination_object_storage_tier: Option<StorageTier>,
    pub destination_region: String,
    #[serde(rename = "sourceObjectIfMatchETag")]
    pub source_object_if_match: Option<String>,
    pub source_object_name: String,
    pub source_version_id: Option<String>,
}

/// Body of RenameObject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenameObjectDetails {
    pub new_name: String,
    #[serde(rename = "newObjIfMatchETag")]
    pub new_if_match: Option<String>,
    #[serde(rename = "newObjIfNoneMatchETag")]
    pub new_if_none_match: Option<String>,
    pub source_name: String,
    #[serde(rename = "srcObjIfMatchETag")]
    pub source_if_match: Option<String>,
}

/// Body of CreateMultipartUpload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateMultipartUploadDetails {
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub content_type: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub object: String,
    pub storage_tier: Option<StorageTier>,
}

/// An upload in parts that was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MultipartUpload {
    pub bucket: String,
    pub namespace: String,
    pub object: String,
    pub storage_tier: Option<StorageTier>,
    pub time_created: Time,
    pub upload_id: String,
}

/// A part that was uploaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MultipartUploadPartSummary {
    pub etag: String,
    pub md5: String,
    pub part_number: u32,
    /// Bytes.
    pub size: u64,
}

/// Body of CommitMultipartUpload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitMultipartUploadDetails {
    pub parts_to_commit: Vec<CommitMultipartUploadPartDetails>,
    pub parts_to_exclude: Option<Vec<u32>>,
}

/// A part that the object shall have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitMultipartUploadPartDetails {
    pub etag: String,
    pub part_num: u32,
}

/// How a copy goes; object storage has work requests of its own form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRequest {
    pub compartment_id: Option<Ocid>,
    pub id: Option<String>,
    pub operation_type: Option<WorkRequestOperation>,
    pub percent_complete: Option<f64>,
    pub resources: Option<Vec<WorkRequestResource>>,
    pub status: Option<WorkRequestStatus>,
    pub time_accepted: Option<Time>,
    pub time_finished: Option<Time>,
    pub time_started: Option<Time>,
}

/// An object that a copy reads or writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRequestResource {
    pub action_type: Option<WorkRequestAction>,
    pub entity_type: Option<String>,
    pub entity_uri: Option<String>,
    pub identifier: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
}

wire_enum! {
    /// Where an object is kept.
    StorageTier {
        Standard = "Standard",
        InfrequentAccess = "InfrequentAccess",
        Archive = "Archive",
    }
}

wire_enum! {
    /// Whether an object of the archive can be read.
    ArchivalState {
        Archived = "Archived",
        Restoring = "Restoring",
        Restored = "Restored",
    }
}

wire_enum! {
    /// What a work request of object storage does.
    WorkRequestOperation {
        CopyObject = "COPY_OBJECT",
        Reencrypt = "REENCRYPT",
        PrivateEndpointCreate = "PRIVATE_ENDPOINT_CREATE",
        PrivateEndpointUpdate = "PRIVATE_ENDPOINT_UPDATE",
        PrivateEndpointDelete = "PRIVATE_ENDPOINT_DELETE",
    }
}

wire_enum! {
    /// The states of a work request of object storage.
    WorkRequestStatus {
        Accepted = "ACCEPTED",
        InProgress = "IN_PROGRESS",
        Failed = "FAILED",
        Completed = "COMPLETED",
        Canceling = "CANCELING",
        Canceled = "CANCELED",
    }
}

wire_enum! {
    /// What a work request of object storage does to an object.
    WorkRequestAction {
        Created = "CREATED",
        Updated = "UPDATED",
        Deleted = "DELETED",
        Related = "RELATED",
        InProgress = "IN_PROGRESS",
        Read = "READ",
        Written = "WRITTEN",
    }
}
