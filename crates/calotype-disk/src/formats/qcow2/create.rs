//! An empty layer, byte for byte, without running anything.

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

use super::header::{MAGIC, RawHeader, VERSION, l2_coverage_bytes};
use crate::limits::VIRTUAL_SIZE_BYTES_MAX;
use crate::{Error, ErrorKind, Result};

const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
const SECTOR_BYTES: u64 = 512;
/// Refcounts of 16 bits, what QEMU writes too.
const REFCOUNT_ORDER: u32 = 4;

const REFCOUNT_TABLE_OFFSET: u64 = CLUSTER_BYTES;
const REFCOUNT_BLOCK_OFFSET: u64 = 2 * CLUSTER_BYTES;
const L1_OFFSET: u64 = 3 * CLUSTER_BYTES;

// One refcount block must be enough for everything that an empty layer has.
const _: () = {
    let l1_bytes = VIRTUAL_SIZE_BYTES_MAX / l2_coverage_bytes(CLUSTER_BITS) * 8;
    assert!(L1_OFFSET / CLUSTER_BYTES + l1_bytes / CLUSTER_BYTES < CLUSTER_BYTES / 2);
};

/// The bytes of an empty qcow2 layer for a disk of `size_bytes`: version 3, clusters of 64 KiB,
/// no extended L2 entries, no lazy refcounts, no name of a disk below.
///
/// The caller writes them to a file and gives QEMU the disk below as an explicit node. About
/// 256 KiB whatever the size. A size that is zero, no multiple of 512 or larger than
/// [`VIRTUAL_SIZE_BYTES_MAX`] is [`ErrorKind::OutOfBounds`].
pub fn create_layer(size_bytes: u64) -> Result<Vec<u8>> {
    if size_bytes == 0
        || size_bytes > VIRTUAL_SIZE_BYTES_MAX
        || !size_bytes.is_multiple_of(SECTOR_BYTES)
    {
        return Err(Error::new(
            ErrorKind::OutOfBounds,
            format!("qcow2 layer of {size_bytes} bytes"),
        ));
    }
    let l1_entries = size_bytes.div_ceil(l2_coverage_bytes(CLUSTER_BITS));
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER_BYTES);
    let clusters = L1_OFFSET / CLUSTER_BYTES + l1_clusters;

    let mut bytes = vec![0; (clusters * CLUSTER_BYTES) as usize];
    let header = RawHeader {
        magic: MAGIC,
        version: U32::new(VERSION),
        backing_file_offset: U64::ZERO,
        backing_file_size: U32::ZERO,
        cluster_bits: U32::new(CLUSTER_BITS),
        size: U64::new(size_bytes),
        crypt_method: U32::ZERO,
        l1_size: U32::new(l1_entries as u32),
        l1_table_offset: U64::new(L1_OFFSET),
        refcount_table_offset: U64::new(REFCOUNT_TABLE_OFFSET),
        refcount_table_clusters: U32::new(1),
        nb_snapshots: U32::ZERO,
        snapshots_offset: U64::ZERO,
        incompatible_features: U64::ZERO,
        compatible_features: U64::ZERO,
        autoclear_features: U64::ZERO,
        refcount_order: U32::new(REFCOUNT_ORDER),
        header_length: U32::new(size_of::<RawHeader>() as u32),
    };
    put(&mut bytes, 0, header.as_bytes());
    put(&mut bytes, REFCOUNT_TABLE_OFFSET, &REFCOUNT_BLOCK_OFFSET.to_be_bytes());
    for cluster in 0..clusters {
        put(&mut bytes, REFCOUNT_BLOCK_OFFSET + 2 * cluster, &1_u16.to_be_bytes());
    }
    Ok(bytes)
}

fn put(bytes: &mut [u8], offset: u64, value: &[u8]) {
    let start = offset as usize;
    // The caller has made room for everything it puts.
    if let Some(place) = bytes.get_mut(start..start + value.len()) {
        place.copy_from_slice(value);
    }
}
