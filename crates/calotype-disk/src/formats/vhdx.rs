//! Hyper-V's second format: dynamic and fixed disks, read.
//!
//! ```text
//! identifier │ 2 headers │ 2 region tables │ log, metadata, block allocation table, blocks, by MiB …
//! ```
//! Layout: Microsoft's [MS-VHDX]. A log that must be replayed is refused: who made the file opens and
//! closes it once more.

mod header;
mod metadata;
mod regions;

use std::ops::Range;
use std::sync::Arc;

use crate::formats::Ends;
use crate::formats::blocks::{BlockMap, Blocks, Place, Table, check_inside, corrupt, unsupported};
use crate::{Disk, Result, Source};
use header::IDENTIFIER;
use metadata::Metadata;
use regions::Regions;

/// Everything in the file is laid out by it.
const MIB: u64 = 1 << 20;
/// The bits of a table's entry that hold an offset into the file, which is one of whole MiB.
const OFFSET_MASK: u64 = !(MIB - 1);
const STATE_MASK: u64 = 7;
const RESERVED_MASK: u64 = !(OFFSET_MASK | STATE_MASK);

const STATES_OF_NO_BLOCK: [u64; 5] = [0, 1, 2, 3, 5];
const FULLY_PRESENT: u64 = 6;
const PARTIALLY_PRESENT: u64 = 7;

/// Whether a file has the mark of vhdx.
pub(super) fn matches(ends: &Ends<'_>) -> bool {
    ends.first.starts_with(&IDENTIFIER)
}

/// Opens a dynamic or fixed disk. One with a parent or with a log to replay is
/// [`crate::ErrorKind::UnsupportedFeature`].
pub(super) fn open(source: Box<dyn Source>) -> Result<Box<dyn Disk>> {
    let source: Arc<dyn Source> = source.into();
    let log = header::check(&*source)?;
    let regions = Regions::read(&*source)?;
    let metadata = Metadata::read(&*source, &regions.metadata)?;
    let blocks = metadata.size_bytes.div_ceil(metadata.block_bytes);
    // After so many blocks' entries there is one for the bitmap of their sectors.
    let blocks_per_bitmap = (metadata.sector_bytes << 23) / metadata.block_bytes;
    let entries = blocks + (blocks - 1) / blocks_per_bitmap;
    let table_bytes = regions.table.end - regions.table.start;
    if entries * 8 > table_bytes {
        return Err(corrupt(format!(
            "vhdx block allocation table of {table_bytes} bytes for {entries} entries"
        )));
    }
    let table = Table::new(&source, "vhdx block allocation table", regions.table.start, entries)?;
    let (size_bytes, block_bytes) = (metadata.size_bytes, metadata.block_bytes);
    let taken = [0..MIB, log, regions.metadata, regions.table];
    let map = Map {
        source: Arc::clone(&source),
        table,
        blocks_per_bitmap,
        size_bytes,
        block_bytes,
        taken,
    };
    Ok(Box::new(Blocks { source, size_bytes, block_bytes, map }))
}

struct Map {
    source: Arc<dyn Source>,
    table: Table<8>,
    blocks_per_bitmap: u64,
    size_bytes: u64,
    block_bytes: u64,
    /// Where no block may be.
    taken: [Range<u64>; 4],
}

impl BlockMap for Map {
    fn place(&self, index: u64) -> Result<Place> {
        let entry = u64::from_le_bytes(self.table.entry(index + index / self.blocks_per_bitmap)?);
        if entry & RESERVED_MASK != 0 {
            return Err(corrupt(format!("vhdx entry {entry:#x} of block {index}")));
        }
        match entry & STATE_MASK {
            state if STATES_OF_NO_BLOCK.contains(&state) => return Ok(Place::Zero),
            FULLY_PRESENT => {}
            PARTIALLY_PRESENT => return Err(unsupported("vhdx block that is partly its parent's")),
            state => return Err(corrupt(format!("vhdx block {index} in state {state}"))),
        }
        let start = entry & OFFSET_MASK;
        // The last one may be cut where the disk ends.
        let needed = self.block_bytes.min(self.size_bytes - index * self.block_bytes);
        check_inside(&*self.source, "vhdx block", start, needed)?;
        if self.taken.iter().any(|part| overlap(part, &(start..start + needed))) {
            return Err(corrupt(format!("vhdx block {index} at {start} lies over the metadata")));
        }
        Ok(Place::At(start))
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Whether `bytes` have the CRC-32C that they say at `place`, where they are counted as zeros.
fn is_checksum_right(bytes: &[u8], place: usize) -> bool {
    let (Some(before), Some(behind)) = (bytes.get(..place), bytes.get(place + 4..)) else {
        return false;
    };
    let own = bytes.get(place..).and_then(|rest| rest.first_chunk());
    let sum = [&[0; 4], behind]
        .iter()
        .fold(crc32c::crc32c(before), |sum, part| crc32c::crc32c_append(sum, part));
    own.is_some_and(|own| u32::from_le_bytes(*own) == sum)
}
