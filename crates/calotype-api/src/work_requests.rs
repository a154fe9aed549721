//! Work requests: the progress and outcome of what takes long.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// A work request. `timeFinished` is set exactly when the status is final.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRequest {
    pub id: Ocid,
    pub compartment_id: Ocid,
    pub operation_type: String,
    pub percent_complete: f64,
    pub resources: Vec<WorkRequestResource>,
    pub status: WorkRequestStatus,
    pub time_accepted: Time,
    pub time_finished: Option<Time>,
    pub time_started: Option<Time>,
}

/// A work request without its resources, as lists have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRequestSummary {
    pub id: Ocid,
    pub compartment_id: Ocid,
    pub operation_type: String,
    pub percent_complete: f64,
    pub status: WorkRequestStatus,
    pub time_accepted: Time,
    pub time_finished: Option<Time>,
    pub time_started: Option<Time>,
}

/// A resource that a work request concerns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRequestResource {
    pub action_type: ActionType,
    /// Camel case: `image`, `instance`.
    pub entity_type: String,
    /// Path of the resource: `/20160918/images/<id>`.
    pub entity_uri: Option<String>,
    pub identifier: Ocid,
}

/// Why a work request failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRequestError {
    pub code: String,
    pub message: String,
    pub timestamp: Time,
}

/// A line of a work request's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRequestLogEntry {
    pub message: String,
    pub timestamp: Time,
}

wire_enum! {
    /// The states of a work request.
    WorkRequestStatus {
        Accepted = "ACCEPTED",
        InProgress = "IN_PROGRESS",
        Failed = "FAILED",
        Succeeded = "SUCCEEDED",
        Canceling = "CANCELING",
        Canceled = "CANCELED",
    }
}

wire_enum! {
    /// What a work request does to a resource.
    ActionType {
        Created = "CREATED",
        Updated = "UPDATED",
        Deleted = "DELETED",
        Related = "RELATED",
        InProgress = "IN_PROGRESS",
    }
}

impl WorkRequestStatus {
    /// Whether the work is over, one way or another.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Succeeded | Self::Canceled)
    }
}
