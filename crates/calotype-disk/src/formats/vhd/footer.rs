//! The footer of a vhd, whose copy a dynamic one begins with.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::export::SECTOR_BYTES;
use crate::formats::blocks::{corrupt, invalid, out_of_bounds, read, unsupported};
use crate::limits::VHD_SIZE_BYTES_MAX;
use crate::{Result, Source};

pub(super) const COOKIE: [u8; 8] = *b"conectix";
pub(super) const VERSION: u32 = 0x0001_0000;
pub(super) const FIXED: u32 = 2;
pub(super) const DYNAMIC: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// Nothing follows: where a fixed disk has no header.
pub(super) const NO_OFFSET: u64 = u64::MAX;
/// The bit that is set in all files.
const FEATURES: u32 = 2;

/// Makers whose disks have the size that the footer says. Of all others the geometry counts, as Virtual
/// PC has it, unless it is the largest.
const MAKERS_OF_EXACT_SIZES: [[u8; 4]; 6] =
    [*b"qem2", *b"win ", *b"d2v ", *b"CTXS", *b"tap\0", *b"wa\0\0"];
/// How QEMU names itself where the size is exact.
const MAKER: [u8; 4] = *b"qem2";
const SECTORS_OF_THE_LARGEST_GEOMETRY: u64 = 65_535 * 16 * 255;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
pub(super) struct RawFooter {
    cookie: [u8; 8],
    features: U32,
    version: U32,
    data_offset: U64,
    timestamp: U32,
    creator_application: [u8; 4],
    creator_version: U32,
    creator_system: [u8; 4],
    original_size: U64,
    current_size: U64,
    cylinders: U16,
    heads: u8,
    sectors: u8,
    disk_type: U32,
    checksum: U32,
    uuid: [u8; 16],
    saved_state: u8,
    reserved: [u8; 427],
}

pub(super) const FOOTER_BYTES: u64 = size_of::<RawFooter>() as u64;
const _: () = assert!(FOOTER_BYTES == SECTOR_BYTES);

/// What a reader needs, checked.
pub(super) struct Footer {
    bytes: Vec<u8>,
    pub(super) kind: u32,
    pub(super) size_bytes: u64,
    pub(super) header_offset: u64,
}

impl Footer {
    /// Reads the one at the end of the file.
    pub(super) fn read(source: &dyn Source) -> Result<Self> {
        let start = source.length_bytes().checked_sub(FOOTER_BYTES);
        let start = start.ok_or_else(|| invalid("vhd footer cut short"))?;
        let bytes = read(source, "vhd footer", start, FOOTER_BYTES as usize)?;
        let raw = RawFooter::read_from_bytes(&bytes).map_err(|_| invalid("no vhd footer"))?;
        if raw.cookie != COOKIE {
            return Err(invalid("no vhd footer at the end of the file"));
        }
        if raw.checksum.get() != checksum(&bytes, raw.checksum) {
            return Err(corrupt("vhd footer with a wrong checksum"));
        }
        if raw.version.get() != VERSION {
            return Err(unsupported(format!("vhd version {:#x}", raw.version.get())));
        }
        let size_bytes = raw.size_bytes();
        if !(1..=VHD_SIZE_BYTES_MAX).contains(&size_bytes) {
            return Err(out_of_bounds(format!(
                "vhd of {size_bytes} bytes, not 1 to {VHD_SIZE_BYTES_MAX}"
            )));
        }
        let (kind, header_offset) = (raw.disk_type.get(), raw.data_offset.get());
        Ok(Self { bytes, kind, size_bytes, header_offset })
    }

    /// Refuses a dynamic disk whose file does not begin with the same footer.
    pub(super) fn check_copy(&self, source: &dyn Source) -> Result<()> {
        if read(source, "vhd copy of the footer", 0, FOOTER_BYTES as usize)? == self.bytes {
            Ok(())
        } else {
            Err(corrupt("vhd footer and its copy that disagree"))
        }
    }
}

impl RawFooter {
    fn size_bytes(&self) -> u64 {
        let heads_and_sectors = u64::from(self.heads) * u64::from(self.sectors);
        let sectors = u64::from(self.cylinders.get()) * heads_and_sectors;
        if MAKERS_OF_EXACT_SIZES.contains(&self.creator_application)
            || sectors == SECTORS_OF_THE_LARGEST_GEOMETRY
        {
            // Whole sectors, as QEMU counts.
            self.current_size.get() / SECTOR_BYTES * SECTOR_BYTES
        } else {
            sectors * SECTOR_BYTES
        }
    }
}

/// The ones' complement of the sum of all bytes but those of `own`, the checksum itself.
pub(super) fn checksum(bytes: &[u8], own: U32) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u32, |sum, &byte| sum.wrapping_add(byte.into()));
    !sum(bytes).wrapping_sub(sum(own.as_bytes()))
}

/// The footer of a file that is written.
///
/// It names no time, so that the same disk makes the same file.
pub(super) fn make(size_bytes: u64, kind: u32, header_offset: u64, uuid: [u8; 16]) -> Vec<u8> {
    let (cylinders, heads, sectors) = geometry(size_bytes / SECTOR_BYTES);
    let mut footer = RawFooter {
        cookie: COOKIE,
        features: U32::new(FEATURES),
        version: U32::new(VERSION),
        data_offset: U64::new(header_offset),
        timestamp: U32::ZERO,
        creator_application: MAKER,
        creator_version: U32::new(0x0005_0003),
        creator_system: *b"Wi2k",
        original_size: U64::new(size_bytes),
        current_size: U64::new(size_bytes),
        cylinders: U16::new(cylinders),
        heads,
        sectors,
        disk_type: U32::new(kind),
        checksum: U32::ZERO,
        uuid,
        saved_state: 0,
        reserved: [0; 427],
    };
    footer.checksum = U32::new(checksum(footer.as_bytes(), U32::ZERO));
    footer.as_bytes().to_vec()
}

/// Cylinders, heads and sectors by the specification's appendix; nobody's size depends on them here.
fn geometry(total_sectors: u64) -> (u16, u8, u8) {
    let total = total_sectors.min(SECTORS_OF_THE_LARGEST_GEOMETRY);
    let (mut heads, mut sectors) = (16, 255);
    if total < 65_535 * 16 * 63 {
        sectors = 17;
        heads = (total / 17).div_ceil(1024).max(4);
        if total / 17 >= heads * 1024 || heads > 16 {
            (heads, sectors) = (16, 31);
        }
        if sectors == 31 && total / 31 >= heads * 1024 {
            sectors = 63;
        }
    }
    ((total / sectors / heads) as u16, heads as u8, sectors as u8)
}
