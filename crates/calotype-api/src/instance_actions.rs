//! What is done with instances besides launching and updating them.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// Optional body of InstanceAction. Which fields it may have depends on `actionType`; all of them are here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstancePowerActionDetails {
    pub action_type: PowerActionType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_dense_reboot_migration: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_local_storage: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_scheduled: Option<Time>,
}

wire_enum! {
    /// The actions that have details.
    PowerActionType {
        Reset = "reset",
        SoftReset = "softreset",
        RebootMigrate = "rebootMigrate",
    }
}

/// Body of ChangeInstanceCompartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeInstanceCompartmentDetails {
    pub compartment_id: Ocid,
}

/// A name under which a volume can be attached, and whether none is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    pub is_available: bool,
    pub name: String,
}
