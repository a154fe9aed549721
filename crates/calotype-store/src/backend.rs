//! Where the files of a store are kept: one small trait, one file for each place.
//!
//! What a backend promises is written at the trait and checked by [`conformance`], which every
//! backend passes.

mod cached;
pub mod conformance;
pub(crate) mod files;
mod local;
mod remote;

pub use cached::Cached;
pub use local::Local;
pub use remote::{Owner, Remote};

use std::fmt;

use crate::error::Result;
use crate::id::ManifestId;
use crate::pack::PackId;
use crate::partial::PartialId;

/// A file of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Many chunks.
    Pack(PackId),
    /// The root of one disk.
    Manifest(ManifestId),
    /// How far a commit got that has not ended.
    Partial(PartialId),
}

/// Files of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// Of [`Key::Pack`].
    Packs,
    /// Of [`Key::Manifest`].
    Manifests,
    /// Of [`Key::Partial`].
    Partials,
}

impl Folder {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Packs, Self::Manifests, Self::Partials];

    /// Its name in every backend.
    pub fn name(self) -> &'static str {
        match self {
            Self::Packs => "packs",
            Self::Manifests => "manifests",
            Self::Partials => "partials",
        }
    }

    /// The key of the file `name` in this folder; none if it is no file of a store.
    pub fn key(self, name: &str) -> Option<Key> {
        match self {
            Self::Packs => PackId::parse(name.strip_suffix(PACK_SUFFIX)?).map(Key::Pack),
            Self::Manifests => name.parse().ok().map(Key::Manifest),
            Self::Partials => PartialId::parse(name).map(Key::Partial),
        }
    }
}

const PACK_SUFFIX: &str = ".pack";

impl Key {
    /// Where it lies.
    pub fn folder(self) -> Folder {
        match self {
            Self::Pack(_) => Folder::Packs,
            Self::Manifest(_) => Folder::Manifests,
            Self::Partial(_) => Folder::Partials,
        }
    }

    /// Its name there.
    pub fn name(self) -> String {
        match self {
            Self::Pack(pack) => format!("{pack}{PACK_SUFFIX}"),
            Self::Manifest(manifest) => manifest.to_string(),
            Self::Partial(partial) => partial.to_string(),
        }
    }
}

/// Folder and name: the path in every backend.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.folder().name(), self.name())
    }
}

/// A place that keeps the files of one store. It blocks.
///
/// An upload is invisible until [`Upload::finish`] begins, and durable and visible when it has
/// returned without an error; after an error or a crash it is either. What is visible is whole. Nobody
/// but its creator has to be kept from creating the same key: names of packs are unique, and what is
/// written under the name of a manifest is always the same.
pub trait Backend: Send + Sync {
    /// The visible files of a folder with their lengths in bytes, in no order. Others are left out.
    fn list(&self, folder: Folder) -> Result<Vec<(Key, u64)>>;

    /// Begins a file. Dropped without being finished, it leaves nothing that is visible.
    fn create(&self, key: Key) -> Result<Box<dyn Upload>>;

    /// Fills `buf` from `offset` of a visible file, or fails: [`crate::ErrorKind::NotFound`] if
    /// there is no such file, [`crate::ErrorKind::Corrupt`] if it ends before, and
    /// [`crate::ErrorKind::Io`].
    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// As [`Backend::read`], but past every cache: for whoever found that the bytes are not what they
    /// should be, or wants to know what is really stored. What a cache has is made to agree.
    fn read_again(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read(key, offset, buf)
    }

    /// As [`Backend::read_again`], but what a cache has is left alone: it may be the better copy.
    fn read_below(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read(key, offset, buf)
    }

    /// Deletes visible files. They are gone for good when it returns; one that is missing is no error.
    fn delete(&self, keys: &[Key]) -> Result<()>;
}

/// A file being written.
pub trait Upload: Send {
    /// Adds to its end.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the file durable, then visible, replacing one of the same name.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A backend that is read past its caches.
pub(crate) struct Afresh<'a>(pub(crate) &'a dyn Backend);

impl Backend for Afresh<'_> {
    fn list(&self, folder: Folder) -> Result<Vec<(Key, u64)>> {
        self.0.list(folder)
    }

    fn create(&self, key: Key) -> Result<Box<dyn Upload>> {
        self.0.create(key)
    }

    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.0.read_again(key, offset, buf)
    }

    fn delete(&self, keys: &[Key]) -> Result<()> {
        self.0.delete(keys)
    }
}
