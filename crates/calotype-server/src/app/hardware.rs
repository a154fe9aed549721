//! What launch options mean on this host: the one place that maps OCI's device types onto QEMU's.
//!
//! | option | value | device |
//! |---|---|---|
//! | boot volume | PARAVIRTUALIZED | virtio-blk |
//! | | ISCSI, SCSI | virtio-scsi disk |
//! | | IDE | IDE disk |
//! | | NVME, VFIO | NVMe disk |
//! | network | PARAVIRTUALIZED, ACCELERATEDPV, VFIO | virtio-net |
//! | | E1000 | e1000 |
//! | firmware | BIOS / UEFI_64 | SeaBIOS / OVMF |
//!
//! ISCSI boot and VFIO networking are hardware of the public cloud: a guest prepared for them has the
//! drivers of the nearest device here.

use calotype_api::images::{Firmware, LaunchOptions, NetworkType, VolumeType};
use calotype_vm::{DiskBus, NicModel};

/// The bus of the boot disk.
pub fn disk_bus(options: &LaunchOptions) -> DiskBus {
    match options.boot_volume_type {
        Some(VolumeType::Iscsi | VolumeType::Scsi) => DiskBus::Scsi,
        Some(VolumeType::Ide) => DiskBus::Ide,
        Some(VolumeType::Nvme | VolumeType::Vfio) => DiskBus::Nvme,
        Some(VolumeType::Paravirtualized) | None => DiskBus::Virtio,
    }
}

/// The model of the primary network card.
pub fn nic_model(options: &LaunchOptions) -> NicModel {
    match options.network_type {
        Some(NetworkType::E1000) => NicModel::E1000,
        _ => NicModel::Virtio,
    }
}

/// The firmware the guest boots with.
pub fn firmware(options: &LaunchOptions) -> calotype_vm::Firmware {
    match options.firmware {
        Some(Firmware::Uefi64) => calotype_vm::Firmware::Uefi64,
        _ => calotype_vm::Firmware::Bios,
    }
}

/// The image's options with what the launch request gives instead.
pub fn merge(image: &LaunchOptions, asked: Option<LaunchOptions>) -> LaunchOptions {
    let Some(asked) = asked else { return image.clone() };
    LaunchOptions {
        boot_volume_type: asked.boot_volume_type.or(image.boot_volume_type),
        firmware: asked.firmware.or(image.firmware),
        is_consistent_volume_naming_enabled: asked
            .is_consistent_volume_naming_enabled
            .or(image.is_consistent_volume_naming_enabled),
        is_encryption_in_transit_enabled: asked
            .is_encryption_in_transit_enabled
            .or(image.is_encryption_in_transit_enabled),
        is_pv_encryption_in_transit_enabled: asked
            .is_pv_encryption_in_transit_enabled
            .or(image.is_pv_encryption_in_transit_enabled),
        network_type: asked.network_type.or(image.network_type),
        remote_data_volume_type: asked.remote_data_volume_type.or(image.remote_data_volume_type),
    }
}
