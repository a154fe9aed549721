//! Where a stranger's file has its metadata: no two parts may overlap, and no data may lie there.
//!
//! A table that two entries share, or that is its own data, is how a file makes a reader serve what
//! it did not mean to, or walk for ever. What is looked at is small: the first-level table, the
//! table of refcount blocks and the table of snapshots. Second-level tables and refcount blocks
//! are known by their places alone.

use super::header::{Header, corrupt};
use super::snapshots;
use super::tables::{OFFSET_MASK, read_table};
use crate::limits::QCOW2_REFCOUNT_TABLE_BYTES_MAX;
use crate::{Error, ErrorKind, Result, Source};

/// A part of the file, in whole clusters.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u64,
    end: u64,
    what: What,
}

/// What a part is, for errors.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Header,
    L1Table,
    L2Table,
    RefcountTable,
    RefcountBlock,
    SnapshotTable,
    SnapshotL1Table,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::L1Table => "L1 table",
            Self::L2Table => "L2 table",
            Self::RefcountTable => "refcount table",
            Self::RefcountBlock => "refcount block",
            Self::SnapshotTable => "snapshot table",
            Self::SnapshotL1Table => "L1 table of a snapshot",
        }
    }
}

/// The parts of a file that hold metadata, in their order.
#[derive(Default)]
pub(super) struct Metadata {
    parts: Vec<Part>,
}

impl Metadata {
    /// Of a file whose active first-level table is `l1`.
    pub(super) fn gather(source: &dyn Source, header: &Header, l1: &[u64]) -> Result<Self> {
        let blocks = refcount_blocks(source, header)?;
        let tables = l1.iter().filter(|&&offset| offset != 0).count();
        let parts = Vec::with_capacity(tables + blocks.len() + 4);
        let cluster_bytes = header.cluster_bytes();
        let mut gathered = Gathering { parts, file_bytes: source.length_bytes(), cluster_bytes };

        gathered.add(What::Header, 0, cluster_bytes.min(gathered.file_bytes))?;
        gathered.add(What::L1Table, header.l1_offset, u64::from(header.l1_entries) * 8)?;
        for &offset in l1.iter().filter(|&&offset| offset != 0) {
            gathered.add(What::L2Table, offset, cluster_bytes)?;
        }
        let bytes = u64::from(header.refcount_table_clusters) * cluster_bytes;
        gathered.add(What::RefcountTable, header.refcount_table_offset, bytes)?;
        for offset in blocks {
            gathered.add(What::RefcountBlock, offset, cluster_bytes)?;
        }
        snapshots::walk(source, header, |what, offset, bytes| gathered.add(what, offset, bytes))?;
        gathered.finish()
    }

    /// Refuses data of the disk's `offset` that would lie in metadata.
    pub(super) fn refuse(&self, start: u64, end: u64, offset: u64) -> Result<()> {
        let next = self.parts.partition_point(|part| part.end <= start);
        match self.parts.get(next) {
            Some(part) if part.start < end => Err(corrupt(format!(
                "qcow2 data for offset {offset} at {start:#x} lies in the {} at {:#x}",
                part.what.name(),
                part.start
            ))),
            _ => Ok(()),
        }
    }
}

/// Parts as they are found, in no order.
struct Gathering {
    parts: Vec<Part>,
    file_bytes: u64,
    cluster_bytes: u64,
}

impl Gathering {
    /// A part must begin on a cluster and lie in the file.
    fn add(&mut self, what: What, offset: u64, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let inside = offset.checked_add(bytes).filter(|&end| end <= self.file_bytes);
        let end = inside.and_then(|end| end.checked_next_multiple_of(self.cluster_bytes));
        match end {
            Some(end) if offset.is_multiple_of(self.cluster_bytes) => {
                self.parts.push(Part { start: offset, end, what });
                Ok(())
            }
            Some(_) => {
                Err(corrupt(format!("qcow2 {} at {offset:#x}, inside a cluster", what.name())))
            }
            None => Err(corrupt(format!(
                "qcow2 {} of {bytes} bytes at {offset:#x}, in a file of {} bytes",
                what.name(),
                self.file_bytes
            ))),
        }
    }

    fn finish(mut self) -> Result<Metadata> {
        self.parts.sort_unstable_by_key(|part| part.start);
        for pair in self.parts.array_windows() {
            let [first, second] = pair;
            if first.end > second.start {
                return Err(corrupt(format!(
                    "qcow2 {} at {:#x} overlaps the {} at {:#x}",
                    second.what.name(),
                    second.start,
                    first.what.name(),
                    first.start
                )));
            }
        }
        Ok(Metadata { parts: self.parts })
    }
}

/// The offsets of the refcount blocks that a file of this length has use for.
fn refcount_blocks(source: &dyn Source, header: &Header) -> Result<Vec<u64>> {
    let cluster_bytes = header.cluster_bytes();
    let room = u64::from(header.refcount_table_clusters) * (cluster_bytes / 8);
    if room == 0 {
        return Err(corrupt("qcow2 file without a refcount table"));
    }
    let covered_bytes = ((cluster_bytes * 8) >> header.refcount_order) * cluster_bytes;
    let entries = source.length_bytes().div_ceil(covered_bytes).min(room);
    if entries * 8 > QCOW2_REFCOUNT_TABLE_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::OutOfBounds,
            format!(
                "qcow2 refcount table of {} bytes, over {QCOW2_REFCOUNT_TABLE_BYTES_MAX}",
                entries * 8
            ),
        ));
    }
    let offset = header.refcount_table_offset;
    if offset.checked_add(entries * 8).is_none_or(|end| end > source.length_bytes()) {
        return Err(corrupt(format!(
            "qcow2 refcount table at {offset:#x}, in a file of {} bytes",
            source.length_bytes()
        )));
    }
    let mut blocks = read_table(source, offset, entries as usize, "refcount")?;
    if let Some(entry) = blocks.iter().find(|&entry| entry & !OFFSET_MASK != 0) {
        return Err(corrupt(format!("qcow2 refcount table entry {entry:#x}")));
    }
    blocks.retain(|&offset| offset != 0);
    Ok(blocks)
}
