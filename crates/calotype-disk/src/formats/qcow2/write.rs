//! Writing a disk as a lone qcow2 file, sparse or compressed, front to back except for the header.
//!
//! ```text
//! header │ clusters of 512 MiB of disk, their L2 table │ … │ L1 table │ refcount blocks │ refcount table
//!  head  │ body
//! ```
//! Version 3, clusters of 64 KiB, refcounts of 16 bits: what `qemu-img` writes, and what every reader
//! of the last ten years takes. No feature bit is set: deflate is the compression of both versions.

use std::mem;

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

use super::header::{COPIED, MAGIC, RawHeader, VERSION, l2_coverage_bytes};
use super::refcounts::Refcounts;
use crate::export::{
    Batch, Body, Deflater, Export, Head, Output, Wrapping, each_batch, exported_bytes, is_zero,
};
use crate::limits::VIRTUAL_SIZE_BYTES_MAX;
use crate::{Disk, Result};

pub(super) const CLUSTER_BITS: u32 = 16;
pub(super) const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
const BATCH_BYTES: u64 = 16 * CLUSTER_BYTES;
const L2_ENTRIES: u64 = CLUSTER_BYTES / 8;
const COMPRESSED: u64 = 1 << 62;
/// The bits of a compressed cluster's entry that hold its offset; the rest counts sectors.
const COMPRESSED_OFFSET_BITS: u32 = 62 - (CLUSTER_BITS - 8);
/// Clusters that did not become smaller and wait for the next place on the grid: every such place costs
/// half a cluster, so several share it.
const WAITING_MAX: usize = 16;

/// Plans a qcow2 file whose clusters are deflated, those that get smaller by it.
///
/// A disk of no bytes or more than [`VIRTUAL_SIZE_BYTES_MAX`] is
/// [`crate::ErrorKind::OutOfBounds`].
pub fn plan_compressed(disk: &dyn Disk) -> Result<Box<dyn Export>> {
    plan(disk, true)
}

/// Plans a qcow2 file whose clusters are as they are on the disk.
///
/// Refuses what [`plan_compressed`] refuses.
pub fn plan_sparse(disk: &dyn Disk) -> Result<Box<dyn Export>> {
    plan(disk, false)
}

fn plan(disk: &dyn Disk, compressed: bool) -> Result<Box<dyn Export>> {
    let size_bytes = exported_bytes(disk, "qcow2", VIRTUAL_SIZE_BYTES_MAX)?;
    Ok(Box::new(Planned { size_bytes, compressed }))
}

struct Planned {
    size_bytes: u64,
    compressed: bool,
}

impl Export for Planned {
    fn head_bytes(&self) -> u64 {
        CLUSTER_BYTES
    }

    fn file_bytes(&self) -> Option<u64> {
        None
    }

    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head> {
        let mut writer = Writer::new(self.size_bytes, body);
        let deflater = || self.compressed.then(Deflater::new).transpose();
        each_batch(disk, (BATCH_BYTES, CLUSTER_BYTES), deflater, pack, |batch, pack| {
            writer.take(batch, pack)
        })?;
        writer.finish()
    }
}

/// The clusters of a batch as they go into the file. Clusters of zeros are gone.
#[derive(Default)]
struct Pack {
    /// Deflated clusters, one behind the other.
    deflated: Vec<u8>,
    /// Which cluster of the batch each deflated one is, and its length.
    deflated_lengths: Vec<(u64, u64)>,
    /// Which clusters of the batch are taken as they are.
    plain: Vec<u64>,
}

fn pack(deflater: &mut Option<Deflater>, batch: &Batch) -> Result<Pack> {
    let mut pack = Pack::default();
    for (index, cluster) in (0..).zip(batch.bytes.chunks(CLUSTER_BYTES as usize)) {
        if is_zero(cluster) {
            continue;
        }
        if let Some(deflater) = deflater {
            let start = pack.deflated.len();
            let length = deflater.append(cluster, Wrapping::Raw, &mut pack.deflated)?;
            if length < cluster.len() {
                pack.deflated_lengths.push((index, length as u64));
                continue;
            }
            pack.deflated.truncate(start);
        }
        pack.plain.push(index);
    }
    Ok(pack)
}

struct Writer<'a> {
    size_bytes: u64,
    output: Output<'a>,
    /// Offsets of L2 tables in the file; 0 = none.
    l1: Vec<u64>,
    /// The table being filled, and which it is.
    l2: Vec<u64>,
    table: u64,
    waiting: Vec<(u64, Vec<u8>)>,
    refcounts: Refcounts,
}

impl<'a> Writer<'a> {
    fn new(size_bytes: u64, body: &'a mut dyn Body) -> Self {
        let mut refcounts = Refcounts::default();
        refcounts.add(0, CLUSTER_BYTES);
        Self {
            size_bytes,
            output: Output::new(body, CLUSTER_BYTES),
            l1: vec![0; size_bytes.div_ceil(l2_coverage_bytes(CLUSTER_BITS)) as usize],
            l2: vec![0; L2_ENTRIES as usize],
            table: 0,
            waiting: Vec::new(),
            refcounts,
        }
    }

    fn take(&mut self, batch: &Batch, pack: Pack) -> Result<()> {
        let first = batch.offset / CLUSTER_BYTES;
        if first / L2_ENTRIES != self.table {
            self.finish_table()?;
            self.table = first / L2_ENTRIES;
        }
        let mut offset = self.output.append(pack.deflated)?;
        for (index, length) in pack.deflated_lengths {
            let (first_sector, last_sector) = (offset / 512, (offset + length - 1) / 512);
            let sectors = (last_sector - first_sector) << COMPRESSED_OFFSET_BITS;
            self.set_l2(first + index, COMPRESSED | sectors | offset);
            self.refcounts.add(offset, length);
            offset += length;
        }
        for index in pack.plain {
            let cluster = batch.bytes.chunks(CLUSTER_BYTES as usize).nth(index as usize);
            self.take_plain(first + index, cluster.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Writes a cluster as it is, at once if this is a place on the grid.
    fn take_plain(&mut self, index: u64, cluster: &[u8]) -> Result<()> {
        if self.output.position().is_multiple_of(CLUSTER_BYTES) {
            let offset = self.output.append_slice(cluster)?;
            self.refcounts.add(offset, CLUSTER_BYTES);
            self.set_l2(index, COPIED | offset);
            return Ok(());
        }
        self.waiting.push((index, cluster.to_vec()));
        if self.waiting.len() < WAITING_MAX { Ok(()) } else { self.write_waiting() }
    }

    fn write_waiting(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.output.align(CLUSTER_BYTES)?;
        }
        for (index, cluster) in mem::take(&mut self.waiting) {
            let offset = self.append_clusters(cluster)?;
            self.set_l2(index, COPIED | offset);
        }
        Ok(())
    }

    /// Writes the table being filled, if there is anything in it, and begins an empty one.
    fn finish_table(&mut self) -> Result<()> {
        self.write_waiting()?;
        if self.l2.iter().all(|&entry| entry == 0) {
            return Ok(());
        }
        let table = self.l2.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.output.align(CLUSTER_BYTES)?;
        let offset = self.append_clusters(table)?;
        if let Some(entry) = self.l1.get_mut(self.table as usize) {
            *entry = COPIED | offset;
        }
        self.l2.fill(0);
        Ok(())
    }

    fn finish(mut self) -> Result<Head> {
        self.finish_table()?;
        let l1 = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.output.align(CLUSTER_BYTES)?;
        let l1_offset = self.append_clusters(l1)?;
        self.output.align(CLUSTER_BYTES)?;

        let blocks_offset = self.output.position();
        let (blocks, table) = self.refcounts.encode(blocks_offset);
        self.output.append(blocks)?;
        let table_clusters = (table.len() as u64).div_ceil(CLUSTER_BYTES);
        let table_offset = self.output.append(table)?;
        self.output.align(CLUSTER_BYTES)?;

        let header = RawHeader {
            magic: MAGIC,
            version: U32::new(VERSION),
            backing_file_offset: U64::ZERO,
            backing_file_size: U32::ZERO,
            cluster_bits: U32::new(CLUSTER_BITS),
            size: U64::new(self.size_bytes),
            crypt_method: U32::ZERO,
            l1_size: U32::new(self.l1.len() as u32),
            l1_table_offset: U64::new(l1_offset),
            refcount_table_offset: U64::new(table_offset),
            refcount_table_clusters: U32::new(table_clusters as u32),
            nb_snapshots: U32::ZERO,
            snapshots_offset: U64::ZERO,
            incompatible_features: U64::ZERO,
            compatible_features: U64::ZERO,
            autoclear_features: U64::ZERO,
            refcount_order: U32::new(4),
            header_length: U32::new(size_of::<RawHeader>() as u32),
        };
        let mut head = header.as_bytes().to_vec();
        head.resize(CLUSTER_BYTES as usize, 0);
        Ok(head)
    }

    /// Appends what begins on the grid and has its clusters for itself.
    fn append_clusters(&mut self, bytes: Vec<u8>) -> Result<u64> {
        let length = bytes.len() as u64;
        let offset = self.output.append(bytes)?;
        self.refcounts.add(offset, length);
        Ok(offset)
    }

    /// Sets the entry of a cluster of the disk, which is one of the table being filled.
    fn set_l2(&mut self, index: u64, entry: u64) {
        if let Some(place) = self.l2.get_mut((index % L2_ENTRIES) as usize) {
            *place = entry;
        }
    }
}
