//! The catalog of what partners publish: listings, their versions, the agreements to them, and who has agreed.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// Something that is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppCatalogListing {
    pub contact_url: Option<String>,
    pub description: Option<String>,
    pub display_name: String,
    pub listing_id: Ocid,
    pub publisher_logo_url: Option<String>,
    pub publisher_name: String,
    pub summary: Option<String>,
    pub time_published: Time,
}

/// Something that is published, in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppCatalogListingSummary {
    pub display_name: String,
    pub listing_id: Ocid,
    pub publisher_name: String,
    pub summary: Option<String>,
}

/// A version of a listing: an image, and what may be done with its instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppCatalogListingResourceVersion {
    pub accessible_ports: Vec<u16>,
    pub allowed_actions: Vec<AllowedAction>,
    pub available_regions: Vec<String>,
    pub compatible_shapes: Vec<String>,
    pub listing_id: Ocid,
    pub listing_resource_id: Ocid,
    pub listing_resource_version: String,
    pub time_published: Time,
}

/// A version of a listing, in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppCatalogListingResourceVersionSummary {
    pub listing_id: Ocid,
    pub listing_resource_id: Ocid,
    pub listing_resource_version: String,
    pub time_published: Time,
}

/// What must be agreed to, with a signature that shows that it was retrieved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppCatalogListingResourceVersionAgreements {
    pub eula_link: Option<String>,
    pub listing_id: Ocid,
    pub listing_resource_version: String,
    pub oracle_terms_of_use_link: String,
    pub signature: String,
    pub time_retrieved: Time,
}

/// Body of CreateAppCatalogSubscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateAppCatalogSubscriptionDetails {
    pub compartment_id: Ocid,
    pub eula_link: Option<String>,
    pub listing_id: Ocid,
    pub listing_resource_version: String,
    pub oracle_terms_of_use_link: String,
    pub signature: String,
    pub time_retrieved: Time,
}

/// That a compartment has agreed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppCatalogSubscription {
    pub compartment_id: Ocid,
    pub display_name: String,
    pub listing_id: Ocid,
    pub listing_resource_id: Ocid,
    pub listing_resource_version: String,
    pub publisher_name: String,
    pub summary: Option<String>,
    pub time_created: Time,
}

pub type AppCatalogSubscriptionSummary = AppCatalogSubscription;

wire_enum! {
    /// What a publisher allows with instances of an image.
    AllowedAction {
        Snapshot = "SNAPSHOT",
        BootVolumeDetach = "BOOT_VOLUME_DETACH",
        PreserveBootVolume = "PRESERVE_BOOT_VOLUME",
        SerialConsoleAccess = "SERIAL_CONSOLE_ACCESS",
        BootRecovery = "BOOT_RECOVERY",
        BackupBootVolume = "BACKUP_BOOT_VOLUME",
        CaptureConsoleHistory = "CAPTURE_CONSOLE_HISTORY",
    }
}
