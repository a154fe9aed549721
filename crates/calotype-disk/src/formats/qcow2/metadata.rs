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

/// What a part of the file is, for errors.
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

/// A part of the file, in whole clusters.
#[derive(Debug, Clone, Copy)]
struct Part {
    start: u64,
    end: u64,
    what: What,
}

/// The parts of a file that hold metadata, none over another. Of those of one cluster there may be
/// hundreds of thousands, so that they are kept as small as can be.
#[derive(Default)]
pub(super) struct Metadata {
    cluster_bytes: u64,
    /// Parts of one cluster, sorted: where they begin, with [`IS_REFCOUNT_BLOCK`] or without it.
    clusters: Vec<u64>,
    /// All others, sorted.
    others: Vec<Part>,
}

/// In the lowest bit of an offset, which clusters have no use for. All else is an L2 table.
const IS_REFCOUNT_BLOCK: u64 = 1;

impl Metadata {
    /// Of a file whose active first-level table is `l1`.
    pub(super) fn gather(source: &dyn Source, header: &Header, l1: &[u64]) -> Result<Self> {
        let blocks = refcount_blocks(source, header)?;
        let cluster_bytes = header.cluster_bytes();
        let file_bytes = source.length_bytes();
        let others = gather_others(source, header)?;
        for &offset in &blocks {
            check_part(What::RefcountBlock, offset, cluster_bytes, cluster_bytes, file_bytes)?;
        }
        // Those of the first level were checked when it was read.
        let tables = l1.iter().copied().filter(|&offset| offset != 0);
        let clusters = tables.chain(blocks.iter().map(|offset| offset | IS_REFCOUNT_BLOCK));
        let mut metadata = Self { cluster_bytes, clusters: clusters.collect(), others };
        metadata.clusters.sort_unstable();
        metadata.others.sort_unstable_by_key(|part| part.start);
        metadata.check()?;
        Ok(metadata)
    }

    /// Refuses parts that overlap.
    fn check(&self) -> Result<()> {
        let same = |pair: &&[u64; 2]| pair[0] | IS_REFCOUNT_BLOCK == pair[1] | IS_REFCOUNT_BLOCK;
        if let Some(&[first, second]) = self.clusters.array_windows().find(same) {
            return Err(overlap(self.cluster(first), self.cluster(second)));
        }
        if let Some(&[first, second]) =
            self.others.array_windows().find(|pair| pair[0].end > pair[1].start)
        {
            return Err(overlap(first, second));
        }
        match self
            .others
            .iter()
            .find_map(|other| Some((other, self.cluster_in(other.start, other.end)?)))
        {
            Some((other, cluster)) => Err(overlap(*other, cluster)),
            None => Ok(()),
        }
    }

    /// Refuses data of the disk's `offset` that would lie in metadata.
    pub(super) fn refuse(&self, start: u64, end: u64, offset: u64) -> Result<()> {
        let next = self.others.partition_point(|part| part.end <= start);
        let other = self.others.get(next).copied().filter(|part| part.start < end);
        match other.or_else(|| self.cluster_in(start, end)) {
            Some(part) => Err(corrupt(format!(
                "qcow2 data for offset {offset} at {start:#x} lies in the {} at {:#x}",
                part.what.name(),
                part.start
            ))),
            None => Ok(()),
        }
    }

    /// The first part of one cluster that reaches into a range.
    fn cluster_in(&self, start: u64, end: u64) -> Option<Part> {
        let next = self.clusters.partition_point(|&cluster| self.cluster(cluster).end <= start);
        let part = self.cluster(*self.clusters.get(next)?);
        (part.start < end).then_some(part)
    }

    fn cluster(&self, offset: u64) -> Part {
        let is_block = offset & IS_REFCOUNT_BLOCK != 0;
        let what = if is_block { What::RefcountBlock } else { What::L2Table };
        let start = offset & !IS_REFCOUNT_BLOCK;
        Part { start, end: start + self.cluster_bytes, what }
    }
}

fn gather_others(source: &dyn Source, header: &Header) -> Result<Vec<Part>> {
    let cluster_bytes = header.cluster_bytes();
    let file_bytes = source.length_bytes();
    let mut parts = Vec::new();
    let mut add = |what, offset, bytes| {
        if bytes > 0 {
            parts.push(check_part(what, offset, bytes, cluster_bytes, file_bytes)?);
        }
        Ok(())
    };
    add(What::Header, 0, cluster_bytes.min(file_bytes))?;
    add(What::L1Table, header.l1_offset, u64::from(header.l1_entries) * 8)?;
    let refcount_table_bytes = u64::from(header.refcount_table_clusters) * cluster_bytes;
    add(What::RefcountTable, header.refcount_table_offset, refcount_table_bytes)?;
    snapshots::walk(source, header, add)?;
    Ok(parts)
}

/// A part must begin on a cluster and lie in the file.
fn check_part(
    what: What,
    start: u64,
    bytes: u64,
    cluster_bytes: u64,
    file_bytes: u64,
) -> Result<Part> {
    let inside = start.checked_add(bytes).filter(|&end| end <= file_bytes);
    match inside.and_then(|end| end.checked_next_multiple_of(cluster_bytes)) {
        Some(end) if start.is_multiple_of(cluster_bytes) => Ok(Part { start, end, what }),
        Some(_) => Err(corrupt(format!("qcow2 {} at {start:#x}, inside a cluster", what.name()))),
        None => Err(corrupt(format!(
            "qcow2 {} of {bytes} bytes at {start:#x}, in a file of {file_bytes} bytes",
            what.name()
        ))),
    }
}

fn overlap(first: Part, second: Part) -> Error {
    corrupt(format!(
        "qcow2 {} at {:#x} overlaps the {} at {:#x}",
        first.what.name(),
        first.start,
        second.what.name(),
        second.start
    ))
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
