//! Writing a disk into a file of a format: front to back, except for the head.
//!
//! A file of most formats can be written in its order once the extents of the disk are known. In some
//! the first bytes say what only the end of the work knows: they are the *head*, whose length is
//! known at the start and whose bytes come at the end. A multipart upload sends them last, as its
//! first part; a file is written from an offset.

use std::io;

use crate::{Disk, Result};

/// The first bytes of a file, of the length that [`Export::head_bytes`] said.
pub type Head = Vec<u8>;

/// Takes the file behind its head, in order.
pub trait Body {
    /// Takes the next bytes; whoever takes them may be slower than the writer, which then waits.
    fn append(&mut self, bytes: Vec<u8>) -> io::Result<()>;
}

/// A disk about to be written as a file of one format.
pub trait Export: Send + Sync {
    /// The length of the head. Zero for a format that is written in its order.
    fn head_bytes(&self) -> u64;

    /// The length of the whole file, where it is known before the data is compressed.
    fn file_bytes(&self) -> Option<u64>;

    /// Writes the file of `disk`, the one that was planned with: all of the body goes to `body`, and
    /// the head is answered. Deflates on all cores, in memory that does not depend on the disk.
    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head>;
}
