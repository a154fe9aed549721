//! The index's file as its database sees it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use redb::StorageBackend;

use crate::backend::files::{Files, StoreFile};

/// Where the index is kept.
#[derive(Clone)]
pub(crate) struct IndexFile {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) path: PathBuf,
}

impl IndexFile {
    /// Opens what is there; `afresh`, or if there is nothing, an empty index.
    pub(super) fn open(&self, afresh: bool) -> io::Result<IndexStorage> {
        let file = self.files.open_or_create(&self.path)?;
        if afresh {
            file.set_length(0)?;
        }
        Ok(IndexStorage(Arc::new(RwLock::new(Some(file)))))
    }
}

impl fmt::Display for IndexFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// An open file, or one that was retired. It needs no lock of its own: the store's directory is locked.
///
/// Uses of the file hold the inner lock for reading, so that it is in no use any more once it is retired:
/// then another database may use it.
#[derive(Clone)]
pub(super) struct IndexStorage(Arc<RwLock<Option<Arc<dyn StoreFile>>>>);

type FileInUse<'a> = RwLockReadGuard<'a, Option<Arc<dyn StoreFile>>>;

impl IndexStorage {
    pub(super) fn retire(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn is_retired(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn with<T>(&self, action: impl FnOnce(&dyn StoreFile) -> io::Result<T>) -> io::Result<T> {
        let file: FileInUse<'_> = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &*file {
            Some(file) => action(file.as_ref()),
            None => Err(io::Error::other("the index was opened again")),
        }
    }
}

impl fmt::Debug for IndexStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexStorage")
    }
}

impl StorageBackend for IndexStorage {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.length_bytes())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|file| file.read_exact_at(out, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|file| file.set_length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|file| file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|file| file.write_all_at(data, offset))
    }
}
