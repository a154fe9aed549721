//! Writing a `streamOptimized` vmdk, front to back.
//!
//! ```text
//! header │ descriptor │ grains of 32 MiB of disk, their grain table │ … │ directory │ footer │ end
//! ```
//! Every part begins at a sector and has its marker. Version 3, as VMware and QEMU write it.

use std::mem;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::descriptor;
use super::header::{
    DEFLATE, DIRECTORY_AT_END, FLAG_COMPRESSED, FLAG_MARKERS, FLAG_NEWLINES, MAGIC, MARKER_FOOTER,
    MARKER_GRAIN_DIRECTORY, MARKER_GRAIN_TABLE, Marker, NEWLINES, RawHeader,
};
use crate::export::{
    Batch, Body, Deflater, Export, Head, Output, SECTOR_BYTES, Wrapping, each_batch,
    exported_bytes, is_zero,
};
use crate::formats::blocks::out_of_bounds;
use crate::limits::VIRTUAL_SIZE_BYTES_MAX;
use crate::{Disk, Result};

pub(super) const GRAIN_SECTORS: u64 = 128;
pub(super) const GRAIN_BYTES: u64 = GRAIN_SECTORS * SECTOR_BYTES;
pub(super) const BATCH_BYTES: u64 = 16 * GRAIN_BYTES;
pub(super) const TABLE_ENTRIES: u64 = 512;
/// Where grains may begin.
const OVERHEAD_SECTORS: u64 = GRAIN_SECTORS;

/// Plans a `streamOptimized` vmdk.
///
/// A disk of no bytes or more than [`VIRTUAL_SIZE_BYTES_MAX`] is
/// [`crate::ErrorKind::OutOfBounds`]; so is one whose file would get larger than 2 TiB, once it is.
pub fn plan_stream(disk: &dyn Disk) -> Result<Box<dyn Export>> {
    let size_bytes = exported_bytes(disk, "vmdk", VIRTUAL_SIZE_BYTES_MAX)?;
    Ok(Box::new(Planned { capacity_sectors: size_bytes / SECTOR_BYTES }))
}

struct Planned {
    capacity_sectors: u64,
}

impl Export for Planned {
    fn head_bytes(&self) -> u64 {
        0
    }

    fn file_bytes(&self) -> Option<u64> {
        None
    }

    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head> {
        let mut writer = Writer::new(self.capacity_sectors, body)?;
        each_batch(disk, (BATCH_BYTES, GRAIN_BYTES), Deflater::new, pack, |_, pack| {
            writer.take(pack)
        })?;
        writer.finish()?;
        Ok(Head::new())
    }
}

/// The grains of a batch as they go into the file: markers, deflated bytes, whole sectors.
struct Pack {
    /// Which grain table describes the batch.
    table: u64,
    bytes: Vec<u8>,
    /// Which entry of the table each grain is, and its length in sectors. Grains of zeros are gone.
    grains: Vec<(u64, u64)>,
}

fn pack(deflater: &mut Deflater, batch: &Batch) -> Result<Pack> {
    let first = batch.offset / GRAIN_BYTES;
    let mut pack = Pack { table: first / TABLE_ENTRIES, bytes: Vec::new(), grains: Vec::new() };
    for (grain, bytes) in (first..).zip(batch.bytes.chunks(GRAIN_BYTES as usize)) {
        if is_zero(bytes) {
            continue;
        }
        let start = pack.bytes.len();
        pack.bytes.extend((grain * GRAIN_SECTORS).to_le_bytes());
        let length_place = pack.bytes.len();
        pack.bytes.extend([0; 4]);
        let length = deflater.append(bytes, Wrapping::Zlib, &mut pack.bytes)?;
        if let Some(place) = pack.bytes.get_mut(length_place..).and_then(<[u8]>::first_chunk_mut) {
            *place = (length as u32).to_le_bytes();
        }
        pack.bytes.resize(pack.bytes.len().next_multiple_of(SECTOR_BYTES as usize), 0);
        let sectors = (pack.bytes.len() - start) as u64 / SECTOR_BYTES;
        pack.grains.push((grain % TABLE_ENTRIES, sectors));
    }
    Ok(pack)
}

struct Writer<'a> {
    header: RawHeader,
    output: Output<'a>,
    /// Sectors of grain tables in the file; 0 = none.
    directory: Vec<u32>,
    /// The table being filled, and which it is.
    entries: Vec<u32>,
    table: u64,
}

impl<'a> Writer<'a> {
    fn new(capacity_sectors: u64, body: &'a mut dyn Body) -> Result<Self> {
        let header = RawHeader {
            magic: MAGIC,
            version: U32::new(3),
            flags: U32::new(FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS),
            capacity: U64::new(capacity_sectors),
            grain_size: U64::new(GRAIN_SECTORS),
            descriptor_offset: U64::new(1),
            descriptor_size: U64::new(descriptor::SECTORS),
            entries_per_table: U32::new(TABLE_ENTRIES as u32),
            redundant_directory_offset: U64::ZERO,
            directory_offset: U64::new(DIRECTORY_AT_END),
            overhead: U64::new(OVERHEAD_SECTORS),
            unclean_shutdown: 0,
            newlines: NEWLINES,
            compress_algorithm: U16::new(DEFLATE),
            padding: [0; 433],
        };
        let mut output = Output::new(body, 0);
        output.append(header.as_bytes().to_vec())?;
        output.append(descriptor::make(descriptor::STREAM_OPTIMIZED, capacity_sectors))?;
        output.align(OVERHEAD_SECTORS * SECTOR_BYTES)?;
        let tables = capacity_sectors.div_ceil(GRAIN_SECTORS * TABLE_ENTRIES);
        Ok(Self {
            header,
            output,
            directory: vec![0; tables as usize],
            entries: vec![0; TABLE_ENTRIES as usize],
            table: 0,
        })
    }

    fn take(&mut self, pack: Pack) -> Result<()> {
        if pack.table != self.table {
            self.finish_table()?;
            self.table = pack.table;
        }
        let mut sector = self.output.append(pack.bytes)? / SECTOR_BYTES;
        for (entry, sectors) in pack.grains {
            if let Some(place) = self.entries.get_mut(entry as usize) {
                *place = short_sector(sector)?;
            }
            sector += sectors;
        }
        Ok(())
    }

    /// Writes the table being filled, if there is anything in it, and begins an empty one.
    fn finish_table(&mut self) -> Result<()> {
        if self.entries.iter().all(|&entry| entry == 0) {
            return Ok(());
        }
        let entries = mem::replace(&mut self.entries, vec![0; TABLE_ENTRIES as usize]);
        let offset = self.append_marked(MARKER_GRAIN_TABLE, encode(&entries))?;
        if let Some(place) = self.directory.get_mut(self.table as usize) {
            *place = short_sector(offset / SECTOR_BYTES)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.finish_table()?;
        let directory = encode(&self.directory);
        let offset = self.append_marked(MARKER_GRAIN_DIRECTORY, directory)?;
        self.header.directory_offset = U64::new(offset / SECTOR_BYTES);
        let footer = self.header.as_bytes().to_vec();
        self.append_marked(MARKER_FOOTER, footer)?;
        self.output.append_zeros(SECTOR_BYTES)
    }

    /// Appends a part behind its marker; the offset of the part.
    fn append_marked(&mut self, kind: u32, part: Vec<u8>) -> Result<u64> {
        let sectors = (part.len() as u64).div_ceil(SECTOR_BYTES);
        let marker = Marker { value: U64::new(sectors), size: U32::ZERO, kind: U32::new(kind) };
        self.output.append(marker.as_bytes().to_vec())?;
        self.output.align(SECTOR_BYTES)?;
        let offset = self.output.append(part)?;
        self.output.align(SECTOR_BYTES)?;
        Ok(offset)
    }
}

pub(super) fn encode(entries: &[u32]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

/// A sector as tables have it: the file ends at 2 TiB.
pub(super) fn short_sector(sector: u64) -> Result<u32> {
    u32::try_from(sector).map_err(|_| out_of_bounds("vmdk file larger than 2 TiB"))
}
