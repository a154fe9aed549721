//! One error for the store: a small stable kind to match on, a context to read, the cause below.
//!
//! `Display` is a lower-case fragment without the cause; whoever prints an error prints its chain.

use std::io;

use crate::id::ManifestId;

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for callers that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store's directory could not be read or written.
    Io,
    /// The file system that holds the store is full, or a quota is reached. Nothing of the
    /// attempt is visible.
    NoSpace,
    /// Another process has the store open.
    Locked,
    /// The directory holds a store of a version that this program does not know.
    UnsupportedVersion,
    /// No such manifest.
    NotFound,
    /// Stored bytes are damaged or missing. They were not handed out.
    Corrupt,
    /// The disk to be committed could not be read.
    Disk,
    /// [`crate::Progress::cancelled`] said so.
    Cancelled,
    /// A disk larger than the store's limits.
    TooLarge,
    /// What says where a store is, or with what credentials it is reached, means nothing.
    InvalidLocation,
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    kind: ErrorKind,
    context: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause; also for backends of others.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// With its cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Tells a full file system from every other failure.
    pub(crate) fn io(context: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Io,
        };
        Self::new(kind, context).with_source(source)
    }

    pub(crate) fn corrupt(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, context)
    }

    pub(crate) fn no_manifest(id: ManifestId) -> Self {
        Self::new(ErrorKind::NotFound, format!("no manifest {id} in the store"))
    }
}
