//! What the catalog holds of each compute resource: the resource as clients see it, and what the
//! region must know besides.
//!
//! A record wraps the wire type, so that what a client reads is what was stored and no mapping can
//! drift. Network and identity records stand beside their rules in `app`.

use calotype_api::boot_volumes::{BootVolume, BootVolumeState};
use calotype_api::console_histories::ConsoleHistory;
use calotype_api::images::{Image, ImageState, LaunchMode, LaunchOptions};
use calotype_api::instances::{Instance, InstanceState};
use calotype_api::ocid::Ocid;
use calotype_disk::oci_archive::ImageCapabilityData;
use calotype_store::ManifestId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::app::images::compatible_shapes::CompatibleShape;
use crate::app::images::lifecycle::ImageLifecycle;
use crate::db::{Document, Query};

/// An image. Platform images have no compartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The image as clients see it.
    pub resource: Image,
    /// The disk; none until the first byte of it is committed. A root of collection.
    pub manifest: Option<ManifestId>,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// The shapes that instances of it may have by default, which images made of them inherit.
    pub compatible_shapes: Vec<CompatibleShape>,
    /// The shapes that somebody has chosen instead.
    #[serde(default)]
    pub chosen_shapes: Option<Vec<CompatibleShape>>,
    /// What its capability schema will say, until it is AVAILABLE and has one.
    #[serde(default)]
    pub capabilities: Option<ImageCapabilities>,
    /// What its keepers want of it.
    #[serde(default)]
    pub lifecycle: ImageLifecycle,
}

/// What an image allows its instances, as `.oci` archives say it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageCapabilities {
    /// The version of the global schema that it was written for.
    pub schema_version: Option<String>,
    /// What is allowed, by element.
    pub data: ImageCapabilityData,
}

impl Document for ImageRecord {
    const KIND: &'static str = "image";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn compartment_id(&self) -> Option<String> {
        self.resource.compartment_id.as_ref().map(ToString::to_string)
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.as_str().to_owned())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// The compartment under which the catalog lists images that belong to none.
pub const PLATFORM_IMAGES: &str = "";

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// The instance as clients see it.
    pub resource: Instance,
    /// Its boot volume.
    pub boot_volume_id: Ocid,
    /// Its primary VNIC.
    pub vnic_id: Ocid,
    /// Its other VNICs, in the order of the guest's cards.
    #[serde(default)]
    pub secondary_vnic_ids: Vec<Ocid>,
    /// Name of its directory below the region's `instances`.
    pub directory: String,
    /// SMBIOS system UUID: new for each instance, so that first-boot code runs in each.
    pub system_uuid: String,
    /// The image that is being captured from it. While it stands here no other capture begins
    /// and the instance is not terminated.
    pub capturing: Option<Ocid>,
    /// Whether its boot volume was detached: it cannot start until one is attached.
    #[serde(default)]
    pub boot_volume_detached: bool,
    /// When it was terminated; it is forgotten a day later.
    #[serde(default)]
    pub time_terminated: Option<Timestamp>,
}

impl InstanceRecord {
    /// All its VNICs, in the order of the guest's cards.
    pub fn vnic_ids(&self) -> impl Iterator<Item = &Ocid> {
        std::iter::once(&self.vnic_id).chain(&self.secondary_vnic_ids)
    }

    /// Writes down that nothing is left of it but this.
    pub fn terminate(&mut self, now: Timestamp) {
        self.resource.lifecycle_state = InstanceState::Terminated;
        self.time_terminated = Some(now);
    }
}

impl Document for InstanceRecord {
    const KIND: &'static str = "instance";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.as_str().to_owned())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// A boot volume: a manifest and the overlays over it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootVolumeRecord {
    /// The volume as clients see it.
    pub resource: BootVolume,
    /// The disk below the overlays. A root of collection.
    pub base: ManifestId,
    /// Another disk with the same content, onto which the running guest is being moved: it may read
    /// from either, so this is a root, too. Settled when the guest starts anew.
    pub next_base: Option<ManifestId>,
    /// File names of the overlays in the volume's directory, top first; only the first is written.
    pub layers: Vec<String>,
    /// Name of its directory below the region's `volumes`.
    pub directory: String,
    /// Size of the disk in bytes; at least that of `base`.
    pub size_bytes: u64,
    /// The instance it is the boot volume of.
    pub instance_id: Option<Ocid>,
    /// When its data were removed; it is forgotten a day later.
    #[serde(default)]
    pub time_terminated: Option<Timestamp>,
    /// How the last instance booted from it that gave it up: its image may be gone when the next one does.
    #[serde(default)]
    pub booted: Option<Booted>,
}

/// How an instance booted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Booted {
    /// The name for its devices.
    pub launch_mode: LaunchMode,
    /// Its devices and firmware.
    pub launch_options: LaunchOptions,
}

impl Booted {
    /// How that instance does.
    pub fn of(instance: &Instance) -> Self {
        let (launch_mode, launch_options) = (instance.launch_mode, instance.launch_options.clone());
        Self { launch_mode, launch_options }
    }
}

impl BootVolumeRecord {
    /// Takes it from its instance.
    pub fn set_free(&mut self, booted: Booted) {
        self.instance_id = None;
        self.booted = Some(booted);
    }

    /// Writes down that its data are gone.
    pub fn terminate(&mut self, now: Timestamp) {
        self.resource.lifecycle_state = BootVolumeState::Terminated;
        self.time_terminated = Some(now);
    }

    /// All that still have their data.
    pub fn alive() -> Query {
        let states =
            BootVolumeState::ALL.iter().filter(|state| **state != BootVolumeState::Terminated);
        states.fold(Query::new(), |query, state| query.state(state.as_str()))
    }

    /// Shows clients a size.
    pub fn show_size(&mut self, size_bytes: u64) {
        self.resource.size_in_gbs = size_bytes.div_ceil(1 << 30);
        self.resource.size_in_mbs = size_bytes.div_ceil(1 << 20);
    }

    /// Whether the volume still has its data.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.resource.lifecycle_state != BootVolumeState::Terminated
    }
}

impl Document for BootVolumeRecord {
    const KIND: &'static str = "boot_volume";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.as_str().to_owned())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// A capture of an instance's serial console.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsoleHistoryRecord {
    /// The history as clients see it.
    pub resource: ConsoleHistory,
}

/// What a console history holds; apart from it, so that lists stay small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsoleContentRecord {
    /// The history's id.
    pub id: Ocid,
    /// What the console had shown, base64: a guest writes any bytes.
    pub content_base64: String,
    /// When.
    pub time_created: Timestamp,
}

impl Document for ConsoleContentRecord {
    const KIND: &'static str = "console_content";

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

impl Document for ConsoleHistoryRecord {
    const KIND: &'static str = "console_history";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.resource.instance_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.as_str().to_owned())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// The public half of a user's API key, found by the key id of a signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKeyRecord {
    /// `<tenancy>/<user>/<fingerprint>`.
    pub key_id: String,
    /// Whose it is.
    pub user: Ocid,
    /// The user's tenancy.
    pub tenancy: Ocid,
    /// PEM of the public key.
    pub public_key_pem: String,
    /// When it was added.
    pub time_created: Timestamp,
}

impl Document for ApiKeyRecord {
    const KIND: &'static str = "api_key";

    fn id(&self) -> String {
        self.key_id.clone()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.user.to_string())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

impl ImageRecord {
    /// Whether it is there for clients.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.resource.lifecycle_state != ImageState::Deleted
    }

    /// Whether its disk must be kept, be it because it may be restored.
    #[must_use]
    pub fn needs_disk(&self) -> bool {
        self.is_alive() || self.lifecycle.time_purged.is_some()
    }
}
