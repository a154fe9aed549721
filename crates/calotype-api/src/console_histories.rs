//! Console histories: captures of an instance's serial console.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::text::DisplayName;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// A capture of a serial console.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsoleHistory {
    pub id: Ocid,
    pub availability_domain: String,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub instance_id: Ocid,
    pub lifecycle_state: ConsoleHistoryState,
    pub time_created: Time,
}

/// Body of CaptureConsoleHistory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaptureConsoleHistoryDetails {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub instance_id: Ocid,
}

/// Body of UpdateConsoleHistory: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateConsoleHistoryDetails {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
}

wire_enum! {
    /// The states of a console history.
    ConsoleHistoryState {
        Requested = "REQUESTED",
        GettingHistory = "GETTING-HISTORY",
        Succeeded = "SUCCEEDED",
        Failed = "FAILED",
    }
}
