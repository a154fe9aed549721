//! Reading a qcow2 disk: two levels of tables, each checked before it is followed.

use std::sync::{Arc, Mutex};

use super::header::{Header, corrupt, unsupported};
use super::inflate::{Deflated, Inflater};
use super::metadata::Metadata;
use super::tables::{Entries, Unit, Writer, check_l1_entry, read_table};
use crate::limits::{
    QCOW2_INFLATED_CACHE_BYTES_MAX, QCOW2_L1_BYTES_MAX, QCOW2_L2_CACHE_BYTES_MAX,
    QCOW2_STRANGERS_L1_BYTES_MAX,
};
use crate::parallel;
use crate::recent::{Recent, remembered};
use crate::{Disk, Error, Extent, Result, Source, check_offset, check_range};

/// One qcow2 file.
pub struct Qcow2 {
    source: Box<dyn Source>,
    entries: Entries,
    /// Offsets of second-level tables; 0 = none.
    l1: Vec<u64>,
    /// By index in the first-level table.
    l2: Mutex<Recent<u64>>,
    /// By offset in the file: so that small reads do not inflate their cluster again and again.
    inflated: Mutex<Recent<u8>>,
}

/// A part of a compressed cluster, and where it shall go.
struct Wanted<'a> {
    deflated: Deflated,
    in_cluster: usize,
    to: &'a mut [u8],
}

impl Qcow2 {
    /// Opens one layer as our own QEMU writes it: version 3, clusters of any size.
    ///
    /// What is not allocated is [`ExtentKind::Parent`], zero clusters are [`ExtentKind::Zero`]. A
    /// recorded backing name is ignored. A dirty bit (QEMU was killed) is accepted: it
    /// concerns refcounts, which a reader does not need. Encryption, external data files, extended
    /// L2 entries and features unknown here are [`crate::ErrorKind::UnsupportedFeature`], here;
    /// compressed clusters are so when they are met. Internal snapshots are not looked at.
    ///
    /// [`ExtentKind::Parent`]: crate::ExtentKind::Parent
    /// [`ExtentKind::Zero`]: crate::ExtentKind::Zero
    pub fn open_layer(source: Box<dyn Source>) -> Result<Self> {
        let header = Header::read(source.as_ref())?;
        check_layer(&header)?;
        let l1 = read_l1(source.as_ref(), &header, QCOW2_L1_BYTES_MAX)?;
        Ok(Self::new(source, header, l1, Writer::Ours, Metadata::default()))
    }

    /// Opens a stranger's whole disk: version 2 or 3, with all that QEMU can write into one file.
    ///
    /// What is not allocated is [`ExtentKind::Zero`]. Internal snapshots are passed over. Whatever
    /// would have to be read from another file, or decrypted, is
    /// [`crate::ErrorKind::UnsupportedFeature`]. Metadata that leaves the file or overlaps other
    /// metadata is [`crate::ErrorKind::Corrupt`] here, data that does so when its table is met.
    /// Reads at most 2 MiB.
    ///
    /// [`ExtentKind::Zero`]: crate::ExtentKind::Zero
    pub fn open(source: Box<dyn Source>) -> Result<Self> {
        let header = Header::read(source.as_ref())?;
        if header.names_backing_file {
            return Err(unsupported("qcow2 disk over a backing file"));
        }
        let l1 = read_l1(source.as_ref(), &header, QCOW2_STRANGERS_L1_BYTES_MAX)?;
        let metadata = Metadata::gather(source.as_ref(), &header, &l1)?;
        Ok(Self::new(source, header, l1, Writer::Stranger, metadata))
    }

    fn new(
        source: Box<dyn Source>,
        header: Header,
        l1: Vec<u64>,
        writer: Writer,
        metadata: Metadata,
    ) -> Self {
        let recent = |bytes_max: usize| (bytes_max >> header.cluster_bits).max(1);
        let l2 = Mutex::new(Recent::new(recent(QCOW2_L2_CACHE_BYTES_MAX)));
        let inflated = Mutex::new(Recent::new(recent(QCOW2_INFLATED_CACHE_BYTES_MAX)));
        let file_bytes = source.length_bytes();
        let entries = Entries { header, file_bytes, writer, metadata };
        Self { source, entries, l1, l2, inflated }
    }

    fn header(&self) -> &Header {
        &self.entries.header
    }

    /// The second-level table that describes `offset`, or none.
    fn l2_table(&self, offset: u64) -> Result<Option<Arc<[u64]>>> {
        let index = (offset / self.header().l2_coverage_bytes()) as usize;
        let table_offset = match self.l1.get(index) {
            Some(0) => return Ok(None),
            Some(&table_offset) => table_offset,
            None => return Err(corrupt(format!("qcow2 L1 table has no entry {index}"))),
        };
        let entries = (self.header().cluster_bytes() / 8) as usize;
        remembered(&self.l2, table_offset, || {
            read_table(self.source.as_ref(), table_offset, entries, "L2")
        })
        .map(Some)
    }

    /// Reads what is not compressed, and says what is.
    fn read_plain<'a>(&self, mut offset: u64, mut buf: &'a mut [u8]) -> Result<Vec<Wanted<'a>>> {
        let mut deflated = Vec::new();
        while !buf.is_empty() {
            let (unit, length_bytes) = self.run_at(offset, buf.len() as u64)?;
            let length = usize::try_from(length_bytes).unwrap_or(buf.len()).min(buf.len());
            let (run, rest) = buf.split_at_mut(length);
            offset += length as u64;
            buf = rest;
            match unit {
                Unit::Data(data) => self.read_data(data, run)?,
                Unit::Parent | Unit::Zero => run.fill(0),
                Unit::Deflated(found) => {
                    let start = offset - length as u64;
                    let in_cluster = (start % self.header().cluster_bytes()) as usize;
                    deflated.push(Wanted { deflated: found, in_cluster, to: run });
                }
            }
        }
        Ok(deflated)
    }

    /// The run at `offset` that one read can bring, of about `length_max` bytes at most.
    fn run_at(&self, offset: u64, length_max: u64) -> Result<(Unit, u64)> {
        let coverage = self.header().l2_coverage_bytes();
        let Some(table) = self.l2_table(offset)? else {
            return Ok((self.entries.nothing(), coverage - offset % coverage));
        };
        let unit_bytes = self.entries.unit_bytes();
        let in_unit = offset % unit_bytes;
        let start = offset - in_unit;
        let first = (offset % coverage / unit_bytes) as usize;
        let unit = self.entries.unit(&table, first, start)?;
        let mut length = unit_bytes;
        let mut next = first + 1;
        // Units that lie one after the other in the file are read at once.
        while length - in_unit < length_max
            && !start.wrapping_add(length).is_multiple_of(coverage)
            && self.joins(unit, start + length)
            && unit.continues(self.entries.unit(&table, next, start + length)?, length)
        {
            length += unit_bytes;
            next += 1;
        }
        let unit = match unit {
            Unit::Data(data) => Unit::Data(data + in_unit),
            other => other,
        };
        Ok((unit, length - in_unit))
    }

    /// Whether a run of `unit` may go on at `offset`: a compressed one ends with its cluster.
    fn joins(&self, unit: Unit, offset: u64) -> bool {
        !matches!(unit, Unit::Deflated(_)) || !offset.is_multiple_of(self.header().cluster_bytes())
    }

    /// Reads file bytes of a data cluster. The last cluster of a file may be cut short: QEMU
    /// writes only what is needed and reads zeros beyond.
    fn read_data(&self, file_offset: u64, buf: &mut [u8]) -> Result<()> {
        let available = self.entries.file_bytes.saturating_sub(file_offset);
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

    fn inflate(&self, inflater: &mut Inflater, wanted: Wanted<'_>) -> Result<()> {
        let Wanted { deflated, in_cluster, to } = wanted;
        let source = self.source.as_ref();
        let cluster_bytes = self.header().cluster_bytes() as usize;
        if to.len() == cluster_bytes {
            return inflater.inflate(source, deflated, to);
        }
        let cluster = remembered(&self.inflated, deflated.start, || {
            let mut cluster = vec![0; cluster_bytes];
            inflater.inflate(source, deflated, &mut cluster)?;
            Ok(cluster)
        })?;
        let part = cluster
            .get(in_cluster..)
            .and_then(|rest| rest.get(..to.len()))
            .ok_or_else(|| corrupt(format!("{deflated} is read past its end")))?;
        to.copy_from_slice(part);
        Ok(())
    }
}

impl Disk for Qcow2 {
    fn size_bytes(&self) -> u64 {
        self.header().size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self.size_bytes(), offset, buf.len())?;
        let deflated = self.read_plain(offset, buf)?;
        parallel::for_each(
            deflated,
            || Inflater::new(self.header().compression),
            |inflater, wanted| self.inflate(inflater, wanted),
        )
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.size_bytes(), offset)?;
        let coverage = self.header().l2_coverage_bytes();
        let table_start = offset - offset % coverage;
        let (kind, end) = if let Some(table) = self.l2_table(offset)? {
            let unit_bytes = self.entries.unit_bytes();
            let first = (offset % coverage / unit_bytes) as usize;
            let position = |index: usize| table_start + index as u64 * unit_bytes;
            let kind = self.entries.unit(&table, first, position(first))?.kind();
            let mut next = first + 1;
            // A run ends with its table, so that a walk over all runs reads each table once.
            while position(next) < self.size_bytes().min(table_start + coverage)
                && self.entries.unit(&table, next, position(next))?.kind() == kind
            {
                next += 1;
            }
            (kind, position(next))
        } else {
            let first = (offset / coverage) as usize;
            let empty = self.l1.iter().skip(first).take_while(|&&table| table == 0).count();
            (self.entries.nothing().kind(), (first + empty) as u64 * coverage)
        };
        Ok(Extent { length_bytes: end.min(self.size_bytes()) - offset, kind })
    }
}

/// Refuses what our own QEMU never writes into a layer.
fn check_layer(header: &Header) -> Result<()> {
    if header.version != super::header::VERSION {
        return Err(unsupported(format!("qcow2 layer of version {}", header.version)));
    }
    if header.extended_l2 {
        return Err(unsupported("qcow2 layer with extended L2 entries"));
    }
    if header.compression != super::inflate::Compression::Zlib {
        return Err(unsupported("qcow2 layer with a compression type"));
    }
    Ok(())
}

/// The first-level entries that the disk needs, all of them inside the file.
fn read_l1(source: &dyn Source, header: &Header, bytes_max: u64) -> Result<Vec<u64>> {
    let entries = header.l1_entries_needed(bytes_max)?;
    let file_bytes = source.length_bytes();
    let offset = header.l1_offset;
    let inside = offset.checked_add(entries as u64 * 8).is_some_and(|end| end <= file_bytes);
    if !inside || !offset.is_multiple_of(header.cluster_bytes()) {
        return Err(corrupt(format!(
            "qcow2 L1 table at {offset:#x}, in a file of {file_bytes} bytes"
        )));
    }
    let mut l1 = read_table(source, offset, entries, "L1")?;
    for entry in &mut l1 {
        *entry = check_l1_entry(*entry, header, file_bytes)?;
    }
    Ok(l1)
}
