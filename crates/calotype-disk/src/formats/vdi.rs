//! `VirtualBox`'s disks: dynamic and fixed, read; dynamic, written.
//!
//! ```text
//! header │ block map │ blocks of 1 MiB …
//! ```
//! Layout: QEMU's `block/vdi.c`; `VirtualBox` has no specification.

mod header;
mod write;

use std::sync::Arc;

pub use write::plan;

use crate::formats::Ends;
use crate::formats::blocks::{BlockMap, Blocks, Place, Table, check_inside};
use crate::{Disk, Result, Source};
use header::{BLOCK_BYTES, DISCARDED, Header, SIGNATURE, SIGNATURE_OFFSET};

/// Whether a file has the mark of vdi, behind a line of text that anybody may choose.
pub(super) fn matches(ends: &Ends<'_>) -> bool {
    ends.first.get(SIGNATURE_OFFSET..).is_some_and(|rest| rest.starts_with(&SIGNATURE))
}

/// Opens a dynamic or fixed disk; one with a parent is [`crate::ErrorKind::UnsupportedFeature`].
pub(super) fn open(source: Box<dyn Source>) -> Result<Box<dyn Disk>> {
    let source: Arc<dyn Source> = source.into();
    let header = Header::read(&*source)?;
    let table = Table::new(&source, "vdi block map", header.map_offset, header.blocks)?;
    let size_bytes = header.size_bytes;
    let map = Map { source: Arc::clone(&source), header, table };
    Ok(Box::new(Blocks { source, size_bytes, block_bytes: BLOCK_BYTES, map }))
}

struct Map {
    source: Arc<dyn Source>,
    header: Header,
    table: Table<4>,
}

impl BlockMap for Map {
    fn place(&self, index: u64) -> Result<Place> {
        let entry = u32::from_le_bytes(self.table.entry(index)?);
        if entry >= DISCARDED {
            return Ok(Place::Zero);
        }
        let offset = self.header.data_offset + u64::from(entry) * BLOCK_BYTES;
        // The last one may be cut where the disk ends.
        let needed = BLOCK_BYTES.min(self.header.size_bytes - index * BLOCK_BYTES);
        check_inside(&*self.source, "vdi block", offset, needed)?;
        Ok(Place::At(offset))
    }
}
