//! Writing a `monolithicSparse` vmdk: all tables in the head, twice, and grains in the body.
//!
//! ```text
//! header │ descriptor │ redundant directory │ its tables │ directory │ its tables │ grains …
//! ```

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::descriptor;
use super::header::{FLAG_NEWLINES, FLAG_REDUNDANT_DIRECTORY, MAGIC, NEWLINES, RawHeader};
use super::write_stream::{
    BATCH_BYTES, GRAIN_BYTES, GRAIN_SECTORS, TABLE_ENTRIES, encode, short_sector,
};
use crate::export::{
    Body, Export, Head, Output, SECTOR_BYTES, each_nonzero, exported_bytes, is_zero,
};
use crate::limits::VMDK_SPARSE_SIZE_BYTES_MAX;
use crate::{Disk, Result};

const TABLE_SECTORS: u64 = TABLE_ENTRIES * 4 / SECTOR_BYTES;

/// Plans a `monolithicSparse` vmdk.
///
/// A disk of no bytes or more than [`VMDK_SPARSE_SIZE_BYTES_MAX`] is
/// [`crate::ErrorKind::OutOfBounds`]: `streamOptimized` has room for larger ones.
pub fn plan_sparse(disk: &dyn Disk) -> Result<Box<dyn Export>> {
    let size_bytes = exported_bytes(disk, "monolithicSparse vmdk", VMDK_SPARSE_SIZE_BYTES_MAX)?;
    Ok(Box::new(Layout::new(size_bytes / SECTOR_BYTES)))
}

/// Where the parts are, in sectors.
struct Layout {
    capacity: u64,
    tables: u64,
    redundant_directory: u64,
    directory: u64,
    grains: u64,
}

impl Layout {
    fn new(capacity: u64) -> Self {
        let tables = capacity.div_ceil(GRAIN_SECTORS * TABLE_ENTRIES);
        let directory_and_tables = directory_sectors(tables) + tables * TABLE_SECTORS;
        let redundant_directory = 1 + descriptor::SECTORS;
        let directory = redundant_directory + directory_and_tables;
        let grains = (directory + directory_and_tables).next_multiple_of(GRAIN_SECTORS);
        Self { capacity, tables, redundant_directory, directory, grains }
    }

    fn header(&self) -> RawHeader {
        RawHeader {
            magic: MAGIC,
            version: U32::new(1),
            flags: U32::new(FLAG_NEWLINES | FLAG_REDUNDANT_DIRECTORY),
            capacity: U64::new(self.capacity),
            grain_size: U64::new(GRAIN_SECTORS),
            descriptor_offset: U64::new(1),
            descriptor_size: U64::new(descriptor::SECTORS),
            entries_per_table: U32::new(TABLE_ENTRIES as u32),
            redundant_directory_offset: U64::new(self.redundant_directory),
            directory_offset: U64::new(self.directory),
            overhead: U64::new(self.grains),
            unclean_shutdown: 0,
            newlines: NEWLINES,
            compress_algorithm: U16::ZERO,
            padding: [0; 433],
        }
    }
}

fn directory_sectors(tables: u64) -> u64 {
    (tables * 4).div_ceil(SECTOR_BYTES)
}

impl Export for Layout {
    fn head_bytes(&self) -> u64 {
        self.grains * SECTOR_BYTES
    }

    fn file_bytes(&self) -> Option<u64> {
        None
    }

    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head> {
        let mut output = Output::new(body, self.head_bytes());
        let mut sectors = vec![0; (self.tables * TABLE_ENTRIES) as usize];
        each_nonzero(disk, (BATCH_BYTES, GRAIN_BYTES), |batch, _| {
            let first = (batch.offset / GRAIN_BYTES) as usize;
            for (grain, bytes) in (first..).zip(batch.bytes.chunks(GRAIN_BYTES as usize)) {
                if !is_zero(bytes)
                    && let Some(place) = sectors.get_mut(grain)
                {
                    *place = short_sector(output.append_slice(bytes)? / SECTOR_BYTES)?;
                }
            }
            Ok(())
        })?;
        self.encode_head(&sectors)
    }
}

impl Layout {
    fn encode_head(&self, sectors: &[u32]) -> Result<Head> {
        let mut head = Vec::with_capacity(self.head_bytes() as usize);
        head.extend_from_slice(self.header().as_bytes());
        head.extend(descriptor::make(descriptor::MONOLITHIC_SPARSE, self.capacity));
        for directory in [self.redundant_directory, self.directory] {
            let tables = directory + directory_sectors(self.tables);
            let places = (0..self.tables).map(|table| short_sector(tables + table * TABLE_SECTORS));
            head.extend(encode(&places.collect::<Result<Vec<_>>>()?));
            head.resize((tables * SECTOR_BYTES) as usize, 0);
            head.extend(sectors.iter().flat_map(|sector| sector.to_le_bytes()));
        }
        head.resize(self.head_bytes() as usize, 0);
        Ok(head)
    }
}
