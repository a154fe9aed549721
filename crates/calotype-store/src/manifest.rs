//! Manifests: Merkle trees of chunk names.
//!
//! ```text
//! root     size, depth, 256 children        its digest is the ManifestId
//! node     256 children                     covers 256 times what a child covers
//! chunk    64 KiB of the disk               the lowest nodes' children
//! ```
//!
//! A child of all zeros is a hole. One disk has exactly one tree: the depth is the least that
//! covers the size, a node without a child that is no hole is itself a hole, and what lies beyond the
//! end of the disk is a hole.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::{
    CHUNK_BITS, CHUNK_BYTES, FANOUT, FANOUT_BITS, NODE_BYTES, VIRTUAL_SIZE_BYTES_MAX,
};

const MAGIC: [u8; 8] = *b"CALOROOT";
const VERSION: u32 = 1;

/// The bytes of an encoded root.
pub(crate) const ROOT_BYTES: usize = size_of::<RawRoot>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRoot {
    magic: [u8; 8],
    version: U32,
    depth: u8,
    chunk_bits: u8,
    fanout_bits: u8,
    reserved: u8,
    size_bytes: U64,
    reserved_too: U64,
    children: [[u8; 32]; FANOUT],
}

/// The root of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) size_bytes: u64,
    /// Always [`FANOUT`] of them.
    pub(crate) children: Vec<ChunkId>,
}

impl Root {
    pub(crate) fn depth(&self) -> u32 {
        depth(self.size_bytes)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut children = [[0; 32]; FANOUT];
        for (slot, child) in children.iter_mut().zip(&self.children) {
            *slot = child.0;
        }
        let raw = RawRoot {
            magic: MAGIC,
            version: U32::new(VERSION),
            depth: self.depth() as u8,
            chunk_bits: CHUNK_BITS,
            fanout_bits: FANOUT_BITS,
            reserved: 0,
            size_bytes: U64::new(self.size_bytes),
            reserved_too: U64::ZERO,
            children,
        };
        raw.as_bytes().to_vec()
    }

    /// Decodes a root and compares it with its name.
    pub(crate) fn decode(id: ManifestId, bytes: &[u8]) -> Result<Self> {
        if ManifestId::of(bytes) != id {
            return Err(Error::corrupt(format!("manifest {id} does not hash to its name")));
        }
        let raw = RawRoot::read_from_bytes(bytes)
            .map_err(|_| Error::corrupt(format!("manifest {id} has a wrong length")))?;
        if raw.magic != MAGIC {
            return Err(Error::corrupt(format!("manifest {id} has no magic")));
        }
        let size_bytes = raw.size_bytes.get();
        let geometry = (raw.version.get(), raw.chunk_bits, raw.fanout_bits);
        if geometry != (VERSION, CHUNK_BITS, FANOUT_BITS) || size_bytes > VIRTUAL_SIZE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!("manifest {id} of version {} is not supported", raw.version),
            ));
        }
        if u32::from(raw.depth) != depth(size_bytes) {
            return Err(Error::corrupt(format!("manifest {id} has a wrong depth")));
        }
        Ok(Self { size_bytes, children: raw.children.map(ChunkId).to_vec() })
    }
}

/// The number of chunks of a disk.
pub(crate) fn chunk_count(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(CHUNK_BYTES as u64)
}

/// The number of levels of a tree: 1 = the root's children are chunks.
pub(crate) fn depth(size_bytes: u64) -> u32 {
    let chunks = chunk_count(size_bytes);
    // Four are enough for the largest disk that is accepted.
    (1..6).find(|&levels| chunks <= span(levels)).unwrap_or(6)
}

/// The number of chunks below something at `level`: 0 = a chunk, 1 = a lowest node.
pub(crate) fn span(level: u32) -> u64 {
    1 << (u32::from(FANOUT_BITS) * level)
}

/// The position of `chunk` among the children of the node at `level` that covers it.
pub(crate) fn slot(level: u32, chunk: u64) -> usize {
    (chunk / span(level - 1)) as usize % FANOUT
}

/// The child at `slot` of an encoded node.
pub(crate) fn child(node: &[u8], slot: usize) -> ChunkId {
    let bytes = node.as_chunks().0.get(slot).copied().unwrap_or_default();
    ChunkId(bytes)
}

/// All children of an encoded node.
pub(crate) fn children(node: &[u8]) -> impl Iterator<Item = ChunkId> + Clone {
    node.as_chunks().0.iter().map(|bytes| ChunkId(*bytes))
}

/// Encodes a node.
pub(crate) fn encode_node(children: &[ChunkId]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(NODE_BYTES);
    for child in children {
        bytes.extend_from_slice(&child.0);
    }
    bytes.resize(NODE_BYTES, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_as_deep_as_its_disk_needs() {
        let chunk = CHUNK_BYTES as u64;
        for (size_bytes, levels) in [
            (0, 1),
            (1, 1),
            (256 * chunk, 1),
            (256 * chunk + 1, 2),
            (65_536 * chunk, 2),
            (65_536 * chunk + 1, 3),
            (1 << 40, 3),
            ((1 << 40) + 1, 4),
            (VIRTUAL_SIZE_BYTES_MAX, 4),
        ] {
            assert_eq!(depth(size_bytes), levels, "{size_bytes}");
        }
    }

    #[test]
    fn a_root_survives_its_encoding_and_no_change() {
        let mut children = vec![ChunkId::HOLE; FANOUT];
        children[3] = ChunkId::of(b"child");
        let root = Root { size_bytes: 5 << 30, children };
        let bytes = root.encode();
        assert_eq!(bytes.len(), ROOT_BYTES);
        let id = ManifestId::of(&bytes);
        assert_eq!(Root::decode(id, &bytes).unwrap(), root);

        let mut damaged = bytes.clone();
        damaged[100] ^= 1;
        assert_eq!(Root::decode(id, &damaged).unwrap_err().kind(), ErrorKind::Corrupt);

        // A root that hashes to its name but says something else.
        for (index, kind) in [(0, ErrorKind::Corrupt), (8, ErrorKind::UnsupportedVersion)] {
            let mut other = bytes.clone();
            other[index] ^= 2;
            let id = ManifestId::of(&other);
            assert_eq!(Root::decode(id, &other).unwrap_err().kind(), kind);
        }
        let short = &bytes[..ROOT_BYTES - 1];
        let error = Root::decode(ManifestId::of(short), short).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
