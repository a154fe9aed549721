//! Images: what is asked of them and what is answered.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::sources::ImageSourceDetails;
use crate::tags::{DefinedTags, FreeformTags};
use crate::text::DisplayName;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// A custom or platform image. A platform image has no compartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    pub id: Ocid,
    pub agent_features: Option<InstanceAgentFeatures>,
    pub base_image_id: Option<Ocid>,
    #[serde(rename = "billableSizeInGBs")]
    pub billable_size_in_gbs: Option<u64>,
    pub compartment_id: Option<Ocid>,
    pub create_image_allowed: bool,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub launch_mode: LaunchMode,
    pub launch_options: LaunchOptions,
    pub lifecycle_state: ImageState,
    pub listing_type: ListingType,
    pub operating_system: String,
    pub operating_system_version: String,
    #[serde(rename = "sizeInMBs")]
    pub size_in_mbs: Option<u64>,
    pub time_created: Time,
}

/// What the agent inside an image can do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceAgentFeatures {
    pub is_management_supported: Option<bool>,
    pub is_monitoring_supported: Option<bool>,
}

/// How the guest sees its devices. An image carries the options its instances inherit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchOptions {
    pub boot_volume_type: Option<VolumeType>,
    pub firmware: Option<Firmware>,
    pub is_consistent_volume_naming_enabled: Option<bool>,
    pub is_encryption_in_transit_enabled: Option<bool>,
    pub is_pv_encryption_in_transit_enabled: Option<bool>,
    pub network_type: Option<NetworkType>,
    pub remote_data_volume_type: Option<VolumeType>,
}

/// Body of CreateImage: a source instance or a file to import, exactly one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateImageDetails {
    pub compartment_id: Ocid,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub image_source_details: Option<ImageSourceDetails>,
    pub instance_id: Option<Ocid>,
    pub launch_mode: Option<LaunchMode>,
    /// Published in the API document though no SDK sends it: accepted, without effect.
    pub launch_options: Option<LaunchOptions>,
}

/// Body of UpdateImage: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateImageDetails {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub operating_system: Option<String>,
    pub operating_system_version: Option<String>,
}

/// Body of ChangeImageCompartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeImageCompartmentDetails {
    pub compartment_id: Ocid,
}

wire_enum! {
    /// The states of an image.
    ImageState {
        Provisioning = "PROVISIONING",
        Importing = "IMPORTING",
        Available = "AVAILABLE",
        Exporting = "EXPORTING",
        Disabled = "DISABLED",
        Deleted = "DELETED",
    }
}

wire_enum! {
    /// Whether an image is a community listing.
    ListingType {
        Community = "COMMUNITY",
        None = "NONE",
    }
}

wire_enum! {
    /// The preset of launch options an image boots with.
    LaunchMode {
        Native = "NATIVE",
        Emulated = "EMULATED",
        Paravirtualized = "PARAVIRTUALIZED",
        AcceleratedPv = "ACCELERATEDPV",
        Custom = "CUSTOM",
    }
}

wire_enum! {
    /// The firmware a guest boots with.
    Firmware {
        Bios = "BIOS",
        Uefi64 = "UEFI_64",
    }
}

wire_enum! {
    /// How the guest sees its network card.
    NetworkType {
        E1000 = "E1000",
        Vfio = "VFIO",
        Paravirtualized = "PARAVIRTUALIZED",
        AcceleratedPv = "ACCELERATEDPV",
    }
}

wire_enum! {
    /// How the guest sees a volume.
    VolumeType {
        Iscsi = "ISCSI",
        Scsi = "SCSI",
        Ide = "IDE",
        Vfio = "VFIO",
        Paravirtualized = "PARAVIRTUALIZED",
        Nvme = "NVME",
    }
}

wire_enum! {
    /// The format of a disk to import. OCI has the first two; the others are read here as well.
    SourceImageType {
        Qcow2 = "QCOW2",
        Vmdk = "VMDK",
        Vdi = "VDI",
        Vhd = "VHD",
        Vhdx = "VHDX",
        Raw = "RAW",
    }
}

wire_enum! {
    /// The format of a file to export to. OCI has those up to `VDI`: `QCOW2` is compressed, `VMDK` is
    /// `streamOptimized` and `VHD` is dynamic. The others are ours.
    ExportFormat {
        Qcow2 = "QCOW2",
        Vmdk = "VMDK",
        Oci = "OCI",
        Vhd = "VHD",
        Vdi = "VDI",
        Raw = "RAW",
        Qcow2Sparse = "QCOW2_SPARSE",
        VmdkSparse = "VMDK_SPARSE",
        VhdFixed = "VHD_FIXED",
    }
}

impl CreateImageDetails {
    /// An image of an instance's boot disk, with nothing else said.
    pub fn from_instance(compartment_id: Ocid, instance_id: Ocid) -> Self {
        Self {
            compartment_id,
            defined_tags: None,
            display_name: None,
            freeform_tags: None,
            image_source_details: None,
            instance_id: Some(instance_id),
            launch_mode: None,
            launch_options: None,
        }
    }
}
