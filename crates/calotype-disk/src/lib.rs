//! Disk formats: reads disks of every format from positioned sources, and writes them in one pass,
//! bounded, without opening anything.
//!
//! A [`Disk`] is a virtual disk readable at any offset; a [`Source`] is the bytes of a file as the
//! caller chose to provide them. A file name recorded inside an image is data and is never followed:
//! this crate has no way to open one. Chains are built by the caller, with [`Layered`].
//!
//! What is read is taken for hostile: every size is checked against the file and against
//! [`limits`] before memory is reserved for it.

// A panic while reading somebody's file is a denial of service.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod error;
mod export;
mod formats;
mod inflate;
mod layered;
pub mod limits;
pub mod oci_archive;
mod padded;
mod parallel;
mod piece;
mod recent;
mod source;
mod unpacked;

pub use error::{Error, ErrorKind, Result};
pub use export::{Body, Export, Head};
pub use formats::{
    FORMATS, Format, FormatName, OpenLimits, detect, open, plan, qcow2, raw, vdi, vhd, vmdk,
};
pub use layered::Layered;
pub use padded::{Padded, SECTOR_BYTES};
pub use piece::{Piece, SharedBytes};
pub use source::Source;
pub use unpacked::{Packing, Unpacked, unpack};

/// A virtual disk readable at any offset.
///
/// Synchronous on purpose: parsers must not await. Callers on an async runtime move the work to a
/// blocking thread.
pub trait Disk: Send + Sync {
    /// The size of the virtual disk.
    fn size_bytes(&self) -> u64;

    /// Fills `buf` from `offset`; reading past the end is [`ErrorKind::OutOfBounds`].
    ///
    /// Runs of kind [`ExtentKind::Parent`] read as zeros: a lone layer has nothing below it.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// The run that starts at `offset`, which must lie below [`Disk::size_bytes`].
    ///
    /// The run is at least one byte long, ends at or before the end of the disk, and need not be
    /// maximal: the run that follows may be of the same kind.
    fn extent_at(&self, offset: u64) -> Result<Extent>;

    /// What is known of the `length_max` bytes from `offset` without reading them; a caller may so
    /// answer at once what is in memory, and have the rest read by somebody who may wait for it.
    ///
    /// `length_max` is not zero, and the range lies inside the disk. The piece is no longer than it.
    fn piece_at(&self, offset: u64, length_max: u64) -> Result<Piece> {
        let extent = self.extent_at(offset)?;
        let length_bytes = extent.length_bytes.min(length_max);
        Ok(match extent.kind {
            ExtentKind::Data => Piece::Unread(length_bytes),
            ExtentKind::Zero | ExtentKind::Parent => Piece::Zeros(length_bytes),
        })
    }

    /// Reads `length` bytes from `offset`: a [`Piece::Unread`] or its beginning.
    fn read_piece(&self, offset: u64, length: usize) -> Result<SharedBytes> {
        let mut bytes = vec![0; length];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes.into())
    }
}

/// A run of a disk with one [`ExtentKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Never zero.
    pub length_bytes: u64,
    /// What the run holds.
    pub kind: ExtentKind,
}

/// What a run of a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Bytes that must be read to be known.
    Data,
    /// Reads as zeros, and hides whatever the disk below holds.
    Zero,
    /// Not allocated in this layer: what is seen is the disk below.
    Parent,
}

/// Refuses a range that is not wholly inside a disk of `size_bytes`.
pub fn check_range(size_bytes: u64, offset: u64, length: usize) -> Result<()> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= size_bytes => Ok(()),
        _ => Err(Error::new(
            ErrorKind::OutOfBounds,
            format!("{length} bytes at offset {offset} of a disk of {size_bytes} bytes"),
        )),
    }
}

/// Refuses an offset at or past the end of a disk of `size_bytes`.
pub fn check_offset(size_bytes: u64, offset: u64) -> Result<()> {
    if offset < size_bytes {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::OutOfBounds,
            format!("offset {offset} of a disk of {size_bytes} bytes"),
        ))
    }
}
