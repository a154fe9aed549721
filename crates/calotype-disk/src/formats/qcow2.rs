//! qcow2, QEMU's own: reads the layers that our QEMU writes and the disks of strangers, makes empty
//! layers, and writes whole disks.

mod create;
mod disk;
mod header;
mod inflate;
mod metadata;
mod refcounts;
mod snapshots;
mod tables;
mod write;

pub use create::create_layer;
pub use disk::Qcow2;
pub use write::{plan_compressed, plan_sparse};

use super::Ends;
use crate::{Disk, Result, Source};

pub(super) fn matches(ends: &Ends<'_>) -> bool {
    ends.first.starts_with(&header::MAGIC)
}

/// Opens a stranger's disk.
pub(super) fn open(source: Box<dyn Source>) -> Result<Box<dyn Disk>> {
    Ok(Box::new(Qcow2::open(source)?))
}
