//! Boot volumes and what they are attached to.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::text::{DisplayName, Text};
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// The disk an instance boots from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootVolume {
    pub id: Ocid,
    #[serde(rename = "autoTunedVpusPerGB")]
    pub auto_tuned_vpus_per_gb: Option<u64>,
    pub autotune_policies: Option<Vec<Value>>,
    pub availability_domain: String,
    pub boot_volume_replicas: Option<Vec<Value>>,
    pub cluster_placement_group_id: Option<Ocid>,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub image_id: Option<Ocid>,
    pub is_auto_tune_enabled: Option<bool>,
    pub is_hydrated: bool,
    pub kms_key_id: Option<Ocid>,
    pub lifecycle_state: BootVolumeState,
    #[serde(rename = "sizeInGBs")]
    pub size_in_gbs: u64,
    /// Megabytes: 1,024 for each of `sizeInGBs`.
    #[serde(rename = "sizeInMBs")]
    pub size_in_mbs: u64,
    pub source_details: Option<Value>,
    #[serde(default)]
    pub system_tags: DefinedTags,
    pub time_created: Time,
    pub volume_group_id: Option<Ocid>,
    #[serde(rename = "vpusPerGB")]
    pub vpus_per_gb: Option<u64>,
}

/// A boot volume attached to an instance; its id is the instance's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootVolumeAttachment {
    pub id: Ocid,
    pub availability_domain: String,
    pub boot_volume_id: Ocid,
    pub compartment_id: Ocid,
    pub display_name: String,
    pub encryption_in_transit_type: Option<EncryptionInTransitType>,
    pub instance_id: Ocid,
    pub is_encryption_in_transit_enabled: Option<bool>,
    pub is_pv_encryption_in_transit_enabled: Option<bool>,
    pub lifecycle_state: AttachmentState,
    pub time_created: Time,
    pub time_updated: Option<Time>,
}

/// Body of CreateBootVolume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateBootVolumeDetails {
    pub autotune_policies: Option<Vec<Value>>,
    pub availability_domain: Option<Text<1, 255>>,
    pub backup_policy_id: Option<Ocid>,
    pub boot_volume_replicas: Option<Vec<Value>>,
    pub cluster_placement_group_id: Option<Ocid>,
    pub compartment_id: Ocid,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub is_auto_tune_enabled: Option<bool>,
    pub kms_key_id: Option<Ocid>,
    #[serde(rename = "sizeInGBs")]
    pub size_in_gbs: Option<u64>,
    pub source_details: BootVolumeSourceDetails,
    #[serde(rename = "vpusPerGB")]
    pub vpus_per_gb: Option<u64>,
    pub xrc_kms_key_id: Option<Ocid>,
}

/// What a boot volume is made of: something with an id, or two backups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootVolumeSourceDetails {
    #[serde(rename = "type")]
    pub source_type: BootVolumeSourceType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Ocid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_backup_id: Option<Ocid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_backup_id: Option<Ocid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_block_size_in_bytes: Option<u64>,
}

/// Body of UpdateBootVolume: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateBootVolumeDetails {
    pub autotune_policies: Option<Vec<Value>>,
    pub boot_volume_replicas: Option<Vec<Value>>,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub is_auto_tune_enabled: Option<bool>,
    #[serde(rename = "sizeInGBs")]
    pub size_in_gbs: Option<u64>,
    #[serde(rename = "vpusPerGB")]
    pub vpus_per_gb: Option<u64>,
}

/// Body of ChangeBootVolumeCompartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeBootVolumeCompartmentDetails {
    pub compartment_id: Ocid,
}

/// Body of AttachBootVolume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttachBootVolumeDetails {
    pub boot_volume_id: Ocid,
    pub display_name: Option<DisplayName>,
    pub encryption_in_transit_type: Option<EncryptionInTransitType>,
    pub instance_id: Ocid,
}

wire_enum! {
    /// The kinds of what a boot volume is made of.
    BootVolumeSourceType {
        BootVolume = "bootVolume",
        BootVolumeBackup = "bootVolumeBackup",
        BootVolumeBackupDelta = "bootVolumeBackupDelta",
        BootVolumeReplica = "bootVolumeReplica",
    }
}

wire_enum! {
    /// The states of a boot volume.
    BootVolumeState {
        Provisioning = "PROVISIONING",
        Restoring = "RESTORING",
        Available = "AVAILABLE",
        Terminating = "TERMINATING",
        Terminated = "TERMINATED",
        Faulty = "FAULTY",
    }
}

wire_enum! {
    /// The states of an attachment, of volumes and of network cards.
    AttachmentState {
        Attaching = "ATTACHING",
        Attached = "ATTACHED",
        Detaching = "DETACHING",
        Detached = "DETACHED",
    }
}

wire_enum! {
    /// Who encrypts between host and volume.
    EncryptionInTransitType {
        None = "NONE",
        BmEncryptionInTransit = "BM_ENCRYPTION_IN_TRANSIT",
    }
}
