//! qcow2 layers as our own QEMU writes them: read one, or make an empty one.

mod create;
mod header;
mod layer;

pub use create::create_layer;
pub use layer::Qcow2;

use super::Ends;
use crate::{Disk, Result, Source};

pub(super) fn matches(ends: &Ends<'_>) -> bool {
    ends.first.starts_with(&header::MAGIC)
}

/// Opens a stranger's disk.
pub(super) fn open(source: Box<dyn Source>) -> Result<Box<dyn Disk>> {
    Ok(Box::new(Qcow2::open_layer(source)?))
}
