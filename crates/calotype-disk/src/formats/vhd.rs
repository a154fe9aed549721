//! Virtual PC's disks, Hyper-V's first, `vpc` to QEMU: dynamic and fixed, read and written.
//!
//! ```text
//! fixed:   the disk's bytes │ footer
//! dynamic: footer │ header │ block allocation table │ blocks of 2 MiB, each behind its bitmap … │ footer
//! ```
//! Layout: Microsoft's "Virtual Hard Disk Image Format Specification" 1.0.

mod footer;
mod header;
mod write_dynamic;
mod write_fixed;

use std::sync::Arc;

pub use write_dynamic::plan_dynamic;
pub use write_fixed::plan_fixed;

use crate::formats::Ends;
use crate::formats::blocks::{BlockMap, Blocks, Place, Table, check_inside, corrupt, unsupported};
use crate::formats::raw::Raw;
use crate::source::Part;
use crate::{Disk, Result, Source};
use footer::{COOKIE, DIFFERENCING, DYNAMIC, FIXED, FOOTER_BYTES, Footer};
use header::{Header, UNALLOCATED};

/// Whether a file has the mark of vhd: of a dynamic one at both ends, of a fixed one only at its last.
pub(super) fn matches(ends: &Ends<'_>) -> bool {
    let footer = ends.last.len().checked_sub(FOOTER_BYTES as usize);
    ends.first.starts_with(&COOKIE)
        || footer.and_then(|start| ends.last.get(start..)).is_some_and(|f| f.starts_with(&COOKIE))
}

/// Opens a dynamic or fixed disk; a differencing one is [`crate::ErrorKind::UnsupportedFeature`].
///
/// The size is that of the footer or of the geometry, by who made the disk, as QEMU does.
pub(super) fn open(source: Box<dyn Source>) -> Result<Box<dyn Disk>> {
    let source: Arc<dyn Source> = source.into();
    let footer = Footer::read(&*source)?;
    match footer.kind {
        FIXED => {
            let size_bytes = footer.size_bytes;
            check_inside(&*source, "vhd data and footer", 0, size_bytes + FOOTER_BYTES)?;
            Ok(Box::new(Raw::open(Box::new(Part::new(source, 0, size_bytes)))?))
        }
        DYNAMIC => open_dynamic(source, &footer),
        DIFFERENCING => Err(unsupported("vhd that needs a parent")),
        other => Err(unsupported(format!("vhd of type {other}, not dynamic or fixed"))),
    }
}

fn open_dynamic(source: Arc<dyn Source>, footer: &Footer) -> Result<Box<dyn Disk>> {
    footer.check_copy(&*source)?;
    let header = Header::read(&*source, footer)?;
    let blocks = footer.size_bytes.div_ceil(header.block_bytes);
    let table = Table::new(&source, "vhd block allocation table", header.table_offset, blocks)?;
    let (size_bytes, block_bytes) = (footer.size_bytes, header.block_bytes);
    let data_end = source.length_bytes() - FOOTER_BYTES;
    let map = Map { header, table, size_bytes, data_end };
    Ok(Box::new(Blocks { source, size_bytes, block_bytes, map }))
}

struct Map {
    header: Header,
    table: Table<4>,
    size_bytes: u64,
    /// Where the last footer begins.
    data_end: u64,
}

impl BlockMap for Map {
    /// The bitmap before a block says which of its sectors were ever written. It is not looked at: only
    /// a differencing disk has something to show instead, and QEMU reads so too.
    fn place(&self, index: u64) -> Result<Place> {
        let sector = u32::from_be_bytes(self.table.entry(index)?);
        if sector == UNALLOCATED {
            return Ok(Place::Zero);
        }
        let start = u64::from(sector) * 512;
        let data = start + self.header.bitmap_bytes;
        // The last one may be cut where the disk ends.
        let block_bytes = self.header.block_bytes;
        let end = data + block_bytes.min(self.size_bytes - index * block_bytes);
        if end > self.data_end {
            return Err(corrupt(format!("vhd block {index} at {start} reaches beyond the data")));
        }
        if self.header.metadata.iter().any(|part| start < part.end && part.start < end) {
            return Err(corrupt(format!("vhd block {index} at {start} lies over the metadata")));
        }
        Ok(Place::At(data))
    }
}
