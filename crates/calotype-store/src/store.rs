//! The store as its callers see it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use calotype_disk::{Disk, Extent};

use crate::error::{Error, ErrorKind, Result};
use crate::id::ManifestId;
use crate::progress::Progress;

/// Sizes that an operator may want to choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for verified chunks, shared by all disks of the store. 128 MiB by default.
    pub cache_bytes: usize,
    /// A pack is closed when it has grown to this. 128 MiB by default.
    pub pack_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 128 << 20, pack_bytes: 128 << 20 }
    }
}

/// A directory of images. Clones share it.
#[derive(Clone)]
pub struct Store {
    _inner: Arc<()>,
}

/// An open disk of the store. Its manifest is not collected while it is open.
pub struct StoredDisk {
    manifest: ManifestId,
    size_bytes: u64,
}

/// A committed disk. While it is alive its manifest and chunks are not collected, so the caller
/// keeps it until the manifest is recorded where [`Store::collect`] finds its roots.
#[derive(Debug)]
#[must_use = "dropping it leaves the manifest to the next collection"]
pub struct Committed {
    /// The name of the disk.
    pub manifest: ManifestId,
    /// The size of the virtual disk.
    pub size_bytes: u64,
    /// Bytes read from the disk that was committed, and from its base.
    pub bytes_read: u64,
    /// Bytes that the store grew by.
    pub bytes_stored: u64,
    /// Chunks (of data) that the store did not have.
    pub chunks_new: u64,
    /// Chunks that were read and turned out to be stored already.
    pub chunks_reused: u64,
}

/// What [`Store::verify`] read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The size of the virtual disk.
    pub size_bytes: u64,
    /// Distinct chunks, those of the manifest included.
    pub chunks: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests that were neither roots nor in use.
    pub manifests_removed: u64,
    /// Chunks that no manifest needs.
    pub chunks_removed: u64,
    /// Packs of which nothing was left.
    pub packs_deleted: u64,
    /// Packs whose rest was moved to a new pack.
    pub packs_rewritten: u64,
    /// Bytes that the store shrank by.
    pub bytes_freed: u64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Manifests, i.e. distinct disks.
    pub manifests: u64,
    /// Pack files.
    pub packs: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Bytes of all files of the store.
    pub stored_bytes: u64,
}

/// A collection that has begun: everything committed or open from now on is safe from it.
pub struct Collection<'store> {
    _store: &'store Store,
}

impl Collection<'_> {
    /// Removes what is reachable neither from `roots` nor from anything in use.
    pub fn run(self, _roots: &BTreeSet<ManifestId>) -> Result<Collected> {
        Ok(Collected::default())
    }
}

impl Store {
    /// Opens the store in `directory`, creating it if there is none.
    ///
    /// Only one process can have it open: [`ErrorKind::Locked`]. Half-written files of a
    /// process that died are removed.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::open_with(directory, &Options::default())
    }

    /// [`Store::open`] with sizes chosen by the caller.
    pub fn open_with(directory: &Path, _options: &Options) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .map_err(|error| Error::io(format!("creating {}", directory.display()), error))?;
        Ok(Self { _inner: Arc::new(()) })
    }

    /// Reads `disk` and stores what is new. Durable when it returns.
    ///
    /// With `base`, runs of kind `Parent` keep the base's part of the tree without being read, so
    /// the cost is that of the change; without, they are zeros.
    pub fn commit(
        &self,
        disk: &dyn Disk,
        base: Option<ManifestId>,
        progress: &dyn Progress,
    ) -> Result<Committed> {
        let _ = (base, progress, disk);
        Err(Error::new(ErrorKind::NotFound, "commit"))
    }

    /// Opens a committed disk. Costs the same whatever its size; bytes are read when asked for,
    /// and verified before they are handed out.
    pub fn disk(&self, id: ManifestId) -> Result<Arc<StoredDisk>> {
        Err(Error::no_manifest(id))
    }

    /// Reads every byte of one disk again and compares it with its name.
    pub fn verify(&self, id: ManifestId) -> Result<Verified> {
        Err(Error::no_manifest(id))
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
        Collection { _store: self }
    }

    /// Whether the store has this manifest.
    pub fn contains(&self, _id: ManifestId) -> bool {
        false
    }

    /// The size of the virtual disk.
    pub fn size_bytes(&self, id: ManifestId) -> Result<u64> {
        Err(Error::no_manifest(id))
    }

    /// Compressed bytes of all chunks that the manifest reaches, shared ones included.
    pub fn stored_bytes(&self, id: ManifestId) -> Result<u64> {
        Err(Error::no_manifest(id))
    }

    /// All manifests of the store, for reconciliation with a catalog.
    pub fn manifests(&self) -> BTreeSet<ManifestId> {
        BTreeSet::new()
    }

    /// What the store holds now.
    pub fn usage(&self) -> Usage {
        Usage::default()
    }
}

impl StoredDisk {
    /// The name of the disk.
    pub fn manifest(&self) -> ManifestId {
        self.manifest
    }
}

impl Disk for StoredDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> calotype_disk::Result<()> {
        Err(calotype_disk::Error::new(calotype_disk::ErrorKind::Io, "read"))
    }

    fn extent_at(&self, _offset: u64) -> calotype_disk::Result<Extent> {
        Err(calotype_disk::Error::new(calotype_disk::ErrorKind::Io, "map"))
    }
}
