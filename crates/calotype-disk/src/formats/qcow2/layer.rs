//! Reading one qcow2 layer: two levels of tables, each checked before it is followed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::header::{Header, corrupt, l2_coverage_bytes, unsupported};
use crate::limits::QCOW2_L2_CACHE_BYTES_MAX;
use crate::{Disk, Error, Extent, ExtentKind, Result, Source, check_offset, check_range};

/// The bits of a table entry that hold an offset into the file.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// "The refcount is exactly one": of no use to a reader.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const READS_AS_ZEROS: u64 = 1;

/// One layer of a qcow2 chain.
pub struct Qcow2 {
    source: Box<dyn Source>,
    file_bytes: u64,
    header: Header,
    /// Offsets of second-level tables; 0 = none.
    l1: Vec<u64>,
    l2: Mutex<L2Cache>,
}

/// Where a cluster's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    Parent,
    Zero,
    /// At this offset of the file.
    Data(u64),
}

impl Cluster {
    fn kind(self) -> ExtentKind {
        match self {
            Self::Parent => ExtentKind::Parent,
            Self::Zero => ExtentKind::Zero,
            Self::Data(_) => ExtentKind::Data,
        }
    }
}

impl Qcow2 {
    /// Opens one layer as our own QEMU writes it: version 3, clusters of any size.
    ///
    /// What is not allocated is [`ExtentKind::Parent`], zero clusters are [`ExtentKind::Zero`]. A
    /// recorded backing name is ignored. A dirty bit (QEMU was killed) is accepted: it
    /// concerns refcounts, which a reader does not need. Encryption, external data files, extended
    /// L2 entries and features unknown here are [`crate::ErrorKind::UnsupportedFeature`], here;
    /// compressed clusters are so when they are met. Internal snapshots are not looked at.
    pub fn open_layer(source: Box<dyn Source>) -> Result<Self> {
        let file_bytes = source.length_bytes();
        let header = Header::read(source.as_ref())?;
        let l1 = read_table(source.as_ref(), header.l1_offset, header.l1_entries, "L1")?;
        let cluster_bytes = 1_u64 << header.cluster_bits;
        let l1 = l1
            .into_iter()
            .map(|entry| check_l1_entry(entry, cluster_bytes, file_bytes))
            .collect::<Result<Vec<_>>>()?;
        let tables_max = (QCOW2_L2_CACHE_BYTES_MAX >> header.cluster_bits).max(1);
        let l2 = Mutex::new(L2Cache { tables_max, ..L2Cache::default() });
        Ok(Self { source, file_bytes, header, l1, l2 })
    }

    fn cluster_bytes(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    /// The second-level table that describes `offset`, or none.
    fn l2_table(&self, offset: u64) -> Result<Option<Arc<[u64]>>> {
        let index = (offset / l2_coverage_bytes(self.header.cluster_bits)) as usize;
        let table_offset = match self.l1.get(index) {
            Some(0) => return Ok(None),
            Some(&table_offset) => table_offset,
            None => return Err(corrupt(format!("qcow2 L1 table has no entry {index}"))),
        };
        let cached = self.l2.lock().unwrap_or_else(PoisonError::into_inner).get(index);
        if cached.is_some() {
            return Ok(cached);
        }
        // Read outside the lock: two readers may both read it, and neither waits for the other.
        let entries = (self.cluster_bytes() / 8) as usize;
        let table: Arc<[u64]> =
            read_table(self.source.as_ref(), table_offset, entries, "L2")?.into();
        self.l2.lock().unwrap_or_else(PoisonError::into_inner).insert(index, table.clone());
        Ok(Some(table))
    }

    fn cluster(&self, entry: u64, offset: u64) -> Result<Cluster> {
        if entry & COMPRESSED != 0 {
            return Err(unsupported(format!("compressed qcow2 cluster at offset {offset}")));
        }
        if entry & !(OFFSET_MASK | COPIED | READS_AS_ZEROS) != 0 {
            return Err(corrupt(format!("qcow2 L2 entry {entry:#x} at offset {offset}")));
        }
        if entry & READS_AS_ZEROS != 0 {
            return Ok(Cluster::Zero);
        }
        match entry & OFFSET_MASK {
            0 => Ok(Cluster::Parent),
            data if data.is_multiple_of(self.cluster_bytes()) && data < self.file_bytes => {
                Ok(Cluster::Data(data))
            }
            data => Err(corrupt(format!("qcow2 data at {data:#x} for offset {offset}"))),
        }
    }

    /// Reads file bytes of a data cluster. The last cluster of a file may be cut short: QEMU
    /// writes only what is needed and reads zeros beyond.
    fn read_data(&self, file_offset: u64, buf: &mut [u8]) -> Result<()> {
        let available = self.file_bytes.saturating_sub(file_offset);
        let available = usize::try_from(available).unwrap_or(buf.len()).min(buf.len());
        let (inside, beyond) = buf.split_at_mut(available);
        beyond.fill(0);
        if inside.is_empty() {
            return Ok(());
        }
        self.source.read_at(file_offset, inside).map_err(|error| {
            Error::io(format!("reading qcow2 data at file offset {file_offset}"), error)
        })
    }
}

impl Disk for Qcow2 {
    fn size_bytes(&self) -> u64 {
        self.header.size_bytes
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        check_range(self.size_bytes(), offset, buf.len())?;
        let cluster_bytes = self.cluster_bytes();
        let coverage = l2_coverage_bytes(self.header.cluster_bits);
        while !buf.is_empty() {
            let table = self.l2_table(offset)?;
            let in_cluster = offset % cluster_bytes;
            let Some(table) = table else {
                let run = run_length(coverage - offset % coverage, buf.len());
                let (run, rest) = buf.split_at_mut(run);
                run.fill(0);
                offset += run.len() as u64;
                buf = rest;
                continue;
            };
            let first = (offset % coverage / cluster_bytes) as usize;
            let cluster = self.cluster(entry(&table, first)?, offset)?;
            // Clusters that lie one after the other in the file are read at once.
            let mut length = cluster_bytes - in_cluster;
            let mut next = first + 1;
            while length < buf.len() as u64
                && let Some(&entry) = table.get(next)
                && follows(cluster, self.cluster(entry, offset + length)?, in_cluster + length)
            {
                length += cluster_bytes;
                next += 1;
            }
            let (run, rest) = buf.split_at_mut(run_length(length, buf.len()));
            match cluster {
                Cluster::Data(data) => self.read_data(data + in_cluster, run)?,
                Cluster::Parent | Cluster::Zero => run.fill(0),
            }
            offset += run.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.size_bytes(), offset)?;
        let cluster_bytes = self.cluster_bytes();
        let coverage = l2_coverage_bytes(self.header.cluster_bits);
        let (kind, end) = if let Some(table) = self.l2_table(offset)? {
            let table_start = offset - offset % coverage;
            let first = (offset % coverage / cluster_bytes) as usize;
            let kind = self.cluster(entry(&table, first)?, offset)?.kind();
            let mut next = first + 1;
            // A run ends with its table, so that a walk over all runs reads each table once.
            while let Some(&entry) = table.get(next) {
                let position = table_start + next as u64 * cluster_bytes;
                if position >= self.size_bytes() || self.cluster(entry, position)?.kind() != kind {
                    break;
                }
                next += 1;
            }
            (kind, table_start + next as u64 * cluster_bytes)
        } else {
            let first = (offset / coverage) as usize;
            let empty = self.l1.iter().skip(first).take_while(|&&table| table == 0).count();
            (ExtentKind::Parent, (first + empty) as u64 * coverage)
        };
        Ok(Extent { length_bytes: end.min(self.size_bytes()) - offset, kind })
    }
}

/// Whether `next`, `distance` bytes after the start of `cluster`, continues it.
fn follows(cluster: Cluster, next: Cluster, distance: u64) -> bool {
    match (cluster, next) {
        (Cluster::Data(data), Cluster::Data(next)) => data.checked_add(distance) == Some(next),
        (cluster, next) => cluster == next,
    }
}

fn entry(table: &[u64], index: usize) -> Result<u64> {
    table.get(index).copied().ok_or_else(|| corrupt(format!("qcow2 L2 table has no entry {index}")))
}

fn run_length(run: u64, wanted: usize) -> usize {
    usize::try_from(run).unwrap_or(wanted).min(wanted)
}

fn check_l1_entry(entry: u64, cluster_bytes: u64, file_bytes: u64) -> Result<u64> {
    let offset = entry & OFFSET_MASK;
    let inside = offset.checked_add(cluster_bytes).is_some_and(|end| end <= file_bytes);
    let clean = entry & !(OFFSET_MASK | COPIED) == 0;
    if clean && offset.is_multiple_of(cluster_bytes) && (offset == 0 || inside) {
        Ok(offset)
    } else {
        Err(corrupt(format!("qcow2 L1 entry {entry:#x}")))
    }
}

/// Reads `entries` big-endian numbers. The caller has checked that they are few enough.
fn read_table(source: &dyn Source, offset: u64, entries: usize, name: &str) -> Result<Vec<u64>> {
    let mut bytes = vec![0; entries * 8];
    source
        .read_at(offset, &mut bytes)
        .map_err(|error| Error::io(format!("reading qcow2 {name} table at {offset}"), error))?;
    Ok(bytes.as_chunks().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect())
}

/// The tables read last, bounded, the oldest dropped first.
#[derive(Default)]
struct L2Cache {
    tables_max: usize,
    tables: HashMap<usize, Arc<[u64]>>,
    order: VecDeque<usize>,
}

impl L2Cache {
    fn get(&self, index: usize) -> Option<Arc<[u64]>> {
        self.tables.get(&index).cloned()
    }

    fn insert(&mut self, index: usize, table: Arc<[u64]>) {
        if self.tables.insert(index, table).is_some() {
            return;
        }
        self.order.push_back(index);
        if self.order.len() > self.tables_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.tables.remove(&oldest);
        }
    }
}
