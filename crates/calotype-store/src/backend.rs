//! Where the store's files are kept: a small trait, so that other places can be added as one file
//! each.
//!
//! What a backend promises: an upload is invisible until [`Upload::finish`] returns, and durable
//! from then on; a file is never changed once it is visible.

mod local;

#[cfg(test)]
pub(crate) use local::Step;
pub(crate) use local::{Faults, Local};

use crate::error::Result;
use crate::id::ManifestId;
use crate::pack::PackId;

/// A file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Pack(PackId),
    Manifest(ManifestId),
}

/// A place that keeps files.
pub(crate) trait Backend: Send + Sync {
    /// All visible packs with their lengths, in no order.
    fn packs(&self) -> Result<Vec<(PackId, u64)>>;

    /// All visible manifests, in no order.
    fn manifests(&self) -> Result<Vec<ManifestId>>;

    /// Begins a file. Dropped without being finished, it leaves nothing behind.
    fn create(&self, key: Key) -> Result<Box<dyn Upload>>;

    /// Fills `buf` from `offset` of a visible file, or fails.
    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Deletes visible files. They are gone for good when it returns; one that is missing is no error.
    fn delete(&self, keys: &[Key]) -> Result<()>;
}

/// A file being written.
pub(crate) trait Upload: Send {
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the file durable, then visible, replacing one of the same name.
    fn finish(self: Box<Self>) -> Result<()>;
}
