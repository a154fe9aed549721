//! The index's file as its database sees it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use redb::StorageBackend;

use crate::backend::files::{Files, StoreFile};

/// Where the index is kept.
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
        Ok(IndexStorage(file))
    }
}

impl fmt::Display for IndexFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// An open file. It needs no lock of its own: the store's directory is locked.
pub(super) struct IndexStorage(Arc<dyn StoreFile>);

impl fmt::Debug for IndexStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexStorage")
    }
}

impl StorageBackend for IndexStorage {
    fn len(&self) -> io::Result<u64> {
        self.0.length_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_length(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
