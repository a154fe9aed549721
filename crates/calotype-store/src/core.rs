//! What all parts of an open store share, and the one way to the plain bytes of a chunk.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use crate::backend::{Backend, Key};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::id::{ChunkId, ManifestId};
use crate::index::{Index, Location};
use crate::limits::{NODE_BYTES, PLAIN_BYTES_MAX};
use crate::manifest::{self, ROOT_BYTES, Root};
use crate::pack::{self, Codec};
use crate::registry::Registry;
use crate::store::Options;

/// An open store.
pub(crate) struct Core {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) index: Index,
    pub(crate) cache: Cache,
    pub(crate) registry: Arc<Registry>,
    /// Held by the collection that runs.
    pub(crate) collecting: Mutex<()>,
    /// The number of the next pack.
    pub(crate) next_pack: AtomicU32,
    pub(crate) options: Options,
}

impl Core {
    /// Reads what there is, and rebuilds the index from the packs.
    pub(crate) fn open(backend: Box<dyn Backend>, options: Options) -> Result<Self> {
        let manifests = backend.manifests()?.into_iter().collect();
        let mut packs = backend.packs()?;
        packs.sort_unstable();
        let index = Index::default();
        for &(pack, length_bytes) in &packs {
            let opened = pack::open_pack(backend.as_ref(), pack, length_bytes)?;
            index.load_pack(pack, length_bytes, &opened.records, opened.scanned);
        }
        let next_pack = packs.last().map_or(1, |(pack, _)| pack.0.saturating_add(1));
        Ok(Self {
            backend,
            index,
            cache: Cache::new(options.cache_bytes),
            registry: Registry::new(manifests),
            collecting: Mutex::new(()),
            next_pack: AtomicU32::new(next_pack),
            options,
        })
    }

    /// The root of a manifest that is visible and pinned.
    pub(crate) fn root(&self, id: ManifestId) -> Result<Root> {
        let mut bytes = vec![0; ROOT_BYTES];
        self.backend.read(Key::Manifest(id), 0, &mut bytes).map_err(|error| {
            Error::corrupt(format!("manifest {id} cannot be read")).with_source(error)
        })?;
        Root::decode(id, &bytes)
    }

    /// The plain bytes of a chunk, from memory if they are there.
    pub(crate) fn cached(&self, id: ChunkId, plain_bytes: usize) -> Result<Arc<[u8]>> {
        if let Some(plain) = self.cache.get(id) {
            return Ok(plain);
        }
        let plain: Arc<[u8]> = self.load(id, plain_bytes)?.into();
        self.cache.insert(id, plain.clone());
        Ok(plain)
    }

    /// The children of a manifest node.
    pub(crate) fn node(&self, id: ChunkId) -> Result<Arc<[u8]>> {
        self.cached(id, NODE_BYTES)
    }

    /// The plain bytes of a chunk, read from its pack and verified.
    pub(crate) fn load(&self, id: ChunkId, plain_bytes: usize) -> Result<Vec<u8>> {
        let mut tried = None;
        loop {
            let location = self.index.get(id).ok_or_else(|| missing(id))?;
            // A collection may have moved the chunk since it was looked up; its new place is tried.
            if let Some((failed, error)) = tried
                && failed == location
            {
                return Err(error);
            }
            match self.load_from(id, location, plain_bytes) {
                Ok(plain) => return Ok(plain),
                Err(error) => tried = Some((location, error)),
            }
        }
    }

    fn load_from(&self, id: ChunkId, location: Location, plain_bytes: usize) -> Result<Vec<u8>> {
        let payload = self.payload(location)?;
        let plain = pack::codec::unpack(id, location.codec, payload, plain_bytes);
        self.index.set_damaged(id, location, plain.is_none());
        plain.ok_or_else(|| damaged(id, location))
    }

    /// The payload of a chunk and the length of its plain bytes, verified, for moving it.
    pub(crate) fn load_packed(&self, id: ChunkId, location: Location) -> Result<(Vec<u8>, usize)> {
        let payload = self.payload(location)?;
        let lengths = match location.codec {
            Codec::Raw => [payload.len(), payload.len()],
            // Only these two exist; which one it is, only the plain bytes tell.
            Codec::Zstd => [PLAIN_BYTES_MAX, NODE_BYTES],
        };
        let plain = lengths.into_iter().find(|&plain_bytes| {
            pack::codec::unpack(id, location.codec, payload.clone(), plain_bytes).is_some()
        });
        self.index.set_damaged(id, location, plain.is_none());
        Ok((payload, plain.ok_or_else(|| damaged(id, location))?))
    }

    fn payload(&self, location: Location) -> Result<Vec<u8>> {
        let mut payload = vec![0; (location.stored_bytes as usize).min(PLAIN_BYTES_MAX)];
        self.backend.read(Key::Pack(location.pack), u64::from(location.offset), &mut payload)?;
        Ok(payload)
    }

    /// The name of what is at `level` and covers `chunk` (0 = the chunk itself) in the tree of
    /// `root`; `level` must be below the root's.
    pub(crate) fn at_level(&self, root: &Root, level: u32, chunk: u64) -> Result<ChunkId> {
        let mut at = root.depth();
        if chunk >= manifest::span(at) {
            return Ok(ChunkId::HOLE);
        }
        let slot = manifest::slot(at, chunk);
        let mut id = root.children.get(slot).copied().unwrap_or(ChunkId::HOLE);
        at -= 1;
        while at > level && !id.is_hole() {
            id = manifest::child(&self.node(id)?, manifest::slot(at, chunk));
            at -= 1;
        }
        Ok(id)
    }
}

fn missing(id: ChunkId) -> Error {
    Error::corrupt(format!("chunk {id} is missing"))
}

fn damaged(id: ChunkId, location: Location) -> Error {
    Error::corrupt(format!(
        "chunk {id} is damaged in pack {} at offset {}",
        location.pack, location.offset
    ))
}
