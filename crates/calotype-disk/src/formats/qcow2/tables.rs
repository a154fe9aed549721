//! Tables of offsets, and what an entry of the second level says of its cluster.

use super::header::{COPIED, Header, corrupt, unsupported};
use super::inflate::Deflated;
use super::metadata::Metadata;
use crate::{Error, ExtentKind, Result, Source};

/// The bits of a table entry that hold an offset into the file.
pub(super) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const READS_AS_ZEROS: u64 = 1;
/// With extended entries.
const SUBCLUSTERS: usize = 32;
const SECTOR_BYTES: u64 = 512;

/// Who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Our own QEMU: a layer over a disk below, without compressed clusters.
    Ours,
    /// Anybody: a whole disk.
    Stranger,
}

/// Where the bytes of one unit are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Parent,
    Zero,
    /// At this offset of the file.
    Data(u64),
    /// Somewhere in a cluster that must be inflated as a whole.
    Deflated(Deflated),
}

impl Unit {
    pub(super) fn kind(self) -> ExtentKind {
        match self {
            Self::Parent => ExtentKind::Parent,
            Self::Zero => ExtentKind::Zero,
            Self::Data(_) | Self::Deflated(_) => ExtentKind::Data,
        }
    }

    /// Whether `next`, `distance` bytes after the start of this one, continues it.
    pub(super) fn continues(self, next: Self, distance: u64) -> bool {
        match (self, next) {
            (Self::Data(data), Self::Data(next)) => data.checked_add(distance) == Some(next),
            (unit, next) => unit == next,
        }
    }
}

/// What is needed to understand entries.
pub(super) struct Entries {
    pub(super) header: Header,
    pub(super) file_bytes: u64,
    pub(super) writer: Writer,
    pub(super) metadata: Metadata,
}

impl Entries {
    /// The smallest run that is allocated by itself: a cluster, or a part of one.
    pub(super) fn unit_bytes(&self) -> u64 {
        let parts = if self.header.extended_l2 { SUBCLUSTERS as u64 } else { 1 };
        self.header.cluster_bytes() / parts
    }

    /// What `table` says of its unit number `index`, which is at `offset` of the disk.
    pub(super) fn unit(&self, table: &[u64], index: usize, offset: u64) -> Result<Unit> {
        let number = |index: usize| {
            table.get(index).copied().ok_or_else(|| {
                corrupt(format!("qcow2 L2 table has no entry {index} for offset {offset}"))
            })
        };
        if !self.header.extended_l2 {
            return self.plain(number(index)?, offset);
        }
        let cluster = index / SUBCLUSTERS;
        let (entry, bitmap) = (number(2 * cluster)?, number(2 * cluster + 1)?);
        self.subcluster(entry, bitmap, index % SUBCLUSTERS, offset)
    }

    fn plain(&self, entry: u64, offset: u64) -> Result<Unit> {
        if entry & COMPRESSED != 0 {
            return self.deflated(entry, offset);
        }
        if entry & !(OFFSET_MASK | COPIED | READS_AS_ZEROS) != 0 {
            return Err(corrupt(format!("qcow2 L2 entry {entry:#x} at offset {offset}")));
        }
        if entry & READS_AS_ZEROS != 0 {
            return if self.header.version >= 3 {
                Ok(Unit::Zero)
            } else {
                Err(corrupt(format!("qcow2 zero cluster in version 2 at offset {offset}")))
            };
        }
        match entry & OFFSET_MASK {
            0 => Ok(self.nothing()),
            data => self.data(data, 0, offset),
        }
    }

    fn subcluster(&self, entry: u64, bitmap: u64, part: usize, offset: u64) -> Result<Unit> {
        if entry & COMPRESSED != 0 {
            if bitmap != 0 {
                return Err(corrupt(format!("qcow2 compressed subclusters at offset {offset}")));
            }
            return self.deflated(entry, offset);
        }
        let (allocated, zero) = (bitmap as u32, (bitmap >> SUBCLUSTERS) as u32);
        let data = entry & OFFSET_MASK;
        let bits_clash = allocated & zero != 0 || (data == 0 && allocated != 0);
        if entry & !(OFFSET_MASK | COPIED) != 0 || bits_clash {
            return Err(corrupt(format!(
                "qcow2 extended L2 entry {entry:#x} {bitmap:#x} at offset {offset}"
            )));
        }
        if zero >> part & 1 != 0 {
            Ok(Unit::Zero)
        } else if allocated >> part & 1 != 0 {
            self.data(data, part as u64 * self.unit_bytes(), offset)
        } else {
            Ok(self.nothing())
        }
    }

    /// What is not allocated. Below a stranger's disk there is nothing.
    pub(super) fn nothing(&self) -> Unit {
        match self.writer {
            Writer::Ours => Unit::Parent,
            Writer::Stranger => Unit::Zero,
        }
    }

    /// The unit `within` bytes into the cluster at `cluster`.
    fn data(&self, cluster: u64, within: u64, offset: u64) -> Result<Unit> {
        let cluster_bytes = self.header.cluster_bytes();
        let data = cluster + within;
        let inside = match self.writer {
            // QEMU writes only what is needed, and reads zeros behind the end of the file.
            Writer::Ours => data < self.file_bytes,
            Writer::Stranger => {
                let needed = self.unit_bytes().min(self.header.size_bytes.saturating_sub(offset));
                data + needed <= self.file_bytes
            }
        };
        if !cluster.is_multiple_of(cluster_bytes) || !inside {
            return Err(corrupt(format!(
                "qcow2 data at {data:#x} for offset {offset}, in a file of {} bytes",
                self.file_bytes
            )));
        }
        self.metadata.refuse(cluster, cluster + cluster_bytes, offset)?;
        Ok(Unit::Data(data))
    }

    fn deflated(&self, entry: u64, offset: u64) -> Result<Unit> {
        if self.writer == Writer::Ours {
            return Err(unsupported(format!("compressed qcow2 cluster at offset {offset}")));
        }
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let start = entry & ((1 << offset_bits) - 1);
        let more_sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
        let length_bytes = (more_sectors + 1) * SECTOR_BYTES - start % SECTOR_BYTES;
        let end = start + length_bytes;
        // The last sector of a file need not be whole.
        if end > self.file_bytes.next_multiple_of(SECTOR_BYTES) || start >= self.file_bytes {
            return Err(corrupt(format!(
                "qcow2 compressed data at {start:#x}..{end:#x} for offset {offset}, in a file of \
                 {} bytes",
                self.file_bytes
            )));
        }
        self.metadata.refuse(start, end, offset)?;
        let length_bytes = length_bytes.min(self.file_bytes - start);
        Ok(Unit::Deflated(Deflated { start, length_bytes }))
    }
}

/// The offset in a first-level entry: of a whole table inside the file, or zero.
pub(super) fn check_l1_entry(entry: u64, header: &Header, file_bytes: u64) -> Result<u64> {
    let offset = entry & OFFSET_MASK;
    let inside = offset.checked_add(header.cluster_bytes()).is_some_and(|end| end <= file_bytes);
    let clean = entry & !(OFFSET_MASK | COPIED) == 0;
    if clean && offset.is_multiple_of(header.cluster_bytes()) && (offset == 0 || inside) {
        Ok(offset)
    } else {
        Err(corrupt(format!("qcow2 L1 entry {entry:#x}, in a file of {file_bytes} bytes")))
    }
}

/// Reads `entries` big-endian numbers. The caller has checked that they are few enough.
pub(super) fn read_table(
    source: &dyn Source,
    offset: u64,
    entries: usize,
    name: &str,
) -> Result<Vec<u64>> {
    let mut bytes = vec![0; entries * 8];
    source
        .read_at(offset, &mut bytes)
        .map_err(|error| Error::io(format!("reading qcow2 {name} table at {offset}"), error))?;
    Ok(bytes.as_chunks().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect())
}
