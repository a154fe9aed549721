//! Why a file could not be opened.

use std::io;

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is refused; the reason is for whoever sent it.
    #[error("the file is refused")]
    Refused(#[source] calotype_disk::Error),
    /// The file's bytes could not be brought, by no fault of the file.
    #[error("the file could not be read")]
    Source(#[source] calotype_disk::Error),
    /// Nobody wants the answer any more.
    #[error("given up")]
    Cancelled,
    /// The reader could not be started, or ended before it answered: it was killed, or reached a
    /// limit of memory or time.
    #[error("the process that reads the file failed")]
    Reader(#[source] io::Error),
}
