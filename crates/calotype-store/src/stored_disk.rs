//! A committed disk, read lazily: every byte handed out hashes to its name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use calotype_disk::{Disk, Extent, ExtentKind, Piece, SharedBytes};

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::{CHUNK_BYTES, EXTENT_STEPS_MAX, NODE_BYTES};
use crate::manifest::{self, Root};
use crate::registry::Pin;

/// An open disk of the store. Its manifest is not collected while it is open.
pub struct StoredDisk {
    core: Arc<Core>,
    manifest: ManifestId,
    root: Root,
    fetched_chunks: AtomicU64,
    _pin: Pin,
}

/// What was read of an open disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStatistics {
    /// Chunks that were read from packs, because they were not in memory.
    pub fetched_chunks: u64,
    /// The bytes of the disk in them; in the packs they are fewer, compressed.
    pub fetched_bytes: u64,
}

impl StoredDisk {
    pub(crate) fn open(core: &Arc<Core>, id: ManifestId) -> Result<Self> {
        let pin = core.registry.pin(id).ok_or_else(|| Error::no_manifest(id))?;
        let root = core.root(id)?;
        let fetched_chunks = AtomicU64::new(0);
        Ok(Self { core: core.clone(), manifest: id, root, fetched_chunks, _pin: pin })
    }

    /// What was read since it was opened.
    pub fn statistics(&self) -> DiskStatistics {
        let fetched_chunks = self.fetched_chunks.load(Ordering::Relaxed);
        DiskStatistics { fetched_chunks, fetched_bytes: fetched_chunks * CHUNK_BYTES as u64 }
    }

    /// The name of the disk.
    pub fn manifest(&self) -> ManifestId {
        self.manifest
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// The name of `chunk`, and the first chunk after it of which the name is not known to be a
    /// hole as well.
    fn find(&self, chunk: u64) -> Result<(ChunkId, u64)> {
        let mut level = self.root.depth();
        let mut id =
            self.root.children.get(manifest::slot(level, chunk)).copied().unwrap_or(ChunkId::HOLE);
        level -= 1;
        while level > 0 && !id.is_hole() {
            id = manifest::child(&self.node(id)?, manifest::slot(level, chunk));
            level -= 1;
        }
        let span = manifest::span(level);
        Ok((id, (chunk / span + 1) * span))
    }

    fn node(&self, id: ChunkId) -> Result<Arc<Vec<u8>>> {
        self.core.cache.get_or_load(id, || self.core.load(id, NODE_BYTES))
    }

    /// The plain bytes of a chunk that is no hole. However many ask for it, it is read once.
    fn chunk(&self, id: ChunkId) -> Result<Arc<Vec<u8>>> {
        self.core.cache.get_or_load(id, || {
            self.fetched_chunks.fetch_add(1, Ordering::Relaxed);
            self.core.load(id, CHUNK_BYTES)
        })
    }

    /// Brings a chunk into memory, if it is none of zeros.
    pub(crate) fn fetch(&self, chunk: u64) -> Result<()> {
        let (id, _) = self.find(chunk)?;
        if !id.is_hole() {
            self.chunk(id)?;
        }
        Ok(())
    }

    fn check(&self, offset: u64, length: u64) -> calotype_disk::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.root.size_bytes => Ok(()),
            _ => Err(calotype_disk::Error::new(
                calotype_disk::ErrorKind::OutOfBounds,
                format!(
                    "{length} bytes at offset {offset} of a disk of {} bytes",
                    self.root.size_bytes
                ),
            )),
        }
    }
}

impl Disk for StoredDisk {
    fn size_bytes(&self) -> u64 {
        self.root.size_bytes
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> calotype_disk::Result<()> {
        self.check(offset, buf.len() as u64)?;
        while !buf.is_empty() {
            let part_bytes = match self.piece_at(offset, buf.len() as u64)? {
                Piece::Zeros(length) => {
                    buf[..length as usize].fill(0);
                    length as usize
                }
                Piece::Bytes(bytes) => {
                    buf[..bytes.len()].copy_from_slice(&bytes);
                    bytes.len()
                }
                Piece::Unread(length) => {
                    let bytes = self.read_piece(offset, length as usize)?;
                    buf[..bytes.len()].copy_from_slice(&bytes);
                    bytes.len()
                }
            };
            offset += part_bytes as u64;
            buf = &mut buf[part_bytes..];
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        self.check(offset, 1)?;
        let chunks = manifest::chunk_count(self.root.size_bytes);
        let find = |chunk| self.find(chunk).map_err(|error| self.disk_error(offset, error));
        let (id, mut end) = find(offset / CHUNK_BYTES as u64)?;
        for _ in 1..EXTENT_STEPS_MAX {
            if end >= chunks {
                break;
            }
            let (next_id, next) = find(end)?;
            if next_id.is_hole() != id.is_hole() {
                break;
            }
            end = next;
        }
        let end = (end * CHUNK_BYTES as u64).min(self.root.size_bytes);
        let kind = if id.is_hole() { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(Extent { length_bytes: end - offset, kind })
    }

    fn piece_at(&self, offset: u64, length_max: u64) -> calotype_disk::Result<Piece> {
        self.check(offset, length_max)?;
        let (id, end) = self
            .find(offset / CHUNK_BYTES as u64)
            .map_err(|error| self.disk_error(offset, error))?;
        let length = (end * CHUNK_BYTES as u64 - offset).min(length_max);
        if id.is_hole() {
            return Ok(Piece::Zeros(length));
        }
        Ok(match self.core.cache.get(id) {
            Some(chunk) => Piece::Bytes(part(chunk, offset, length as usize)),
            None => Piece::Unread(length),
        })
    }

    fn read_piece(&self, offset: u64, length: usize) -> calotype_disk::Result<SharedBytes> {
        self.check(offset, length as u64)?;
        let number = offset / CHUNK_BYTES as u64;
        let last = (offset + length as u64).saturating_sub(1) / CHUNK_BYTES as u64;
        let (id, _) = self.find(number).map_err(|error| self.disk_error(offset, error))?;
        if id.is_hole() || last > number {
            // Not a piece that was called unread.
            let mut bytes = vec![0; length];
            self.read_at(offset, &mut bytes)?;
            return Ok(bytes.into());
        }
        let chunk = self.chunk(id).map_err(|error| self.disk_error(offset, error))?;
        Ok(part(chunk, offset, length))
    }
}

/// `length` bytes from `offset` of the disk, which lie in `chunk`.
fn part(chunk: Arc<Vec<u8>>, offset: u64, length: usize) -> SharedBytes {
    let begin = (offset % CHUNK_BYTES as u64) as usize;
    SharedBytes::new(chunk, begin..begin + length)
}

impl StoredDisk {
    fn disk_error(&self, offset: u64, error: Error) -> calotype_disk::Error {
        let kind = match error.kind() {
            ErrorKind::Corrupt => calotype_disk::ErrorKind::Corrupt,
            _ => calotype_disk::ErrorKind::Io,
        };
        let context = format!("reading disk {} at offset {offset}", self.manifest);
        calotype_disk::Error::new(kind, context).with_source(error)
    }
}
