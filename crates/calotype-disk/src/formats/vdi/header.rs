//! The header of a vdi file.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::export::SECTOR_BYTES;
use crate::formats::blocks::{corrupt, invalid, out_of_bounds, read, unsupported};
use crate::limits::VIRTUAL_SIZE_BYTES_MAX;
use crate::{Result, Source};

pub(super) const SIGNATURE: [u8; 4] = 0xbeda_107f_u32.to_le_bytes();
pub(super) const SIGNATURE_OFFSET: usize = 64;
pub(super) const VERSION: u32 = 0x0001_0001;
/// The only size there is: QEMU takes no other, and `VirtualBox` makes no other.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;

pub(super) const DYNAMIC: u32 = 1;
const FIXED: u32 = 2;

/// Entries of the block map from here on have no block: discarded, or never written.
pub(super) const DISCARDED: u32 = 0xffff_fffe;
pub(super) const UNALLOCATED: u32 = 0xffff_ffff;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
pub(super) struct RawHeader {
    pub(super) text: [u8; SIGNATURE_OFFSET],
    pub(super) signature: [u8; 4],
    pub(super) version: U32,
    /// From its own field to the end of the geometry.
    pub(super) header_size: U32,
    pub(super) image_type: U32,
    pub(super) image_flags: U32,
    pub(super) description: [u8; 256],
    pub(super) map_offset: U32,
    pub(super) data_offset: U32,
    pub(super) cylinders: U32,
    pub(super) heads: U32,
    pub(super) sectors: U32,
    pub(super) sector_size: U32,
    pub(super) unused_1: U32,
    pub(super) disk_size: U64,
    pub(super) block_size: U32,
    pub(super) block_extra: U32,
    pub(super) blocks: U32,
    pub(super) blocks_allocated: U32,
    pub(super) uuid_image: [u8; 16],
    pub(super) uuid_last_snapshot: [u8; 16],
    pub(super) uuid_link: [u8; 16],
    pub(super) uuid_parent: [u8; 16],
    pub(super) unused_2: [u8; 56],
}

pub(super) const HEADER_BYTES: u64 = size_of::<RawHeader>() as u64;
const _: () = assert!(HEADER_BYTES == SECTOR_BYTES);

/// What a reader needs, checked.
pub(super) struct Header {
    pub(super) size_bytes: u64,
    /// As many as the disk needs; the map may have more.
    pub(super) blocks: u64,
    pub(super) map_offset: u64,
    pub(super) data_offset: u64,
}

impl Header {
    pub(super) fn read(source: &dyn Source) -> Result<Self> {
        if source.length_bytes() < HEADER_BYTES {
            return Err(invalid("vdi header cut short"));
        }
        let bytes = read(source, "vdi header", 0, HEADER_BYTES as usize)?;
        let raw = RawHeader::read_from_bytes(&bytes).map_err(|_| invalid("no vdi header"))?;
        if raw.signature != SIGNATURE {
            return Err(invalid("no vdi signature"));
        }
        check_kind(&raw)?;
        let size_bytes = check_size(&raw)?;
        let blocks = size_bytes.div_ceil(BLOCK_BYTES);
        if u64::from(raw.blocks.get()) < blocks {
            return Err(corrupt(format!("vdi of {} blocks, not {blocks}", raw.blocks)));
        }
        let map_offset = u64::from(raw.map_offset.get());
        let data_offset = u64::from(raw.data_offset.get());
        if map_offset < HEADER_BYTES || map_offset + u64::from(raw.blocks.get()) * 4 > data_offset {
            return Err(corrupt(format!(
                "vdi block map at {map_offset} between a header of {HEADER_BYTES} bytes and data at \
                 {data_offset}"
            )));
        }
        for (offset, name) in [(map_offset, "block map"), (data_offset, "data")] {
            if !offset.is_multiple_of(SECTOR_BYTES) {
                return Err(corrupt(format!("vdi {name} at offset {offset}, not at a sector")));
            }
        }
        Ok(Self { size_bytes, blocks, map_offset, data_offset })
    }
}

fn check_kind(raw: &RawHeader) -> Result<()> {
    if raw.version.get() != VERSION {
        return Err(unsupported(format!("vdi version {:#x}", raw.version.get())));
    }
    if ![DYNAMIC, FIXED].contains(&raw.image_type.get()) {
        return Err(unsupported(format!("vdi of type {}, not dynamic or fixed", raw.image_type)));
    }
    if raw.uuid_link != [0; 16] || raw.uuid_parent != [0; 16] {
        return Err(unsupported("vdi that needs a parent"));
    }
    if u64::from(raw.sector_size.get()) != SECTOR_BYTES {
        return Err(unsupported(format!("vdi sectors of {} bytes", raw.sector_size)));
    }
    if u64::from(raw.block_size.get()) != BLOCK_BYTES || raw.block_extra.get() != 0 {
        let (size, extra) = (raw.block_size, raw.block_extra);
        return Err(unsupported(format!("vdi blocks of {size} bytes and {extra} more")));
    }
    Ok(())
}

/// The size in whole sectors, as QEMU takes it.
fn check_size(raw: &RawHeader) -> Result<u64> {
    let size_bytes = raw.disk_size.get();
    if (1..=VIRTUAL_SIZE_BYTES_MAX).contains(&size_bytes) {
        Ok(size_bytes.next_multiple_of(SECTOR_BYTES))
    } else {
        Err(out_of_bounds(format!("vdi of {size_bytes} bytes, not 1 to {VIRTUAL_SIZE_BYTES_MAX}")))
    }
}
