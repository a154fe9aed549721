//! VMware's disks in one file: `monolithicSparse` and `streamOptimized`, read and written.
//!
//! A vmdk may consist of many files that its descriptor names, and of flat files and devices: all
//! of that is refused, for the name of a file inside of a disk is data and never followed.
//! Terms and layout: VMware's "Virtual Disk Format 5.0".

mod descriptor;
mod disk;
mod header;
mod write_sparse;
mod write_stream;

pub(super) use disk::open;
pub use write_sparse::plan_sparse;
pub use write_stream::plan_stream;

use crate::formats::Ends;

/// Whether a file has a mark of vmdk: the header of an extent, of either version, or a descriptor's text.
pub(super) fn matches(ends: &Ends<'_>) -> bool {
    ends.first.starts_with(&header::MAGIC)
        || ends.first.starts_with(&header::MAGIC_OF_ESX)
        || descriptor::looks_like_one(ends.first)
}
