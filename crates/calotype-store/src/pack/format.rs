//! The bytes of a pack, and nothing else. All numbers are little-endian.
//!
//! `docs/store-format.md` shows the same as a table; `tests/read_pack.py` reads it.

use std::fmt;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::id::ChunkId;
use crate::limits::PLAIN_BYTES_MAX;

pub(super) const VERSION: u32 = 2;
pub(super) const HEADER_MAGIC: [u8; 8] = *b"CALOPACK";
pub(super) const ENTRY_MAGIC: [u8; 4] = *b"CHNK";
pub(super) const TRAILER_MAGIC: [u8; 8] = *b"CALOEND\n";

/// The name of a pack: unique without anybody to ask, and in the order in which packs were begun (a
/// UUID of version 7, RFC 9562). As text 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub(crate) u128);

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackId({self})")
    }
}

impl PackId {
    /// A name that no other pack has.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7().as_u128())
    }

    /// Only the text that `Display` writes: one pack has one name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id = Self(u128::from_str_radix(text, 16).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

/// How a payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Codec {
    Raw,
    Zstd,
}

impl Codec {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    pub(super) magic: [u8; 8],
    pub(super) version: U32,
    pub(super) reserved: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawEntry {
    pub(super) magic: [u8; 4],
    pub(super) stored_bytes: U32,
    pub(super) plain_bytes: U32,
    pub(super) codec: u8,
    pub(super) reserved: [u8; 3],
    pub(super) id: [u8; 32],
    pub(super) checksum: [u8; CHECKSUM_BYTES],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawRecord {
    pub(super) id: [u8; 32],
    pub(super) offset: U32,
    pub(super) stored_bytes: U32,
    pub(super) plain_bytes: U32,
    pub(super) codec: u8,
    pub(super) reserved: [u8; 3],
    pub(super) checksum: [u8; CHECKSUM_BYTES],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawTrailer {
    pub(super) records_offset: U64,
    pub(super) records: U32,
    pub(super) version: U32,
    /// BLAKE3 of the records and of the 16 bytes above.
    pub(super) checksum: [u8; 32],
    pub(super) reserved: U64,
    pub(super) magic: [u8; 8],
}

pub(super) const HEADER_BYTES: u64 = size_of::<RawHeader>() as u64;
pub(crate) const ENTRY_BYTES: u64 = size_of::<RawEntry>() as u64;
pub(super) const RECORD_BYTES: u64 = size_of::<RawRecord>() as u64;
pub(super) const TRAILER_BYTES: u64 = size_of::<RawTrailer>() as u64;

const CHECKSUM_BYTES: usize = 16;

/// The first half of the digest of a payload as it is stored: proves without unpacking that the
/// bytes are those that were written. Of a raw payload it is the first half of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checksum([u8; CHECKSUM_BYTES]);

impl Checksum {
    pub(crate) fn of(payload: &[u8]) -> Self {
        Self::of_raw(ChunkId::of(payload))
    }

    /// Of the payload of a chunk that is stored raw.
    pub(super) fn of_raw(id: ChunkId) -> Self {
        let mut half = [0; CHECKSUM_BYTES];
        half.copy_from_slice(&id.0[..CHECKSUM_BYTES]);
        Self(half)
    }
}

/// One chunk of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: ChunkId,
    /// Of the payload, behind its entry.
    pub(crate) offset: u32,
    pub(crate) stored_bytes: u32,
    pub(crate) plain_bytes: u32,
    pub(crate) codec: Codec,
    pub(crate) checksum: Checksum,
}

impl Record {
    pub(super) fn to_raw(self) -> RawRecord {
        RawRecord {
            id: self.id.0,
            offset: U32::new(self.offset),
            stored_bytes: U32::new(self.stored_bytes),
            plain_bytes: U32::new(self.plain_bytes),
            codec: self.codec.to_byte(),
            reserved: [0; 3],
            checksum: self.checksum.0,
        }
    }

    pub(super) fn to_entry(self) -> RawEntry {
        RawEntry {
            magic: ENTRY_MAGIC,
            stored_bytes: U32::new(self.stored_bytes),
            plain_bytes: U32::new(self.plain_bytes),
            codec: self.codec.to_byte(),
            reserved: [0; 3],
            id: self.id.0,
            checksum: self.checksum.0,
        }
    }

    /// The bytes of its entry.
    pub(crate) fn entry(self) -> Vec<u8> {
        self.to_entry().as_bytes().to_vec()
    }

    /// The record, if its payload lies before `end` and no length is beyond the limits.
    pub(super) fn from_raw(raw: &RawRecord, end: u64) -> Option<Self> {
        let record = Self {
            id: ChunkId(raw.id),
            offset: raw.offset.get(),
            stored_bytes: raw.stored_bytes.get(),
            plain_bytes: raw.plain_bytes.get(),
            codec: Codec::from_byte(raw.codec)?,
            checksum: Checksum(raw.checksum),
        };
        record.is_plausible(end).then_some(record)
    }

    /// As [`Record::from_raw`], from the entry at `offset`.
    pub(super) fn from_entry(raw: &RawEntry, offset: u64, end: u64) -> Option<Self> {
        let record = Self {
            id: ChunkId(raw.id),
            offset: u32::try_from(offset + ENTRY_BYTES).ok()?,
            stored_bytes: raw.stored_bytes.get(),
            plain_bytes: raw.plain_bytes.get(),
            codec: Codec::from_byte(raw.codec)?,
            checksum: Checksum(raw.checksum),
        };
        (raw.magic == ENTRY_MAGIC && record.is_plausible(end)).then_some(record)
    }

    fn is_plausible(&self, end: u64) -> bool {
        let plain_bytes = self.plain_bytes as usize;
        let after = u64::from(self.offset) + u64::from(self.stored_bytes);
        let shorter_or_raw = match self.codec {
            Codec::Raw => self.stored_bytes == self.plain_bytes,
            Codec::Zstd => self.stored_bytes < self.plain_bytes,
        };
        u64::from(self.offset) >= HEADER_BYTES + ENTRY_BYTES
            && after <= end
            && plain_bytes <= PLAIN_BYTES_MAX
            && shorter_or_raw
            && !self.id.is_hole()
    }
}

/// What the trailer's checksum covers.
pub(super) fn footer_checksum(records: &[u8], trailer: &RawTrailer) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(records);
    hasher.update(trailer.records_offset.as_bytes());
    hasher.update(trailer.records.as_bytes());
    hasher.update(trailer.version.as_bytes());
    *hasher.finalize().as_bytes()
}
