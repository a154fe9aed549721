//! Where a copy of a damaged chunk may be.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::{Afresh, Backend, Folder, Key, Local};
use crate::core::Core;
use crate::error::{ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::PLAIN_BYTES_MAX;
use crate::manifest::ROOT_BYTES;
use crate::pack::{self, PackId, Record, codec};

/// Takes a chunk that was found; what it is told is compared with the name before it is used.
pub type TakeCopy<'a> = dyn FnMut(ChunkId, &[u8]) -> Result<()> + 'a;

/// Somewhere that may have copies of what a store has lost.
pub trait ChunkSource: Sync {
    /// Tells `take` what it has of the `wanted` chunks, of which the plain lengths are given. What
    /// cannot be read is left out. Fails only if `take` does.
    fn copies(&self, wanted: &BTreeMap<ChunkId, usize>, take: &mut TakeCopy<'_>) -> Result<()>;

    /// The file of a manifest, if there is one.
    fn manifest(&self, id: ManifestId) -> Option<Vec<u8>> {
        let _ = id;
        None
    }
}

/// The packs of another store, for reading only: it may be a backup, lie on a medium that cannot be
/// written, or be in use by another process.
pub struct StoreCopy {
    backend: Box<dyn Backend>,
    packs: Vec<(PackId, u64)>,
}

impl StoreCopy {
    /// The store in `directory`; nothing there is changed.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::over(Box::new(Local::open_read_only(directory)?))
    }

    /// The store in any backend.
    pub fn over(backend: Box<dyn Backend>) -> Result<Self> {
        let packs = backend.list(Folder::Packs)?.into_iter().filter_map(|file| match file {
            (Key::Pack(pack), length_bytes) => Some((pack, length_bytes)),
            _ => None,
        });
        let packs = packs.collect();
        Ok(Self { backend, packs })
    }
}

impl ChunkSource for StoreCopy {
    fn copies(&self, wanted: &BTreeMap<ChunkId, usize>, take: &mut TakeCopy<'_>) -> Result<()> {
        packed_copies(self.backend.as_ref(), &self.packs, wanted, take)
    }

    fn manifest(&self, id: ManifestId) -> Option<Vec<u8>> {
        let mut root = vec![0; ROOT_BYTES];
        self.backend.read(Key::Manifest(id), 0, &mut root).ok()?;
        Some(root)
    }
}

impl std::fmt::Debug for StoreCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreCopy").field("packs", &self.packs.len()).finish_non_exhaustive()
    }
}

/// What was verified when it was read, and is still in memory.
pub(super) struct Memory<'a>(pub(super) &'a Core);

impl ChunkSource for Memory<'_> {
    fn copies(&self, wanted: &BTreeMap<ChunkId, usize>, take: &mut TakeCopy<'_>) -> Result<()> {
        wanted
            .keys()
            .filter_map(|&id| Some((id, self.0.cache.get(id)?)))
            .try_for_each(|(id, plain)| take(id, &plain))
    }
}

/// Pieces of the chunk's own pack that are kept on the local disk.
pub(super) struct LocalCache<'a>(pub(super) &'a Core);

impl LocalCache<'_> {
    fn copy(&self, id: ChunkId, plain_bytes: usize) -> Option<Vec<u8>> {
        let core = self.0;
        let location = core.index.get(id).ok()??;
        let pack = core.index.pack(location.slot.pack)?;
        let mut payload = vec![0; (location.stored_bytes as usize).min(PLAIN_BYTES_MAX)];
        let offset = u64::from(location.offset);
        core.backend.read(Key::Pack(pack.id), offset, &mut payload).ok()?;
        codec::unpack(id, location.codec, payload, plain_bytes)
    }
}

impl ChunkSource for LocalCache<'_> {
    fn copies(&self, wanted: &BTreeMap<ChunkId, usize>, take: &mut TakeCopy<'_>) -> Result<()> {
        for (&id, &plain_bytes) in wanted {
            if let Some(plain) = self.copy(id, plain_bytes) {
                take(id, &plain)?;
            }
        }
        Ok(())
    }
}

/// The store's own packs: a chunk may be in more than one, if two commits brought it at once, or it was
/// moved and the old pack is still there.
pub(super) struct OtherPacks<'a>(pub(super) &'a Core);

impl ChunkSource for OtherPacks<'_> {
    fn copies(&self, wanted: &BTreeMap<ChunkId, usize>, take: &mut TakeCopy<'_>) -> Result<()> {
        let packs = self.0.index.packs();
        let packs: Vec<_> = packs.values().map(|info| (info.id, info.length_bytes)).collect();
        packed_copies(&Afresh(self.0.backend.as_ref()), &packs, wanted, take)
    }
}

fn packed_copies(
    backend: &dyn Backend,
    packs: &[(PackId, u64)],
    wanted: &BTreeMap<ChunkId, usize>,
    take: &mut TakeCopy<'_>,
) -> Result<()> {
    for &(pack, length_bytes) in packs {
        let records = match pack::examine_pack(backend, pack, length_bytes) {
            Ok((opened, _)) => opened.records,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(%error, %pack, "looking for copies: a pack cannot be read");
                }
                continue;
            }
        };
        for record in records {
            if let Some(&plain_bytes) = wanted.get(&record.id)
                && let Some(plain) = read(backend, pack, &record, plain_bytes)
            {
                take(record.id, &plain)?;
            }
        }
    }
    Ok(())
}

fn read(
    backend: &dyn Backend,
    pack: PackId,
    record: &Record,
    plain_bytes: usize,
) -> Option<Vec<u8>> {
    let mut payload = vec![0; (record.stored_bytes as usize).min(PLAIN_BYTES_MAX)];
    backend.read(Key::Pack(pack), u64::from(record.offset), &mut payload).ok()?;
    codec::unpack(record.id, record.codec, payload, plain_bytes)
}

/// A file of a manifest, if it is what its name says.
pub(super) fn sound_manifest(sources: &[&dyn ChunkSource], id: ManifestId) -> Option<Vec<u8>> {
    let sound = |bytes: &Vec<u8>| bytes.len() == ROOT_BYTES && ManifestId::of(bytes) == id;
    sources.iter().find_map(|source| source.manifest(id).filter(sound))
}
