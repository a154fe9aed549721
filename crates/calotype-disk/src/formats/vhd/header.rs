//! The header of a dynamic vhd.

use std::ops::Range;

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::footer::{FOOTER_BYTES, Footer, NO_OFFSET, VERSION, checksum};
use crate::export::SECTOR_BYTES;
use crate::formats::blocks::{check_inside, corrupt, read, unsupported};
use crate::{Result, Source};

const COOKIE: [u8; 8] = *b"cxsparse";
/// An entry of the table without a block.
pub(super) const UNALLOCATED: u32 = u32::MAX;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
struct RawHeader {
    cookie: [u8; 8],
    data_offset: U64,
    table_offset: U64,
    version: U32,
    max_table_entries: U32,
    block_size: U32,
    checksum: U32,
    parent_uuid: [u8; 16],
    parent_timestamp: U32,
    reserved_1: U32,
    parent_name: [u8; 512],
    parent_locators: [u8; 192],
    reserved_2: [u8; 256],
}

pub(super) const HEADER_BYTES: u64 = size_of::<RawHeader>() as u64;
const _: () = assert!(HEADER_BYTES == 1024);

/// What a reader needs, checked.
pub(super) struct Header {
    pub(super) table_offset: u64,
    pub(super) block_bytes: u64,
    pub(super) bitmap_bytes: u64,
    /// Where no block may be: footer, header, table.
    pub(super) metadata: [Range<u64>; 3],
}

impl Header {
    pub(super) fn read(source: &dyn Source, footer: &Footer) -> Result<Self> {
        let start = footer.header_offset;
        if start < FOOTER_BYTES {
            return Err(corrupt(format!("vhd header at {start}, inside of the footer's copy")));
        }
        let bytes = read(source, "vhd header", start, HEADER_BYTES as usize)?;
        let raw = RawHeader::read_from_bytes(&bytes).map_err(|_| corrupt("no vhd header"))?;
        if raw.cookie != COOKIE {
            return Err(corrupt(format!("no vhd header at {start}")));
        }
        if raw.checksum.get() != checksum(&bytes, raw.checksum) {
            return Err(corrupt("vhd header with a wrong checksum"));
        }
        if raw.version.get() != VERSION {
            return Err(unsupported(format!("vhd header version {:#x}", raw.version.get())));
        }
        let block_bytes = u64::from(raw.block_size.get());
        if !block_bytes.is_power_of_two() || block_bytes < SECTOR_BYTES {
            return Err(corrupt(format!("vhd blocks of {block_bytes} bytes")));
        }
        let entries = u64::from(raw.max_table_entries.get());
        if entries * block_bytes < footer.size_bytes {
            return Err(corrupt(format!(
                "vhd block allocation table of {entries} entries for {} bytes",
                footer.size_bytes
            )));
        }
        let table_offset = raw.table_offset.get();
        check_inside(source, "vhd block allocation table", table_offset, entries * 4)?;
        let table = table_offset..table_offset + entries * 4;
        let header = start..start + HEADER_BYTES;
        if table_offset < FOOTER_BYTES || (table.start < header.end && header.start < table.end) {
            return Err(corrupt(format!("vhd block allocation table at {table_offset}")));
        }
        Ok(Self {
            table_offset,
            block_bytes,
            bitmap_bytes: bitmap_bytes(block_bytes),
            metadata: [0..FOOTER_BYTES, header, table],
        })
    }
}

/// The length of a block's bitmap: a bit for each sector, in whole sectors.
pub(super) fn bitmap_bytes(block_bytes: u64) -> u64 {
    (block_bytes / SECTOR_BYTES).div_ceil(8).next_multiple_of(SECTOR_BYTES)
}

/// The header of a file that is written.
pub(super) fn make(table_offset: u64, entries: u64, block_bytes: u64) -> Vec<u8> {
    let mut header = RawHeader {
        cookie: COOKIE,
        data_offset: U64::new(NO_OFFSET),
        table_offset: U64::new(table_offset),
        version: U32::new(VERSION),
        max_table_entries: U32::new(entries as u32),
        block_size: U32::new(block_bytes as u32),
        checksum: U32::ZERO,
        parent_uuid: [0; 16],
        parent_timestamp: U32::ZERO,
        reserved_1: U32::ZERO,
        parent_name: [0; 512],
        parent_locators: [0; 192],
        reserved_2: [0; 256],
    };
    header.checksum = U32::new(checksum(header.as_bytes(), U32::ZERO));
    header.as_bytes().to_vec()
}
