//! Pre-authenticated requests: addresses that whoever has one may use until they expire.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::time::Time;
use crate::wire_enum::wire_enum;

/// A pre-authenticated request as its creation answers it, and nothing ever again: it holds the secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreauthenticatedRequest {
    pub access_type: AccessType,
    /// Path on the service's host.
    pub access_uri: String,
    pub bucket_listing_action: Option<BucketListingAction>,
    /// The same with the host.
    pub full_path: Option<String>,
    pub id: String,
    pub name: String,
    pub object_name: Option<String>,
    pub time_created: Time,
    pub time_expires: Time,
}

/// A pre-authenticated request without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreauthenticatedRequestSummary {
    pub access_type: AccessType,
    pub bucket_listing_action: Option<String>,
    pub id: String,
    pub name: String,
    pub object_name: Option<String>,
    pub time_created: Time,
    pub time_expires: Time,
}

/// Body of CreatePreauthenticatedRequest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreatePreauthenticatedRequestDetails {
    pub access_type: AccessType,
    pub bucket_listing_action: Option<String>,
    pub name: String,
    pub object_name: Option<String>,
    pub time_expires: Time,
}

wire_enum! {
    /// What a pre-authenticated request is good for.
    AccessType {
        ObjectRead = "ObjectRead",
        ObjectWrite = "ObjectWrite",
        ObjectReadWrite = "ObjectReadWrite",
        AnyObjectWrite = "AnyObjectWrite",
        AnyObjectRead = "AnyObjectRead",
        AnyObjectReadWrite = "AnyObjectReadWrite",
    }
}

wire_enum! {
    /// Whether the names of objects may be listed, too.
    BucketListingAction {
        Deny = "Deny",
        ListObjects = "ListObjects",
    }
}

impl AccessType {
    /// Whether objects may be read.
    pub const fn reads(self) -> bool {
        !matches!(self, Self::ObjectWrite | Self::AnyObjectWrite)
    }

    /// Whether objects may be written.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::ObjectRead | Self::AnyObjectRead)
    }

    /// Whether it is good for any object of a bucket.
    pub const fn is_of_any_object(self) -> bool {
        matches!(self, Self::AnyObjectRead | Self::AnyObjectWrite | Self::AnyObjectReadWrite)
    }
}
