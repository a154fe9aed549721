//! Disks of equal blocks, each of them nowhere or in one piece of the file: what vdi, vhd, vhdx and
//! sparse vmdk share once their tables are understood.

use std::sync::{Arc, Mutex};

use crate::limits::TABLE_CACHE_BYTES_MAX;
use crate::recent::{Recent, remembered};
use crate::{
    Disk, Error, ErrorKind, Extent, ExtentKind, Result, Source, check_offset, check_range,
};

/// A table is read by pages of this size, and a run of a disk ends where a page does.
const PAGE_BYTES: u64 = 64 << 10;

/// Where a block's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it reads as zeros.
    Zero,
    /// From this offset of the file on, all of it inside the file.
    At(u64),
}

/// A format's way from the number of a block to its place, checked.
pub(super) trait BlockMap: Send + Sync {
    /// Where block `index` is; `index` is that of a block inside the disk.
    fn place(&self, index: u64) -> Result<Place>;
}

/// The disk that a [`BlockMap`] describes.
pub(super) struct Blocks<M> {
    pub(super) source: Arc<dyn Source>,
    pub(super) size_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) map: M,
}

/// How many blocks one answer about a run looks at.
const RUN_BLOCKS_MAX: u64 = PAGE_BYTES / 4;

impl<M: BlockMap> Disk for Blocks<M> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        check_range(self.size_bytes, offset, buf.len())?;
        while !buf.is_empty() {
            let in_block = offset % self.block_bytes;
            let place = self.map.place(offset / self.block_bytes)?;
            let length = run_length(self.block_bytes - in_block, buf.len());
            let (run, rest) = buf.split_at_mut(length);
            match place {
                Place::Zero => run.fill(0),
                Place::At(start) => self
                    .source
                    .read_at(start + in_block, run)
                    .map_err(|error| Error::io(format!("reading the block at {start}"), error))?,
            }
            offset += length as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.size_bytes, offset)?;
        let first = offset / self.block_bytes;
        let kind = self.kind(first)?;
        // Ends at the same places from wherever it is asked, so that tables are read once.
        let end_max = (first / RUN_BLOCKS_MAX + 1) * RUN_BLOCKS_MAX;
        let end_max = end_max.min(self.size_bytes.div_ceil(self.block_bytes));
        let mut end = first + 1;
        while end < end_max && self.kind(end)? == kind {
            end += 1;
        }
        let end = end.saturating_mul(self.block_bytes).min(self.size_bytes);
        Ok(Extent { length_bytes: end - offset, kind })
    }
}

impl<M: BlockMap> Blocks<M> {
    fn kind(&self, index: u64) -> Result<ExtentKind> {
        Ok(match self.map.place(index)? {
            Place::Zero => ExtentKind::Zero,
            Place::At(_) => ExtentKind::Data,
        })
    }
}

/// `run` bytes, or as many of them as are wanted.
pub(super) fn run_length(run: u64, wanted: usize) -> usize {
    usize::try_from(run).unwrap_or(wanted).min(wanted)
}

/// A table in a file, read by pages when it is asked.
pub(super) struct Table<const BYTES: usize> {
    source: Arc<dyn Source>,
    name: &'static str,
    offset: u64,
    entries: u64,
    pages: Mutex<Recent<u8>>,
}

impl<const BYTES: usize> Table<BYTES> {
    /// The table of `entries` at `offset`, which must lie inside the file.
    pub(super) fn new(
        source: &Arc<dyn Source>,
        name: &'static str,
        offset: u64,
        entries: u64,
    ) -> Result<Self> {
        check_inside(&**source, name, offset, entries.saturating_mul(BYTES as u64))?;
        let pages = Recent::new(TABLE_CACHE_BYTES_MAX / PAGE_BYTES as usize);
        Ok(Self { source: Arc::clone(source), name, offset, entries, pages: Mutex::new(pages) })
    }

    /// The bytes of an entry.
    pub(super) fn entry(&self, index: u64) -> Result<[u8; BYTES]> {
        let missing = || corrupt(format!("{} has no entry {index}", self.name));
        if index >= self.entries {
            return Err(missing());
        }
        let entry_bytes = BYTES as u64;
        let per_page = PAGE_BYTES / entry_bytes;
        let page = index / per_page;
        let page = remembered(&self.pages, page, || self.read_page(page))?;
        let start = (index % per_page * entry_bytes) as usize;
        let entry = page.get(start..).and_then(|rest| rest.first_chunk());
        entry.copied().ok_or_else(missing)
    }

    fn read_page(&self, page: u64) -> Result<Vec<u8>> {
        let start = page * PAGE_BYTES;
        let length = (self.entries * BYTES as u64 - start).min(PAGE_BYTES);
        read(&*self.source, self.name, self.offset + start, length as usize)
    }
}

/// Refuses a part of a file that is not wholly inside of it.
pub(super) fn check_inside(
    source: &dyn Source,
    name: &str,
    offset: u64,
    length_bytes: u64,
) -> Result<()> {
    let file_bytes = source.length_bytes();
    match offset.checked_add(length_bytes) {
        Some(end) if end <= file_bytes => Ok(()),
        _ => Err(corrupt(format!(
            "{name} of {length_bytes} bytes at offset {offset} of a file of {file_bytes} bytes"
        ))),
    }
}

/// Reads a part of a file; the caller has checked that it is small enough.
pub(super) fn read(source: &dyn Source, name: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
    check_inside(source, name, offset, length as u64)?;
    let mut bytes = vec![0; length];
    source
        .read_at(offset, &mut bytes)
        .map_err(|error| Error::io(format!("reading {name} at offset {offset}"), error))?;
    Ok(bytes)
}

pub(super) fn corrupt(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, context)
}

pub(super) fn invalid(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidFormat, context)
}

pub(super) fn unsupported(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedFeature, context)
}

pub(super) fn out_of_bounds(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::OutOfBounds, context)
}
