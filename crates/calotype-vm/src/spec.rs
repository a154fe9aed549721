//! What a machine is made of. A [`MachineSpec`] says everything that QEMU is started with, and is
//! kept as `machine.json` in the machine's directory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// Unique among all machines, also those that ran before: letters, digits, `.`, `_` and `-`,
    /// at most 64. The running QEMU is recognised by it.
    pub name: String,
    /// What DMI calls the system UUID, in its usual form.
    pub system_uuid: String,
    /// Where everything of this machine lies; absolute, UTF-8, and short enough for the UNIX
    /// sockets within ([`crate::SOCKET_PATH_BYTES_MAX`]).
    pub directory: PathBuf,
    /// Virtual CPUs, at least one.
    pub vcpus: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What the machine boots with.
    pub firmware: Firmware,
    /// The one disk.
    pub boot_disk: BootDisk,
    /// Network interfaces, in PCI order.
    pub nics: Vec<Nic>,
    /// DMI chassis asset tag, by which guests know what cloud they are in: `OracleCloud.com`.
    pub chassis_asset_tag: String,
}

/// What a machine boots with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS, which QEMU carries.
    Bios,
    /// OVMF, without secure boot.
    Uefi64,
}

/// A chain of layers over a read-only base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootDisk {
    /// How the guest sees the disk.
    pub bus: DiskBus,
    /// qcow2 files, the top first. Only the top is written. At least one; the top of `size_bytes`, none larger.
    /// What their headers say of backing files is never followed.
    pub layers: Vec<PathBuf>,
    /// What lies below the last layer. A base smaller than the disk reads as zeros past its end.
    pub base: NbdTarget,
    /// The size the guest sees.
    pub size_bytes: u64,
}

/// How a guest sees its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    /// virtio-blk: `/dev/vda`.
    Virtio,
    /// A disk on a virtio-scsi controller: `/dev/sda`.
    Scsi,
    /// A parallel ATA disk on the PIIX controller of an i440FX board, for guests of old.
    Ide,
    /// An NVMe namespace: `/dev/nvme0n1`.
    Nvme,
}

/// An export of an NBD server behind a UNIX socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NbdTarget {
    /// Absolute path of the server's socket.
    pub socket: PathBuf,
    /// The export's name, at most 4096 bytes.
    pub export: String,
}

/// A network interface, whose frames go through a UNIX socket
/// ([`crate::Machine::nic_socket`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// The emulated device.
    pub model: NicModel,
    /// `02:00:17:ab:cd:ef`.
    pub mac: String,
    /// What the device tells the guest; only virtio can.
    pub mtu: Option<u16>,
}

/// The emulated network device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NicModel {
    /// virtio-net.
    Virtio,
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L.
    E1000e,
}
