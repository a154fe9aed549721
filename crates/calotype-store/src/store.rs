//! The store as its callers see it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calotype_disk::Disk;

use crate::backend::files::{Files, RealFiles};
use crate::backend::{Backend, Cached, Local, Owner, Remote};
use crate::collect::{Collected, Collection};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::ManifestId;
use crate::index::IndexFile;
use crate::ingest::{self, Committed};
use crate::limits::{CACHE_BYTES, CACHE_DISK_BYTES, PACK_BYTES};
use crate::location::Location;
use crate::manifest::ROOT_BYTES;
use crate::partial::PartialId;
use crate::progress::Progress;
use crate::registry::Pin;
use crate::scrub::{self, ScrubOptions, Scrubbed};
use crate::space::{self, SpaceOfAll};
use crate::state::{StateDirectory, index_path};
use crate::stored_disk::StoredDisk;
use crate::verify::{self, Verified};

/// Sizes that an operator may want to choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for verified chunks, shared by all disks of the store. 128 MiB by default.
    pub cache_bytes: usize,
    /// A pack is closed when it has grown to this. 128 MiB by default.
    pub pack_bytes: u64,
    /// Where pieces of packs of a remote store are kept. `cache` in the state directory by default.
    pub cache_directory: Option<PathBuf>,
    /// Room for them; 0 to keep none. 8 GiB by default.
    pub cache_disk_bytes: u64,
    /// Opens a remote store that another process is marked to have open. Only if that process has
    /// ended for good: each would delete what the other needs.
    pub take_over: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: CACHE_BYTES,
            pack_bytes: PACK_BYTES,
            cache_directory: None,
            cache_disk_bytes: CACHE_DISK_BYTES,
            take_over: false,
        }
    }
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Manifests, i.e. distinct disks.
    pub manifests: u64,
    /// Pack files.
    pub packs: u64,
    /// Distinct chunks, the nodes of manifests included.
    pub chunks: u64,
    /// Bytes of all packs and manifests.
    pub stored_bytes: u64,
}

/// A directory of images. Clones share it; it is closed with the last of them and of its disks.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
}

/// A disk that is not collected while this lives: see [`Store::keep`].
#[derive(Debug)]
#[must_use = "dropping it leaves the disk to the next collection"]
pub struct Kept {
    _pin: Pin,
}

/// Kept for as long as the store is open, and let go after it.
pub(crate) type KeepOpen = Box<dyn std::any::Any + Send + Sync>;

impl Store {
    /// Opens the store in `directory`, creating it if there is none.
    ///
    /// Only one process can have it open, and only once: [`crate::ErrorKind::Locked`].
    /// Half-written files of a process that died are removed.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::open_with(directory, &Options::default())
    }

    /// [`Store::open`] with sizes chosen by the caller.
    pub fn open_with(directory: &Path, options: &Options) -> Result<Self> {
        Self::open_at(&Location::Directory(directory.to_owned()), directory, options)
    }

    /// Opens the store at `location`, creating it if there is none, with its index and caches in
    /// `state_directory`. If the store is remote they can be lost without harm; the next opening
    /// reads the footers of all packs.
    ///
    /// [`crate::ErrorKind::Locked`] if another process has either of them open. A second process on another
    /// machine is found, not kept out: see `docs/object-storage.md`.
    pub fn open_at(location: &Location, state_directory: &Path, options: &Options) -> Result<Self> {
        let state = StateDirectory::open(state_directory)?;
        match location {
            Location::Directory(directory) if state.is_at(directory) => {
                let backend = Local::open(directory)?;
                Self::open_in(Box::new(backend), &state.index(), options, Box::new(state))
            }
            Location::Directory(directory) => {
                let store_lock = StateDirectory::open(directory)?;
                let backend = Local::open(directory)?;
                let index = state.index();
                Self::open_in(Box::new(backend), &index, options, Box::new((state, store_lock)))
            }
            Location::S3(location) => {
                let owner = Owner::here(state.id()?);
                let backend = Remote::open_s3(location)?.owned_by(&owner, options.take_over)?;
                Self::open_cached(Box::new(backend), state, options)
            }
        }
    }

    /// Opens the store whose files `backend` keeps, with its index and caches in `state_directory`, where
    /// nobody else may have it open. It must pass [`crate::backend::conformance`].
    pub fn open_on(
        backend: Box<dyn Backend>,
        state_directory: &Path,
        options: &Options,
    ) -> Result<Self> {
        Self::open_cached(backend, StateDirectory::open(state_directory)?, options)
    }

    fn open_cached(
        backend: Box<dyn Backend>,
        state: StateDirectory,
        options: &Options,
    ) -> Result<Self> {
        let backend = if options.cache_disk_bytes == 0 {
            backend
        } else {
            let directory =
                options.cache_directory.clone().unwrap_or_else(|| state.path.join("cache"));
            Box::new(Cached::open(backend, &directory, options.cache_disk_bytes)?)
        };
        Self::open_in(backend, &state.index(), options, Box::new(state))
    }

    fn open_in(
        backend: Box<dyn Backend>,
        index: &Path,
        options: &Options,
        keep_open: KeepOpen,
    ) -> Result<Self> {
        let index = IndexFile { files: Arc::new(RealFiles), path: index.to_owned() };
        Self::over(backend, &index, options, keep_open)
    }

    /// Forgets the index of the store in `directory`, which must not be open, so that the next start
    /// builds it from the packs. Needed only if something is wrong that was not noticed.
    pub fn drop_index(directory: &Path) -> Result<()> {
        let state = StateDirectory::open(directory)?;
        let path = index_path(&state.path);
        match RealFiles.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("removing {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn over(
        backend: Box<dyn Backend>,
        index: &IndexFile,
        options: &Options,
        keep_open: KeepOpen,
    ) -> Result<Self> {
        Ok(Self { core: Arc::new(Core::open(backend, index, options.clone(), keep_open)?) })
    }

    /// Reads `disk` and stores what is new. Durable when it returns; until then nothing of it is
    /// visible, and after a failure nothing is left but room that the next collection frees.
    ///
    /// With `base`, runs of kind `Parent` keep the base's part of the tree without being read, so
    /// the cost is that of the change; without, they are zeros.
    pub fn commit(
        &self,
        disk: &dyn Disk,
        base: Option<ManifestId>,
        progress: &dyn Progress,
    ) -> Result<Committed> {
        ingest::commit(&self.core, disk, base, None, progress)
    }

    /// [`Store::commit`] that goes on where an earlier one of the same work was interrupted by a
    /// crash, without reading again what was durable then. What it has is kept for a week, if nobody
    /// goes on with it.
    ///
    /// `work` must name the disk as it is now: if the same name is used for another disk, the result is a
    /// mixture of both.
    pub fn commit_resumable(
        &self,
        disk: &dyn Disk,
        base: Option<ManifestId>,
        work: PartialId,
        progress: &dyn Progress,
    ) -> Result<Committed> {
        ingest::commit(&self.core, disk, base, Some(work), progress)
    }

    /// Gives up work that [`Store::commit_resumable`] began and nobody will go on with.
    pub fn forget_partial(&self, work: PartialId) -> Result<()> {
        crate::partial::Partial::remove(&self.core, work)
    }

    /// Opens a committed disk. Costs the same whatever its size; bytes are read when asked for,
    /// and verified before they are handed out.
    pub fn disk(&self, id: ManifestId) -> Result<Arc<StoredDisk>> {
        StoredDisk::open(&self.core, id).map(Arc::new)
    }

    /// Reads every byte of one disk again and compares it with its name.
    ///
    /// [`crate::ErrorKind::Corrupt`] if any is damaged; the cause names a damaged chunk.
    pub fn verify(&self, id: ManifestId) -> Result<Verified> {
        let _pin = self.pin(id)?;
        verify::verify(&self.core, id)
    }

    /// Reads everything again and compares it with its name; names the disks that damage harms, and
    /// repairs what there is a copy of. Commits, collections and readers go on beside it.
    ///
    /// Damage is no error: see [`Scrubbed::is_whole`]. [`crate::ErrorKind::Cancelled`] if `progress`
    /// says so; what was repaired until then is.
    pub fn scrub(&self, options: &ScrubOptions<'_>, progress: &dyn Progress) -> Result<Scrubbed> {
        scrub::scrub(&self.core, options, progress)
    }

    /// What each of `disks` takes, what of it others of them need, too, and what not.
    ///
    /// With the roots of [`Store::collect`], the unique bytes of a disk are what is freed when the
    /// last holder of it is gone.
    pub fn space(&self, disks: &BTreeSet<ManifestId>) -> Result<SpaceOfAll> {
        space::space(&self.core, disks)
    }

    /// Keeps a disk from being collected for as long as the answer lives. For who moves or copies it from
    /// one record to another: a collection that reads the records meanwhile may find it in neither.
    pub fn keep(&self, id: ManifestId) -> Result<Kept> {
        Ok(Kept { _pin: self.pin(id)? })
    }

    /// [`Store::begin_collection`] and [`Collection::run`] in one.
    ///
    /// `roots` must include every manifest recorded by the caller up to now: if a [`Committed`]
    /// may be recorded and dropped between reading the roots and this call, use
    /// [`Store::begin_collection`] before reading them.
    pub fn collect(&self, roots: &BTreeSet<ManifestId>) -> Result<Collected> {
        self.begin_collection().run(roots)
    }

    /// Begins a collection, to be called before the roots are read. Waits for another to end.
    pub fn begin_collection(&self) -> Collection<'_> {
        Collection::begin(&self.core)
    }

    /// Whether the store has this manifest.
    pub fn contains(&self, id: ManifestId) -> bool {
        self.core.registry.lock().manifests.contains(&id)
    }

    /// The size of the virtual disk.
    pub fn size_bytes(&self, id: ManifestId) -> Result<u64> {
        let _pin = self.pin(id)?;
        Ok(self.core.root(id)?.size_bytes)
    }

    /// Compressed bytes of all chunks that the manifest reaches, those shared with others included.
    /// Reads the nodes of the tree: a millionth of the disk's size in reads of 8 KiB each.
    pub fn stored_bytes(&self, id: ManifestId) -> Result<u64> {
        let _pin = self.pin(id)?;
        let reached = verify::reach(&self.core, id, |node| self.core.node(node))?;
        verify::stored_bytes(&self.core, &reached)
    }

    /// All manifests of the store, for comparison with a catalog.
    pub fn manifests(&self) -> BTreeSet<ManifestId> {
        self.core.registry.lock().manifests.clone()
    }

    /// What the store holds now.
    pub fn usage(&self) -> Usage {
        let (packs, chunks, pack_bytes) = self.core.index.usage();
        let manifests = self.core.registry.lock().manifests.len() as u64;
        let stored_bytes = pack_bytes + manifests * ROOT_BYTES as u64;
        Usage { manifests, packs, chunks, stored_bytes }
    }

    /// Memory for verified chunks.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.core.options.cache_bytes
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> Arc<Core> {
        self.core.clone()
    }

    fn pin(&self, id: ManifestId) -> Result<Pin> {
        self.core.registry.pin(id).ok_or_else(|| Error::no_manifest(id))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("usage", &self.usage()).finish()
    }
}
