//! Launch modes: the launch options that each stands for, and what a captured image takes over.

use calotype_api::images::{Firmware, LaunchMode, LaunchOptions, NetworkType, VolumeType};

/// The launch options that a launch mode stands for.
pub fn preset(mode: LaunchMode) -> LaunchOptions {
    let (boot, network, firmware, remote) = match mode {
        LaunchMode::Native => {
            (VolumeType::Iscsi, NetworkType::Vfio, Firmware::Uefi64, VolumeType::Paravirtualized)
        }
        LaunchMode::Emulated => {
            (VolumeType::Scsi, NetworkType::E1000, Firmware::Bios, VolumeType::Scsi)
        }
        LaunchMode::AcceleratedPv => (
            VolumeType::Paravirtualized,
            NetworkType::AcceleratedPv,
            Firmware::Bios,
            VolumeType::Paravirtualized,
        ),
        LaunchMode::Paravirtualized | LaunchMode::Custom => (
            VolumeType::Paravirtualized,
            NetworkType::Paravirtualized,
            Firmware::Bios,
            VolumeType::Paravirtualized,
        ),
    };
    LaunchOptions {
        boot_volume_type: Some(boot),
        firmware: Some(firmware),
        is_consistent_volume_naming_enabled: Some(mode != LaunchMode::Native),
        is_encryption_in_transit_enabled: None,
        is_pv_encryption_in_transit_enabled: Some(false),
        network_type: Some(network),
        remote_data_volume_type: Some(remote),
    }
}

/// Launch mode and options of an image that is captured from an instance of an image with those of
/// `base`.
///
/// An omitted launch mode keeps the options that the base really has, and the mode that it says it has;
/// `CUSTOM` keeps the options as well. Any other that is given, even the base's own, resets them to its
/// preset. That is what OCI does, with one exception: a disk that boots by BIOS does not boot by UEFI
/// because its launch mode changed. The firmware is a property of what is on the disk, so a captured disk
/// keeps the one it ran with.
pub(super) fn captured(
    asked: Option<LaunchMode>,
    base_mode: LaunchMode,
    base: LaunchOptions,
) -> (LaunchMode, LaunchOptions) {
    match asked {
        None => (base_mode, base),
        Some(LaunchMode::Custom) => (LaunchMode::Custom, base),
        Some(mode) => {
            let preset = preset(mode);
            let firmware = base.firmware.or(preset.firmware);
            (mode, LaunchOptions { firmware, ..preset })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> LaunchOptions {
        // As a platform image: it says NATIVE, and is paravirtualised.
        LaunchOptions { firmware: Some(Firmware::Bios), ..preset(LaunchMode::Paravirtualized) }
    }

    #[test]
    fn every_mode_stands_for_the_devices_that_oci_says() {
        let devices = |mode| {
            let options = preset(mode);
            (options.boot_volume_type.unwrap(), options.network_type.unwrap())
        };
        let paravirtual = VolumeType::Paravirtualized;
        assert_eq!(devices(LaunchMode::Native), (VolumeType::Iscsi, NetworkType::Vfio));
        assert_eq!(devices(LaunchMode::Emulated), (VolumeType::Scsi, NetworkType::E1000));
        let expected = (paravirtual, NetworkType::Paravirtualized);
        assert_eq!(devices(LaunchMode::Paravirtualized), expected);
        assert_eq!(devices(LaunchMode::AcceleratedPv), (paravirtual, NetworkType::AcceleratedPv));
        let native = preset(LaunchMode::Native);
        assert_eq!(native.firmware, Some(Firmware::Uefi64));
        assert_eq!(native.remote_data_volume_type, Some(paravirtual));
        assert_eq!(native.is_consistent_volume_naming_enabled, Some(false));
        assert_eq!(native.is_pv_encryption_in_transit_enabled, Some(false));
    }

    #[test]
    fn an_omitted_mode_keeps_the_options_that_the_base_really_has() {
        assert_eq!(captured(None, LaunchMode::Native, base()), (LaunchMode::Native, base()));
    }

    #[test]
    fn custom_keeps_the_options_and_says_so() {
        let custom = captured(Some(LaunchMode::Custom), LaunchMode::Native, base());
        assert_eq!(custom, (LaunchMode::Custom, base()));
    }

    #[test]
    fn a_mode_that_is_given_resets_the_options_even_if_it_is_the_bases_own() {
        let (mode, options) = captured(Some(LaunchMode::Native), LaunchMode::Native, base());
        assert_eq!(mode, LaunchMode::Native);
        assert_eq!(options.boot_volume_type, Some(VolumeType::Iscsi));
        assert_eq!(options.network_type, Some(NetworkType::Vfio));
        assert_eq!(options.is_consistent_volume_naming_enabled, Some(false));
    }

    #[test]
    fn a_disk_keeps_the_firmware_that_it_ran_with() {
        for mode in LaunchMode::ALL {
            let (_, options) = captured(Some(*mode), LaunchMode::Native, base());
            assert_eq!(options.firmware, Some(Firmware::Bios), "{mode}");
        }
    }
}
