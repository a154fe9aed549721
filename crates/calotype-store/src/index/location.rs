//! The rows of the index, as bytes of a fixed length. They are no part of the store's format: an index
//! with other rows is simply built again.

use super::PackInfo;
use crate::limits::NODE_BYTES;
use crate::pack::{Codec, PackId, Record};

pub(super) const LOCATION_BYTES: usize = 16;
pub(super) const PACK_BYTES: usize = 25;

/// A chunk's record in a pack: the pack's number in the index, and the record's in the pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) pack: u32,
    pub(crate) record: u16,
}

/// Where the payload of a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Location {
    pub(crate) slot: Slot,
    pub(crate) offset: u32,
    pub(crate) stored_bytes: u32,
    pub(crate) codec: Codec,
    /// A node of a manifest, not a piece of a disk.
    pub(crate) node: bool,
}

impl Location {
    pub(crate) fn new(slot: Slot, record: &Record) -> Self {
        Self {
            slot,
            offset: record.offset,
            stored_bytes: record.stored_bytes,
            codec: record.codec,
            node: record.plain_bytes as usize == NODE_BYTES,
        }
    }

    pub(super) fn encode(&self) -> [u8; LOCATION_BYTES] {
        let mut bytes = [0; LOCATION_BYTES];
        bytes[..4].copy_from_slice(&self.slot.pack.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.slot.record.to_le_bytes());
        bytes[6] = self.codec.to_byte();
        bytes[7] = u8::from(self.node);
        bytes[8..12].copy_from_slice(&self.offset.to_le_bytes());
        bytes[12..].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes
    }

    /// A codec that is not known was written by nobody: what is read there will not be the chunk.
    pub(super) fn decode(bytes: &[u8; LOCATION_BYTES]) -> Self {
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let slot = Slot { pack: number(0), record: u16::from_le_bytes([bytes[4], bytes[5]]) };
        Self {
            slot,
            offset: number(8),
            stored_bytes: number(12),
            codec: Codec::from_byte(bytes[6]).unwrap_or(Codec::Raw),
            node: bytes[7] != 0,
        }
    }
}

/// The row of a pack.
pub(super) struct PackRow;

impl PackRow {
    pub(super) fn encode(info: &PackInfo) -> [u8; PACK_BYTES] {
        let mut bytes = [0; PACK_BYTES];
        bytes[..16].copy_from_slice(&info.id.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&info.length_bytes.to_le_bytes());
        bytes[24] = u8::from(info.scanned);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; PACK_BYTES]) -> PackInfo {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[..16]);
        let mut length = [0; 8];
        length.copy_from_slice(&bytes[16..24]);
        PackInfo {
            id: PackId(u128::from_le_bytes(id)),
            length_bytes: u64::from_le_bytes(length),
            scanned: bytes[24] != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_encoding() {
        for (codec, node) in [(Codec::Raw, false), (Codec::Zstd, true)] {
            let slot = Slot { pack: 70_000, record: 65_535 };
            let location = Location { slot, offset: 1 << 30, stored_bytes: 65_536, codec, node };
            assert_eq!(Location::decode(&location.encode()), location);
        }
        let info = PackInfo { id: PackId::fresh(), length_bytes: 1 << 40, scanned: true };
        assert_eq!(PackRow::decode(&PackRow::encode(&info)), info);
    }
}
