//! The metadata of a vhdx: sizes, and whether there is a parent.

use std::ops::Range;

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::formats::blocks::{corrupt, out_of_bounds, read, unsupported};
use crate::limits::{VHDX_BLOCK_BYTES_MAX, VIRTUAL_SIZE_BYTES_MAX};
use crate::{Result, Source};

const TABLE_BYTES: usize = 64 << 10;
const SIGNATURE: [u8; 8] = *b"metadata";
const ENTRIES_MAX: u16 = 2047;
const BLOCK_BYTES_MIN: u64 = 1 << 20;

/// An item that its user made up: nobody needs to know it.
const IS_USER: u32 = 1;
const IS_REQUIRED: u32 = 4;

/// In the file parameters.
const HAS_PARENT: u32 = 2;

/// CAA16737-FA36-4D43-B3B6-33F0AA44E76B
const FILE_PARAMETERS: [u8; 16] = [
    0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b,
];
/// 2FA54224-CD1B-4876-B211-5DBED83BF4B8
const VIRTUAL_DISK_SIZE: [u8; 16] = [
    0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8,
];
/// 8141BF1D-A96F-4709-BA47-F233A8FAAB5F
const LOGICAL_SECTOR_SIZE: [u8; 16] = [
    0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f,
];
/// CDA348C7-445D-4471-9CC9-E9885251C556
const PHYSICAL_SECTOR_SIZE: [u8; 16] = [
    0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56,
];
/// BECA12AB-B2E6-4523-93EF-C309E000C746
const VIRTUAL_DISK_ID: [u8; 16] = [
    0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46,
];
/// A8D35F2D-B30B-454D-ABF7-D3D84834AB0C
const PARENT_LOCATOR: [u8; 16] = [
    0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c,
];

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TableHeader {
    signature: [u8; 8],
    reserved: U16,
    entries: U16,
    reserved_2: [u8; 20],
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry {
    item: [u8; 16],
    /// From the beginning of the region.
    offset: U32,
    length: U32,
    flags: U32,
    reserved: U32,
}

/// What a reader needs, checked.
#[expect(clippy::struct_field_names, reason = "the unit is part of a name")]
pub(super) struct Metadata {
    pub(super) size_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) sector_bytes: u64,
}

impl Metadata {
    pub(super) fn read(source: &dyn Source, region: &Range<u64>) -> Result<Self> {
        let (mut parameters, mut size_bytes, mut sector_bytes) = (None, None, None);
        for entry in entries(&read(source, "vhdx metadata table", region.start, TABLE_BYTES)?)? {
            let item = match entry.item {
                FILE_PARAMETERS => &mut parameters,
                VIRTUAL_DISK_SIZE => &mut size_bytes,
                LOGICAL_SECTOR_SIZE => &mut sector_bytes,
                PHYSICAL_SECTOR_SIZE | VIRTUAL_DISK_ID => continue,
                PARENT_LOCATOR => return Err(unsupported("vhdx that names a parent")),
                _ if entry.flags.get() & IS_REQUIRED != 0 && entry.flags.get() & IS_USER == 0 => {
                    return Err(unsupported("vhdx metadata that is required and unknown"));
                }
                _ => continue,
            };
            if item.replace(value(&entry, source, region)?).is_some() {
                return Err(corrupt("vhdx metadata item that is there twice"));
            }
        }
        match (parameters, size_bytes, sector_bytes) {
            (Some(parameters), Some(size_bytes), Some(sector_bytes)) => {
                Self::check(parameters, size_bytes, sector_bytes & u64::from(u32::MAX))
            }
            _ => Err(corrupt("vhdx without the sizes of disk, blocks or sectors")),
        }
    }

    fn check(parameters: u64, size_bytes: u64, sector_bytes: u64) -> Result<Self> {
        let (block_bytes, flags) = (parameters & u64::from(u32::MAX), (parameters >> 32) as u32);
        if flags & HAS_PARENT != 0 {
            return Err(unsupported("vhdx that needs a parent"));
        }
        if ![512, 4096].contains(&sector_bytes) {
            return Err(unsupported(format!("vhdx sectors of {sector_bytes} bytes")));
        }
        let fits = (BLOCK_BYTES_MIN..=VHDX_BLOCK_BYTES_MAX).contains(&block_bytes);
        if !fits || !block_bytes.is_power_of_two() {
            return Err(corrupt(format!("vhdx blocks of {block_bytes} bytes")));
        }
        if !(1..=VIRTUAL_SIZE_BYTES_MAX).contains(&size_bytes) {
            return Err(out_of_bounds(format!("vhdx of {size_bytes} bytes")));
        }
        if !size_bytes.is_multiple_of(sector_bytes) {
            return Err(corrupt(format!("vhdx of {size_bytes} bytes, no whole sectors")));
        }
        Ok(Self { size_bytes, block_bytes, sector_bytes })
    }
}

fn entries(table: &[u8]) -> Result<Vec<Entry>> {
    let missing = || corrupt("vhdx without a metadata table");
    let (header, rest) = TableHeader::read_from_prefix(table).map_err(|_| missing())?;
    if header.signature != SIGNATURE {
        return Err(missing());
    }
    if header.entries.get() > ENTRIES_MAX {
        return Err(corrupt(format!("vhdx metadata table of {} entries", header.entries)));
    }
    let entries = rest.chunks_exact(size_of::<Entry>()).take(header.entries.get() as usize);
    entries.map(|entry| Entry::read_from_bytes(entry).map_err(|_| missing())).collect()
}

/// The first 8 bytes of an item, or less with zeros behind them: all that the known ones have.
fn value(entry: &Entry, source: &dyn Source, region: &Range<u64>) -> Result<u64> {
    let (offset, length) = (u64::from(entry.offset.get()), entry.length.get());
    let end = offset + u64::from(length);
    if offset < TABLE_BYTES as u64 || end > region.end - region.start || !matches!(length, 4 | 8) {
        return Err(corrupt(format!("vhdx metadata item of {length} bytes at {offset}")));
    }
    let bytes = read(source, "vhdx metadata", region.start + offset, length as usize)?;
    let mut value = [0; 8];
    value.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    Ok(u64::from_le_bytes(value))
}
