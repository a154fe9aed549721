//! Reading a vmdk: directory, table, grain, each checked before it is followed.

use std::sync::{Arc, Mutex};

use miniz_oxide::inflate::core::DecompressorOxide;

use super::descriptor;
use super::header::{GRAIN_MARKER_BYTES, Header};
use crate::export::SECTOR_BYTES;
use crate::formats::blocks::{Place, Table, check_inside, corrupt, read, run_length, unsupported};
use crate::inflate::inflate_zlib;
use crate::limits::{TABLE_CACHE_BYTES_MAX, VMDK_GRAIN_CACHE_BYTES_MAX};
use crate::parallel;
use crate::recent::{Recent, remembered};
use crate::{Disk, Error, Extent, ExtentKind, Result, Source, check_offset, check_range};

/// Empty parts of the directory that one answer about a run looks at.
const EMPTY_TABLES_MAX: u64 = 1 << 14;

/// A disk in one vmdk file.
struct Vmdk {
    source: Arc<dyn Source>,
    header: Header,
    size_bytes: u64,
    directory: Table<4>,
    /// By index in the directory.
    tables: Mutex<Recent<u8>>,
    /// By number: so that small reads do not inflate their grain again and again.
    grains: Mutex<Recent<u8>>,
}

/// A part of a compressed grain, and where it shall go.
struct Wanted<'a> {
    /// Where the grain's marker is in the file.
    start: u64,
    /// On the disk.
    offset: u64,
    to: &'a mut [u8],
}

/// Opens a `monolithicSparse` or `streamOptimized` disk.
///
/// A descriptor that stands alone, that names other files, that has a parent, more extents than
/// one or one of another type than `SPARSE` is [`crate::ErrorKind::UnsupportedFeature`]. Of two
/// directories of grains the first is used, as QEMU does.
pub(in crate::formats) fn open(source: Box<dyn Source>) -> Result<Box<dyn Disk>> {
    Ok(Box::new(Vmdk::open(source)?))
}

impl Vmdk {
    fn open(source: Box<dyn Source>) -> Result<Self> {
        let source: Arc<dyn Source> = source.into();
        check_not_alone(&*source)?;
        let header = Header::read(&*source)?;
        let (offset, length) = (header.descriptor_offset, header.descriptor_bytes as usize);
        descriptor::check(&read(&*source, "vmdk descriptor", offset, length)?, &header)?;

        let size_bytes = header.capacity_sectors * SECTOR_BYTES;
        let table_coverage = header.grain_bytes * header.entries_per_table;
        let tables = size_bytes.div_ceil(table_coverage);
        let directory =
            Table::new(&source, "vmdk grain directory", header.directory_offset, tables)?;
        let recent =
            |bytes_max: usize, bytes: usize| Mutex::new(Recent::new((bytes_max / bytes).max(1)));
        Ok(Self {
            source,
            size_bytes,
            directory,
            tables: recent(TABLE_CACHE_BYTES_MAX, header.entries_per_table as usize * 4),
            grains: recent(VMDK_GRAIN_CACHE_BYTES_MAX, header.grain_bytes as usize),
            header,
        })
    }

    /// The bytes of disk that one table describes.
    fn table_coverage(&self) -> u64 {
        self.header.grain_bytes * self.header.entries_per_table
    }

    /// The grain table `index` of the directory, or none.
    fn table(&self, index: u64) -> Result<Option<Arc<[u8]>>> {
        let sector = u64::from(u32::from_le_bytes(self.directory.entry(index)?));
        if sector == 0 {
            return Ok(None);
        }
        let length = self.header.entries_per_table as usize * 4;
        let read = || read(&*self.source, "vmdk grain table", sector * SECTOR_BYTES, length);
        remembered(&self.tables, index, read).map(Some)
    }

    /// Where entry `index` of a table has its grain, which is `grain` of the disk.
    fn place(&self, table: &[u8], index: u64, grain: u64) -> Result<Place> {
        let entry = table.get(index as usize * 4..).and_then(|rest| rest.first_chunk());
        let sector = entry.map_or(0, |entry| u32::from_le_bytes(*entry));
        if sector == 0 || (sector == 1 && self.header.zero_grains) {
            return Ok(Place::Zero);
        }
        let offset = u64::from(sector) * SECTOR_BYTES;
        if offset < self.header.overhead_bytes {
            return Err(corrupt(format!("vmdk grain {grain} inside of the metadata, at {offset}")));
        }
        let length = if self.header.compressed {
            SECTOR_BYTES
        } else {
            // The last one may be cut where the disk ends.
            self.header.grain_bytes.min(self.size_bytes - grain * self.header.grain_bytes)
        };
        check_inside(&*self.source, "vmdk grain", offset, length)?;
        Ok(Place::At(offset))
    }

    /// Where the grain of `offset` is.
    fn find(&self, offset: u64) -> Result<Place> {
        let grain = offset / self.header.grain_bytes;
        let per_table = self.header.entries_per_table;
        match self.table(grain / per_table)? {
            Some(table) => self.place(&table, grain % per_table, grain),
            None => Ok(Place::Zero),
        }
    }

    /// Reads what is not compressed, and says what is.
    fn read_plain<'a>(&self, mut offset: u64, mut buf: &'a mut [u8]) -> Result<Vec<Wanted<'a>>> {
        let mut compressed = Vec::new();
        while !buf.is_empty() {
            let in_grain = offset % self.header.grain_bytes;
            let left = self.header.grain_bytes - in_grain;
            let (to, rest) = buf.split_at_mut(run_length(left, buf.len()));
            let next = offset + to.len() as u64;
            match self.find(offset)? {
                Place::Zero => to.fill(0),
                Place::At(start) if self.header.compressed => {
                    compressed.push(Wanted { start, offset, to });
                }
                Place::At(start) => self
                    .source
                    .read_at(start + in_grain, to)
                    .map_err(|error| Error::io(format!("reading vmdk grain at {start}"), error))?,
            }
            offset = next;
            buf = rest;
        }
        Ok(compressed)
    }

    /// Brings a part of a grain; a whole one without keeping it, since it is not likely wanted again.
    fn bring(&self, state: &mut DecompressorOxide, wanted: Wanted<'_>) -> Result<()> {
        let Wanted { start, offset, to } = wanted;
        let grain = offset / self.header.grain_bytes;
        if to.len() as u64 == self.header.grain_bytes {
            return self.inflate(state, start, grain, to);
        }
        let bytes = remembered(&self.grains, grain, || {
            let mut bytes = vec![0; self.header.grain_bytes as usize];
            self.inflate(state, start, grain, &mut bytes)?;
            Ok(bytes)
        })?;
        let from = (offset % self.header.grain_bytes) as usize;
        let part = bytes.get(from..).and_then(|rest| rest.get(..to.len()));
        to.copy_from_slice(part.ok_or_else(|| corrupt(format!("short vmdk grain {grain}")))?);
        Ok(())
    }

    /// Inflates the grain at `start` of the file, which must say that it is `grain`. The last one may be
    /// stored no further than the disk goes.
    fn inflate(
        &self,
        state: &mut DecompressorOxide,
        start: u64,
        grain: u64,
        to: &mut [u8],
    ) -> Result<()> {
        let grain_bytes = self.header.grain_bytes;
        let marker = read(&*self.source, "vmdk grain marker", start, GRAIN_MARKER_BYTES)?;
        let sector = marker.first_chunk().map_or(0, |sector| u64::from_le_bytes(*sector));
        let length = marker.last_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        if sector != grain * (grain_bytes / SECTOR_BYTES) {
            return Err(corrupt(format!(
                "vmdk grain {grain} at {start} is that of sector {sector}"
            )));
        }
        if length == 0 || u64::from(length) > 2 * grain_bytes {
            return Err(corrupt(format!("vmdk grain {grain} of {length} compressed bytes")));
        }
        let data = start + GRAIN_MARKER_BYTES as u64;
        let deflated = read(&*self.source, "vmdk compressed grain", data, length as usize)?;
        let needed = grain_bytes.min(self.size_bytes - grain * grain_bytes);
        match inflate_zlib(state, &deflated, to) {
            Some(inflated) if inflated as u64 >= needed => Ok(()),
            _ => Err(corrupt(format!("vmdk grain {grain} at {start} does not inflate"))),
        }
    }
}

/// A descriptor without data has its own reason: people mistake it for the disk.
fn check_not_alone(source: &dyn Source) -> Result<()> {
    let length = source.length_bytes().min(4096) as usize;
    if descriptor::looks_like_one(&read(source, "vmdk", 0, length)?) {
        return Err(unsupported("vmdk descriptor alone, whose data is in other files"));
    }
    Ok(())
}

impl Disk for Vmdk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self.size_bytes, offset, buf.len())?;
        let compressed = self.read_plain(offset, buf)?;
        parallel::for_each(
            compressed,
            || Ok(Box::<DecompressorOxide>::default()),
            |state, wanted| self.bring(state, wanted),
        )
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.size_bytes, offset)?;
        let coverage = self.table_coverage();
        let index = offset / coverage;
        let (kind, end) = if let Some(table) = self.table(index)? {
            let grain_bytes = self.header.grain_bytes;
            let first = offset / grain_bytes;
            let last = (index + 1) * self.header.entries_per_table;
            let last = last.min(self.size_bytes.div_ceil(grain_bytes));
            let kind = |grain| -> Result<ExtentKind> {
                match self.place(&table, grain % self.header.entries_per_table, grain)? {
                    Place::Zero => Ok(ExtentKind::Zero),
                    Place::At(_) => Ok(ExtentKind::Data),
                }
            };
            let first_kind = kind(first)?;
            let mut end = first + 1;
            // A run ends with its table, so that a walk over all runs reads each table once.
            while end < last && kind(end)? == first_kind {
                end += 1;
            }
            (first_kind, end * grain_bytes)
        } else {
            let last = self.size_bytes.div_ceil(coverage).min(index + EMPTY_TABLES_MAX);
            let mut end = index + 1;
            while end < last && self.directory.entry(end)? == [0; 4] {
                end += 1;
            }
            (ExtentKind::Zero, end * coverage)
        };
        Ok(Extent { length_bytes: end.min(self.size_bytes) - offset, kind })
    }
}
