//! A raw disk that a BIOS boots: MBR, GRUB behind it, one ext4 partition at 1 MiB.
//!
//! ```text
//! sector 0          GRUB's boot.img around the partition table
//! sectors 1..2047   GRUB's core image: finds /boot/grub/grub.cfg on the partition
//! sector 2048..     ext4
//! ```
//!
//! Made with neither root nor loop devices. The file is sparse: what is zero takes no space.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::tools::{Need, Tool};
use crate::{Error, ErrorKind, Result};

/// Where the partition begins, in bytes.
pub(crate) const PARTITION_OFFSET: u64 = 1024 * 1024;

/// What building a boot disk needs.
pub(crate) const NEEDS: &[Need] = &[("grub-mkimage", "grub-common")];

/// The package that brings GRUB for BIOS, and where it is in it.
pub(crate) const GRUB_PACKAGE: &str = "grub-pc-bin";
pub(crate) const GRUB_DIRECTORY: &str = "usr/lib/grub/i386-pc";

const SECTOR: usize = 512;

/// Modules inside the core image, enough to read the partition and show errors on the serial
/// console without any file of GRUB on the disk.
const GRUB_MODULES: &[&str] = &[
    "biosdisk",
    "part_msdos",
    "ext2",
    "linux",
    "linux16",
    "normal",
    "configfile",
    "echo",
    "test",
    "search",
    "search_fs_uuid",
    "setpci",
    "serial",
    "terminal",
    "reboot",
    "halt",
    "minicmd",
];

/// Offsets inside `boot.img`, from GRUB's `include/grub/i386/pc/boot.h`.
mod boot_img {
    pub(super) const KERNEL_SECTOR: usize = 0x5c;
    pub(super) const DRIVE_CHECK: usize = 0x66;
    pub(super) const CODE_END: usize = 0x1b8;
}

/// The MBR's fields behind the code.
mod mbr {
    pub(super) const DISK_SIGNATURE: usize = 0x1b8;
    pub(super) const FIRST_ENTRY: usize = 0x1be;
    pub(super) const MAGIC: usize = 0x1fe;
}

/// Offset in the core image's first sector of the list of sectors that it loads.
const CORE_BLOCK_LIST: usize = SECTOR - 12;

/// A disk in the making.
pub(crate) struct BootDisk {
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
}

impl BootDisk {
    /// A new empty sparse disk; `size_bytes` is a multiple of 1 MiB.
    pub(crate) fn create(path: PathBuf, size_bytes: u64) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        file.set_len(size_bytes).map_err(Error::io("extend", &path))?;
        Ok(Self { path, size_bytes })
    }

    /// Size of the partition in bytes.
    pub(crate) fn partition_size(&self) -> u64 {
        self.size_bytes - PARTITION_OFFSET
    }

    /// Writes MBR and GRUB out of `package`, where [`GRUB_PACKAGE`] was unpacked. `scratch` is a
    /// directory for the core image.
    pub(crate) fn install_grub(
        &self,
        package: &Path,
        scratch: &Path,
        disk_signature: u32,
    ) -> Result<()> {
        let grub = package.join(GRUB_DIRECTORY);
        let boot = grub.join("boot.img");
        let boot = std::fs::read(&boot).map_err(Error::io("read", &boot))?;
        let core = make_core(&grub, scratch)?;
        let sectors = self.partition_size() / SECTOR as u64;
        let mbr = master_boot_record(&boot, disk_signature, sectors)?;
        let core = embedded_core(core)?;
        let file = OpenOptions::new().write(true).open(&self.path);
        let file = file.map_err(Error::io("open", &self.path))?;
        file.write_all_at(&mbr, 0).map_err(Error::io("write", &self.path))?;
        file.write_all_at(&core, SECTOR as u64).map_err(Error::io("write", &self.path))?;
        file.sync_all().map_err(Error::io("sync", &self.path))
    }
}

fn make_core(grub: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let core = scratch.join("core.img");
    Tool::new("grub-mkimage")
        .args(["-O", "i386-pc", "-p", "(,msdos1)/boot/grub", "-d"])
        .arg(grub)
        .arg("-o")
        .arg(&core)
        .args(GRUB_MODULES)
        .run()?;
    std::fs::read(&core).map_err(Error::io("read", &core))
}

/// Sector 0: GRUB's boot code told where the core image is, and a table of one active partition.
fn master_boot_record(boot: &[u8], signature: u32, sectors: u64) -> Result<[u8; SECTOR]> {
    let mut mbr: [u8; SECTOR] = boot
        .try_into()
        .map_err(|_| Error::new(ErrorKind::Content, "GRUB's boot.img is not one sector long"))?;
    mbr[boot_img::KERNEL_SECTOR..][..8].copy_from_slice(&1u64.to_le_bytes());
    // As grub-install does for hard disks: two no-ops, so that a BIOS that passes a wrong drive
    // number is corrected.
    mbr[boot_img::DRIVE_CHECK..][..2].copy_from_slice(&[0x90, 0x90]);
    mbr[boot_img::CODE_END..].fill(0);
    mbr[mbr::DISK_SIGNATURE..][..4].copy_from_slice(&signature.to_le_bytes());

    let first = u32::try_from(PARTITION_OFFSET / SECTOR as u64).unwrap_or(u32::MAX);
    let count = u32::try_from(sectors)
        .map_err(|_| Error::new(ErrorKind::Content, "the disk is too large for an MBR"))?;
    let entry = &mut mbr[mbr::FIRST_ENTRY..][..16];
    entry[0] = 0x80; // active
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]); // cylinders, heads: "see the sectors"
    entry[4] = 0x83; // Linux
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&first.to_le_bytes());
    entry[12..16].copy_from_slice(&count.to_le_bytes());
    mbr[mbr::MAGIC..].copy_from_slice(&[0x55, 0xaa]);
    Ok(mbr)
}

/// The core image as it lies behind the MBR: its first sector loads the rest, contiguous from
/// sector 2.
fn embedded_core(mut core: Vec<u8>) -> Result<Vec<u8>> {
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    let room = PARTITION_OFFSET as usize - SECTOR;
    if core.len() > room || core.len() < 2 * SECTOR {
        let context = format!("GRUB's core image of {} bytes does not fit {room}", core.len());
        return Err(Error::new(ErrorKind::Content, context));
    }
    let rest = u16::try_from(core.len() / SECTOR - 1).unwrap_or(u16::MAX);
    let list = &mut core[CORE_BLOCK_LIST..][..12];
    list[..8].copy_from_slice(&2u64.to_le_bytes());
    list[8..10].copy_from_slice(&rest.to_le_bytes());
    list[10..12].copy_from_slice(&0x820u16.to_le_bytes());
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn the_table_has_one_active_linux_partition_from_1_mib_to_the_end() {
        let mbr = master_boot_record(&[0xcc; SECTOR], 0x1234_5678, 255 * MIB / 512).unwrap();
        assert_eq!(&mbr[0x1b8..0x1bc], &[0x78, 0x56, 0x34, 0x12]);
        let entry = &mbr[0x1be..0x1ce];
        assert_eq!((entry[0], entry[4]), (0x80, 0x83));
        assert_eq!(u32::from_le_bytes(entry[8..12].try_into().unwrap()), 2048);
        assert_eq!(u32::from_le_bytes(entry[12..16].try_into().unwrap()), 255 * 2048);
        assert!(mbr[0x1ce..0x1fe].iter().all(|byte| *byte == 0));
        assert_eq!(&mbr[0x1fe..], &[0x55, 0xaa]);
    }

    #[test]
    fn the_boot_code_stays_and_is_told_where_the_core_is() {
        let mbr = master_boot_record(&[0xcc; SECTOR], 0, 2048).unwrap();
        assert_eq!(&mbr[0x5c..0x64], &1u64.to_le_bytes());
        assert_eq!(&mbr[0x66..0x68], &[0x90, 0x90]);
        assert!(mbr[..0x5c].iter().all(|byte| *byte == 0xcc));
    }

    #[test]
    fn refuses_boot_code_of_another_size() {
        assert!(master_boot_record(&[0; 440], 0, 2048).is_err());
    }

    #[test]
    fn the_core_loads_all_its_sectors_from_sector_2() {
        let core = embedded_core(vec![7; 3 * SECTOR + 5]).unwrap();
        assert_eq!(core.len(), 4 * SECTOR);
        assert_eq!(&core[500..508], &2u64.to_le_bytes());
        assert_eq!(&core[508..512], &[3, 0, 0x20, 0x08]);
        assert!(core[512..3 * SECTOR].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn refuses_a_core_that_would_reach_into_the_partition() {
        assert!(embedded_core(vec![0; (MIB - 512) as usize]).is_ok());
        assert!(embedded_core(vec![0; (MIB - 511) as usize]).is_err());
    }
}
