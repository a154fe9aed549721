//! What all parts of an open store share, and the one way to the plain bytes of a chunk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::backend::{Afresh, Backend, Folder, Key};
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::index::{Index, IndexFile, Location};
use crate::limits::{NODE_BYTES, PLAIN_BYTES_MAX};
use crate::liveness::{CommitNumber, Touch};
use crate::manifest::{self, ROOT_BYTES, Root};
use crate::pack;
use crate::pack::codec::Packed;
use crate::registry::Registry;
use crate::store::{KeepOpen, Options};

/// An open store.
pub(crate) struct Core {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) index: Index,
    pub(crate) cache: Cache,
    pub(crate) registry: Arc<Registry>,
    /// Held by the collection that runs.
    pub(crate) collecting: Mutex<()>,
    pub(crate) options: Options,
    /// Dropped last.
    _keep_open: KeepOpen,
}

impl Core {
    /// Reads what there is, and brings the index up to date with the packs.
    pub(crate) fn open(
        backend: Box<dyn Backend>,
        index: &IndexFile,
        options: Options,
        keep_open: KeepOpen,
    ) -> Result<Self> {
        let mut manifests = BTreeSet::new();
        let mut partials = BTreeSet::new();
        let mut packs = BTreeMap::new();
        for folder in Folder::ALL {
            for (key, length_bytes) in backend.list(folder)? {
                match key {
                    Key::Pack(id) => drop(packs.insert(id, length_bytes)),
                    Key::Manifest(id) => drop(manifests.insert(id)),
                    Key::Partial(id) => drop(partials.insert(id)),
                }
            }
        }
        let backend: Arc<dyn Backend> = backend.into();
        let registry = Registry::new(manifests, partials);
        let index = Index::open(index, backend.clone(), registry.liveness.clone(), packs)?;
        Ok(Self {
            backend,
            index,
            cache: Cache::new(options.cache_bytes),
            registry,
            collecting: Mutex::new(()),
            options,
            _keep_open: keep_open,
        })
    }

    /// Whether the chunk is there and sound as far as is known; if so `commit` relies on it from now
    /// on, and it stays.
    pub(crate) fn touch(&self, commit: CommitNumber, id: ChunkId) -> Result<bool> {
        loop {
            let generation = self.registry.liveness.generation();
            let Some(location) = self.index.get(id)? else { return Ok(false) };
            match self.registry.liveness.touch(commit, location.slot, generation) {
                Touch::Kept => return Ok(!self.index.is_damaged(id, location)),
                Touch::Doomed => return Ok(false),
                Touch::LookAgain => {}
            }
        }
    }

    /// The root of a manifest that is visible and pinned.
    pub(crate) fn root(&self, id: ManifestId) -> Result<Root> {
        let mut bytes = vec![0; ROOT_BYTES];
        self.backend.read(Key::Manifest(id), 0, &mut bytes).map_err(|error| {
            // It is visible: if it is not there, or is short, it is damaged.
            let kind = match error.kind() {
                ErrorKind::NotFound => ErrorKind::Corrupt,
                kind => kind,
            };
            Error::new(kind, format!("manifest {id} cannot be read")).with_source(error)
        })?;
        Root::decode(id, &bytes)
    }

    /// The plain bytes of a chunk, from memory if they are there.
    pub(crate) fn cached(&self, id: ChunkId, plain_bytes: usize) -> Result<Arc<Vec<u8>>> {
        if let Some(plain) = self.cache.get(id) {
            return Ok(plain);
        }
        let plain: Arc<Vec<u8>> = self.load(id, plain_bytes)?.into();
        self.cache.insert(id, plain.clone());
        Ok(plain)
    }

    /// The children of a manifest node.
    pub(crate) fn node(&self, id: ChunkId) -> Result<Arc<Vec<u8>>> {
        self.cached(id, NODE_BYTES)
    }

    /// The plain bytes of a chunk, read from its pack and verified.
    pub(crate) fn load(&self, id: ChunkId, plain_bytes: usize) -> Result<Vec<u8>> {
        let mut tried = None;
        loop {
            let location = self.index.get(id)?.ok_or_else(|| missing(id))?;
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
        let unpack = |payload| pack::codec::unpack(id, location.codec, payload, plain_bytes);
        let backend = self.backend.as_ref();
        let mut plain = unpack(self.payload(backend, location)?);
        if plain.is_none() {
            // A cache on the way may be what is damaged.
            plain = unpack(self.payload(&Afresh(backend), location)?);
        }
        self.index.set_damaged(id, location, plain.is_none());
        plain.ok_or_else(|| self.damaged(id, location))
    }

    /// A chunk as it is stored and the length of its plain bytes, verified, for moving it.
    pub(crate) fn load_packed(&self, id: ChunkId, location: Location) -> Result<(Packed, usize)> {
        // Past caches: what is moved is read once.
        let payload = self.payload(&Afresh(self.backend.as_ref()), location)?;
        let plain_bytes = if location.node { NODE_BYTES } else { PLAIN_BYTES_MAX };
        let plain = pack::codec::unpack(id, location.codec, payload.clone(), plain_bytes);
        self.index.set_damaged(id, location, plain.is_none());
        plain
            .map(|_| (Packed::new(location.codec, payload), plain_bytes))
            .ok_or_else(|| self.damaged(id, location))
    }

    fn payload(&self, backend: &dyn Backend, location: Location) -> Result<Vec<u8>> {
        let pack = self.index.pack(location.slot.pack).ok_or_else(|| {
            Error::corrupt(format!("the index names a pack {} that is gone", location.slot.pack))
        })?;
        let mut payload = vec![0; (location.stored_bytes as usize).min(PLAIN_BYTES_MAX)];
        backend.read(Key::Pack(pack.id), u64::from(location.offset), &mut payload)?;
        Ok(payload)
    }

    fn damaged(&self, id: ChunkId, location: Location) -> Error {
        let pack = self.index.pack(location.slot.pack);
        let pack = pack.map_or_else(|| "that is gone".to_owned(), |pack| pack.id.to_string());
        Error::corrupt(format!(
            "chunk {id} is damaged in pack {pack} at offset {}",
            location.offset
        ))
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
