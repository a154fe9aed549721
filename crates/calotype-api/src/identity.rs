//! Identity: the tenancy, its compartments, and the region's geography.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// The tenancy, which is also the root compartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenancy {
    pub id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub description: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub home_region_key: String,
    pub name: String,
    pub upi_idcs_compatibility_layer_endpoint: Option<String>,
}

/// A compartment. The root compartment has no parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compartment {
    pub id: Ocid,
    pub compartment_id: Option<Ocid>,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub description: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub inactive_status: Option<u64>,
    pub is_accessible: bool,
    pub lifecycle_state: CompartmentState,
    pub name: String,
    pub time_created: Time,
}

/// Body of CreateCompartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateCompartmentDetails {
    pub compartment_id: Ocid,
    pub defined_tags: Option<DefinedTags>,
    pub description: String,
    pub freeform_tags: Option<FreeformTags>,
    pub name: String,
}

/// Body of UpdateCompartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateCompartmentDetails {
    pub defined_tags: Option<DefinedTags>,
    pub description: Option<String>,
    pub freeform_tags: Option<FreeformTags>,
    pub name: Option<String>,
}

/// Body of MoveCompartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveCompartmentDetails {
    pub target_compartment_id: Ocid,
}

/// An availability domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AvailabilityDomain {
    pub id: Ocid,
    pub compartment_id: Ocid,
    pub name: String,
}

/// A fault domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultDomain {
    pub id: Ocid,
    pub availability_domain: String,
    pub compartment_id: Ocid,
    pub name: String,
}

/// A region: its short key and its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    pub key: String,
    pub name: String,
}

/// A region the tenancy can use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionSubscription {
    pub is_home_region: bool,
    pub region_key: String,
    pub region_name: String,
    pub status: RegionSubscriptionStatus,
}

wire_enum! {
    /// The states of a compartment.
    CompartmentState {
        Creating = "CREATING",
        Active = "ACTIVE",
        Inactive = "INACTIVE",
        Deleting = "DELETING",
        Deleted = "DELETED",
    }
}

wire_enum! {
    /// Whether a subscription is ready.
    RegionSubscriptionStatus {
        Ready = "READY",
        InProgress = "IN_PROGRESS",
    }
}
