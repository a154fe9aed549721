//! A committed disk, read lazily: every byte handed out hashes to its name.

use std::sync::Arc;

use calotype_disk::{Disk, Extent, ExtentKind};

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::{CHUNK_BYTES, EXTENT_STEPS_MAX};
use crate::manifest::{self, Root};
use crate::registry::Pin;

/// An open disk of the store. Its manifest is not collected while it is open.
pub struct StoredDisk {
    core: Arc<Core>,
    manifest: ManifestId,
    root: Root,
    _pin: Pin,
}

impl StoredDisk {
    pub(crate) fn open(core: &Arc<Core>, id: ManifestId) -> Result<Self> {
        let pin = core.registry.pin(id).ok_or_else(|| Error::no_manifest(id))?;
        let root = core.root(id)?;
        Ok(Self { core: core.clone(), manifest: id, root, _pin: pin })
    }

    /// The name of the disk.
    pub fn manifest(&self) -> ManifestId {
        self.manifest
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Whether `chunk` is a hole, and the first chunk after it of which the same is known.
    fn run_at(&self, chunk: u64) -> Result<(bool, u64)> {
        let mut level = self.root.depth();
        let mut id =
            self.root.children.get(manifest::slot(level, chunk)).copied().unwrap_or(ChunkId::HOLE);
        level -= 1;
        while level > 0 && !id.is_hole() {
            id = manifest::child(&self.core.node(id)?, manifest::slot(level, chunk));
            level -= 1;
        }
        let span = manifest::span(level);
        Ok((id.is_hole(), (chunk / span + 1) * span))
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
            let in_chunk = (offset % CHUNK_BYTES as u64) as usize;
            let length = (CHUNK_BYTES - in_chunk).min(buf.len());
            let (part, rest) = buf.split_at_mut(length);
            let id = self
                .core
                .at_level(&self.root, 0, offset / CHUNK_BYTES as u64)
                .map_err(|error| self.disk_error(offset, error))?;
            if id.is_hole() {
                part.fill(0);
            } else {
                let chunk = self
                    .core
                    .cached(id, CHUNK_BYTES)
                    .map_err(|error| self.disk_error(offset, error))?;
                part.copy_from_slice(&chunk[in_chunk..in_chunk + length]);
            }
            offset += length as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        self.check(offset, 1)?;
        let chunks = manifest::chunk_count(self.root.size_bytes);
        let (hole, mut end) = self
            .run_at(offset / CHUNK_BYTES as u64)
            .map_err(|error| self.disk_error(offset, error))?;
        for _ in 1..EXTENT_STEPS_MAX {
            if end >= chunks {
                break;
            }
            let (next_hole, next) =
                self.run_at(end).map_err(|error| self.disk_error(offset, error))?;
            if next_hole != hole {
                break;
            }
            end = next;
        }
        let end = (end * CHUNK_BYTES as u64).min(self.root.size_bytes);
        let kind = if hole { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(Extent { length_bytes: end - offset, kind })
    }
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
