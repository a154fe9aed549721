//! Writing a disk into a file of a format: front to back, except for the head.
//!
//! A file of most formats can be written in its order once the extents of the disk are known. In some
//! the first bytes say what only the end of the work knows: they are the *head*, whose length is
//! known at the start and whose bytes come at the end. A multipart upload sends them last, as its
//! first part; a file is written from an offset.

mod batches;
mod content_id;
mod deflate;
mod output;

use std::io;

pub(crate) use batches::{Batch, each_batch, each_nonzero, is_zero};
pub(crate) use content_id::ContentId;
pub(crate) use deflate::{Deflater, Wrapping};
pub(crate) use output::Output;

use crate::{Disk, Error, ErrorKind, Result};

/// The unit of every format's size. A disk that ends inside of a sector is exported with zeros up to
/// its end.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// The first bytes of a file, of the length that [`Export::head_bytes`] said.
pub type Head = Vec<u8>;

/// Takes the file behind its head, in order.
pub trait Body {
    /// Takes the next bytes; whoever takes them may be slower than the writer, which then waits.
    fn append(&mut self, bytes: Vec<u8>) -> io::Result<()>;

    /// Takes a copy of the next bytes, whose memory is used again; a body that is done with them at
    /// once needs no copy.
    fn append_slice(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append(bytes.to_vec())
    }

    /// Takes a run of zeros; a body that can leave a hole instead does so.
    fn append_zeros(&mut self, length_bytes: u64) -> io::Result<()> {
        const PIECE_BYTES: u64 = 1 << 20;
        let mut left = length_bytes;
        while left > 0 {
            let piece = left.min(PIECE_BYTES);
            self.append(vec![0; piece as usize])?;
            left -= piece;
        }
        Ok(())
    }
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

/// The size that the file of `disk` will say: whole sectors, at most `bytes_max`.
pub(crate) fn exported_bytes(disk: &dyn Disk, format: &str, bytes_max: u64) -> Result<u64> {
    let size_bytes = disk.size_bytes();
    match size_bytes.checked_next_multiple_of(SECTOR_BYTES) {
        Some(exported) if size_bytes > 0 && exported <= bytes_max => Ok(exported),
        _ => Err(Error::new(
            ErrorKind::OutOfBounds,
            format!("{format} holds 1 to {bytes_max} bytes, not {size_bytes}"),
        )),
    }
}
