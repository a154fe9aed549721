//! How far a commit got: what a commit of the same work goes on from after a crash.
//!
//! A partial is written when a pack has become durable, and holds the part of the tree that was finished
//! then. All that it reaches is stored, and is not collected while it is there.

use std::collections::HashSet;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::backend::Key;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::{FANOUT, VIRTUAL_SIZE_BYTES_MAX};
use crate::liveness::CommitNumber;
use crate::manifest;

const MAGIC: [u8; 8] = *b"CALOPART";
const VERSION: u32 = 1;

/// Names a piece of work: the same name must always mean the same disk over the same base.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartialId([u8; 32]);

impl PartialId {
    /// The name of the work that `description` describes, for example the id of an image.
    pub fn of(description: &[u8]) -> Self {
        Self(*blake3::hash(description).as_bytes())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().map(Self).ok()
    }
}

impl fmt::Display for PartialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PartialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartialId({self})")
    }
}

/// How far a commit got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partial {
    pub(crate) size_bytes: u64,
    pub(crate) base: Option<ManifestId>,
    /// Chunks from the start of the disk that are done.
    pub(crate) position: u64,
    /// The children so far of the unfinished node at level 1, 2, … and, last, of the root.
    pub(crate) levels: Vec<Vec<ChunkId>>,
    written_at_seconds: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    /// Of the whole file.
    length_bytes: U32,
    size_bytes: U64,
    position: U64,
    written_at_seconds: U64,
    levels: U32,
    has_base: U32,
    base: [u8; 32],
}

const HEADER_BYTES: usize = size_of::<RawHeader>();
const CHECKSUM_BYTES: usize = 32;

/// The longest there is.
const PARTIAL_BYTES_MAX: usize = HEADER_BYTES + 8 * (4 + FANOUT * 32) + CHECKSUM_BYTES;

impl Partial {
    pub(crate) fn new(
        size_bytes: u64,
        base: Option<ManifestId>,
        position: u64,
        levels: Vec<Vec<ChunkId>>,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { size_bytes, base, position, levels, written_at_seconds: now.as_secs() }
    }

    /// Whether a commit of this disk over this base may go on from here.
    pub(crate) fn fits(&self, size_bytes: u64, base: Option<ManifestId>) -> bool {
        self.size_bytes == size_bytes && self.base == base
    }

    /// How long ago it was written.
    pub(crate) fn age_seconds(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_secs().saturating_sub(self.written_at_seconds)
    }

    /// Everything that it reaches directly, with its level: 0 = a chunk.
    pub(crate) fn children(&self) -> impl Iterator<Item = (u32, ChunkId)> {
        let levels = self.levels.iter().zip(0..);
        levels.flat_map(|(children, level)| children.iter().map(move |&child| (level, child)))
    }

    fn encode(&self) -> Vec<u8> {
        let children: usize = self.levels.iter().map(|children| 4 + children.len() * 32).sum();
        let header = RawHeader {
            magic: MAGIC,
            version: U32::new(VERSION),
            length_bytes: U32::new((HEADER_BYTES + children + CHECKSUM_BYTES) as u32),
            size_bytes: U64::new(self.size_bytes),
            position: U64::new(self.position),
            written_at_seconds: U64::new(self.written_at_seconds),
            levels: U32::new(self.levels.len() as u32),
            has_base: U32::new(self.base.is_some().into()),
            base: self.base.map(|base| *base.as_bytes()).unwrap_or_default(),
        };
        let mut bytes = header.as_bytes().to_vec();
        for children in &self.levels {
            bytes.extend_from_slice(&(children.len() as u32).to_le_bytes());
            for child in children {
                bytes.extend_from_slice(&child.0);
            }
        }
        let checksum = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// None if the bytes are damaged, or say what cannot be.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if blake3::hash(bytes) != *checksum {
            return None;
        }
        let (header, mut rest) = RawHeader::read_from_prefix(bytes).ok()?;
        let size_bytes = header.size_bytes.get();
        let depth = manifest::depth(size_bytes);
        if header.magic != MAGIC
            || header.version.get() != VERSION
            || size_bytes > VIRTUAL_SIZE_BYTES_MAX
            || header.levels.get() != depth
        {
            return None;
        }
        let mut levels = Vec::new();
        let mut position = 0;
        for level in 0..depth {
            let (count, after) = rest.split_first_chunk()?;
            let count = u32::from_le_bytes(*count) as usize;
            if count > FANOUT {
                return None;
            }
            let (ids, after) = after.split_at_checked(count * 32)?;
            levels.push(manifest::children(ids).collect());
            position += count as u64 * manifest::span(level);
            rest = after;
        }
        // What the levels cover is what is done: there is nothing else to go on from.
        (rest.is_empty() && position == header.position.get()).then(|| Self {
            size_bytes,
            base: (header.has_base.get() != 0).then(|| ManifestId::from_bytes(header.base)),
            position,
            levels,
            written_at_seconds: header.written_at_seconds.get(),
        })
    }

    /// Makes it durable under `id`.
    pub(crate) fn write(&self, core: &Core, id: PartialId) -> Result<()> {
        let mut upload = core.backend.create(Key::Partial(id))?;
        upload.append(&self.encode())?;
        let result = upload.finish();
        // Also after a failure another may be there than before.
        core.registry.wrote_partial(id);
        result
    }

    /// Reads the one under `id`.
    pub(crate) fn read(core: &Core, id: PartialId) -> Result<Self> {
        let key = Key::Partial(id);
        let damaged = || Error::corrupt(format!("partial {id} is damaged"));
        let mut header = [0; HEADER_BYTES];
        core.backend.read(key, 0, &mut header)?;
        let header = RawHeader::read_from_bytes(&header).map_err(|_| damaged())?;
        let length = header.length_bytes.get() as usize;
        if length > PARTIAL_BYTES_MAX {
            return Err(damaged());
        }
        let mut bytes = vec![0; length];
        core.backend.read(key, 0, &mut bytes)?;
        Self::decode(&bytes).ok_or_else(damaged)
    }

    /// Removes the one under `id`, if there is one.
    pub(crate) fn remove(core: &Core, id: PartialId) -> Result<()> {
        // Until it is gone for good, what it reaches stays.
        core.backend.delete(&[Key::Partial(id)])?;
        core.registry.lock().partials.remove(&id);
        Ok(())
    }

    /// Whether everything that it reaches is there and sound as far as is known: one that was half
    /// removed, or that a damaged pack belongs to, is not gone on from. `commit` relies on all of it
    /// from then on.
    pub(crate) fn is_whole(&self, core: &Core, commit: CommitNumber) -> Result<bool> {
        let mut stack: Vec<_> = self.children().collect();
        let mut nodes = HashSet::new();
        while let Some((level, id)) = stack.pop() {
            if id.is_hole() || level > 0 && !nodes.insert(id) {
                continue;
            }
            if !core.touch(commit, id)? {
                return Ok(false);
            }
            if level > 0 {
                let node = core.node(id)?;
                stack.extend(manifest::children(&node).map(|child| (level - 1, child)));
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_survives_its_encoding_and_no_change() {
        let chunk = |number: u8| ChunkId::of(&[number]);
        let levels = vec![vec![chunk(1), ChunkId::HOLE], vec![chunk(2)], vec![]];
        for base in [None, Some(ManifestId::of(b"base"))] {
            let partial = Partial::new(5 << 30, base, 258, levels.clone());
            let bytes = partial.encode();
            assert_eq!(Partial::decode(&bytes), Some(partial));
            for index in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[index] ^= 1;
                assert_eq!(Partial::decode(&damaged), None, "{index}");
                assert_eq!(Partial::decode(&bytes[..index]), None);
            }
        }
    }

    #[test]
    fn a_partial_that_covers_something_else_than_it_says_is_refused() {
        let holes = || vec![ChunkId::HOLE; 2];
        let partial = Partial::new(5 << 30, None, 3, vec![holes(), vec![], vec![]]);
        assert_eq!(Partial::decode(&partial.encode()), None);
        let partial = Partial::new(5 << 30, None, 2, vec![holes()]);
        assert_eq!(Partial::decode(&partial.encode()), None);
    }
}
