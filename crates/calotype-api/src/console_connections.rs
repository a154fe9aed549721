//! Instance console connections: who may reach an instance's serial console and screen over SSH.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::wire_enum::wire_enum;

/// A way to an instance's console for the holder of one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceConsoleConnection {
    pub id: Ocid,
    pub compartment_id: Ocid,
    /// The command that opens the serial console.
    pub connection_string: String,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    /// Of the key that may connect.
    pub fingerprint: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub instance_id: Ocid,
    pub lifecycle_state: ConsoleConnectionState,
    /// Of the key that the service shows itself with.
    pub service_host_key_fingerprint: String,
    /// The command that makes the screen reachable at port 5900 of the caller's machine.
    pub vnc_connection_string: String,
}

/// Body of CreateInstanceConsoleConnection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateInstanceConsoleConnectionDetails {
    pub defined_tags: Option<DefinedTags>,
    pub freeform_tags: Option<FreeformTags>,
    pub instance_id: Ocid,
    pub public_key: String,
}

/// Body of UpdateInstanceConsoleConnection: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateInstanceConsoleConnectionDetails {
    pub defined_tags: Option<DefinedTags>,
    pub freeform_tags: Option<FreeformTags>,
}

wire_enum! {
    /// The states of a console connection.
    ConsoleConnectionState {
        Active = "ACTIVE",
        Creating = "CREATING",
        Deleted = "DELETED",
        Deleting = "DELETING",
        Failed = "FAILED",
    }
}
