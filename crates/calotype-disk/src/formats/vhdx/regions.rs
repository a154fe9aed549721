//! The region table of a vhdx: where metadata and block allocation table are.

use std::ops::Range;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{MIB, is_checksum_right, overlap};
use crate::formats::blocks::{check_inside, corrupt, read, unsupported};
use crate::{Result, Source};

/// The table and its copy.
const OFFSETS: [u64; 2] = [192 << 10, 256 << 10];
const TABLE_BYTES: usize = 64 << 10;
const SIGNATURE: [u8; 4] = *b"regi";
const CHECKSUM_PLACE: usize = 4;
const ENTRIES_MAX: u32 = 2047;
const REQUIRED: u32 = 1;

/// 2DC27766-F623-4200-9D64-115E9BFD4A08
const BLOCK_ALLOCATION_TABLE: [u8; 16] = [
    0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08,
];
/// 8B7CA206-4790-4B9A-B8FE-575F050F886E
const METADATA: [u8; 16] = [
    0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e,
];

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TableHeader {
    signature: [u8; 4],
    checksum: U32,
    entries: U32,
    reserved: U32,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry {
    guid: [u8; 16],
    file_offset: U64,
    length: U32,
    required: U32,
}

/// The regions that every disk has.
pub(super) struct Regions {
    pub(super) table: Range<u64>,
    pub(super) metadata: Range<u64>,
}

impl Regions {
    pub(super) fn read(source: &dyn Source) -> Result<Self> {
        let (mut table, mut metadata) = (None, None);
        for entry in entries(&sound_table(source)?)? {
            let place = match entry.guid {
                BLOCK_ALLOCATION_TABLE => &mut table,
                METADATA => &mut metadata,
                _ if entry.required.get() & REQUIRED != 0 => {
                    return Err(unsupported("vhdx region that is required and unknown"));
                }
                _ => continue,
            };
            if place.replace(check_region(&entry, source)?).is_some() {
                return Err(corrupt("vhdx region that is there twice"));
            }
        }
        match (table, metadata) {
            (Some(table), Some(metadata)) if !overlap(&table, &metadata) => {
                Ok(Self { table, metadata })
            }
            (Some(_), Some(_)) => Err(corrupt("vhdx regions that overlap")),
            _ => Err(corrupt("vhdx without metadata or block allocation table")),
        }
    }
}

fn sound_table(source: &dyn Source) -> Result<Vec<u8>> {
    for offset in OFFSETS {
        let bytes = read(source, "vhdx region table", offset, TABLE_BYTES)?;
        if bytes.starts_with(&SIGNATURE) && is_checksum_right(&bytes, CHECKSUM_PLACE) {
            return Ok(bytes);
        }
    }
    Err(corrupt("vhdx without a region table that has the right checksum"))
}

fn entries(table: &[u8]) -> Result<Vec<Entry>> {
    let cut = || corrupt("vhdx region table cut short");
    let (header, rest) = TableHeader::read_from_prefix(table).map_err(|_| cut())?;
    if header.entries.get() > ENTRIES_MAX {
        return Err(corrupt(format!("vhdx region table of {} entries", header.entries)));
    }
    let entries = rest.chunks_exact(size_of::<Entry>()).take(header.entries.get() as usize);
    entries.map(|entry| Entry::read_from_bytes(entry).map_err(|_| cut())).collect()
}

fn check_region(entry: &Entry, source: &dyn Source) -> Result<Range<u64>> {
    let (start, length) = (entry.file_offset.get(), u64::from(entry.length.get()));
    check_inside(source, "vhdx region", start, length)?;
    let aligned = start.is_multiple_of(MIB) && length.is_multiple_of(MIB);
    if !aligned || start < MIB || length == 0 {
        return Err(corrupt(format!("vhdx region of {length} bytes at {start}")));
    }
    Ok(start..start + length)
}
