//! The qcow2 header: everything that would change how the rest is read is checked here.
//!
//! All numbers are big-endian. The names are those of QEMU's `docs/interop/qcow2.txt`.

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{QCOW2_CLUSTER_BITS, QCOW2_L1_BYTES_MAX, VIRTUAL_SIZE_BYTES_MAX};
use crate::{Error, ErrorKind, Result, Source};

pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
pub(super) const VERSION: u32 = 3;

/// Refcounts may be stale. Harmless here: a reader needs none.
const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION_TYPE: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;

/// The 104 bytes that every version 3 file begins with.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
pub(super) struct RawHeader {
    pub(super) magic: [u8; 4],
    pub(super) version: U32,
    pub(super) backing_file_offset: U64,
    pub(super) backing_file_size: U32,
    pub(super) cluster_bits: U32,
    pub(super) size: U64,
    pub(super) crypt_method: U32,
    pub(super) l1_size: U32,
    pub(super) l1_table_offset: U64,
    pub(super) refcount_table_offset: U64,
    pub(super) refcount_table_clusters: U32,
    pub(super) nb_snapshots: U32,
    pub(super) snapshots_offset: U64,
    pub(super) incompatible_features: U64,
    pub(super) compatible_features: U64,
    pub(super) autoclear_features: U64,
    pub(super) refcount_order: U32,
    pub(super) header_length: U32,
}

/// What a reader needs, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) size_bytes: u64,
    pub(super) cluster_bits: u32,
    pub(super) l1_offset: u64,
    /// As many as the disk needs; the file may have reserved more.
    pub(super) l1_entries: usize,
}

impl Header {
    pub(super) fn read(source: &dyn Source) -> Result<Self> {
        let file_bytes = source.length_bytes();
        let mut bytes = [0; size_of::<RawHeader>()];
        if file_bytes < bytes.len() as u64 {
            return Err(invalid(format!("qcow2 header cut short at {file_bytes} bytes")));
        }
        source.read_at(0, &mut bytes).map_err(|error| Error::io("reading qcow2 header", error))?;
        let raw = RawHeader::read_from_bytes(&bytes)
            .map_err(|_| invalid("qcow2 header of a wrong length"))?;
        Self::check(&raw, file_bytes)
    }

    fn check(raw: &RawHeader, file_bytes: u64) -> Result<Self> {
        if raw.magic != MAGIC {
            return Err(invalid("no qcow2 magic"));
        }
        if raw.version.get() != VERSION {
            return Err(unsupported(format!("qcow2 version {}", raw.version)));
        }
        if raw.crypt_method.get() != 0 {
            return Err(unsupported("encrypted qcow2 disk"));
        }
        check_features(raw.incompatible_features.get())?;
        let cluster_bits = raw.cluster_bits.get();
        if !QCOW2_CLUSTER_BITS.contains(&cluster_bits) {
            return Err(invalid(format!("qcow2 cluster size 2^{cluster_bits}")));
        }
        let size_bytes = raw.size.get();
        if size_bytes > VIRTUAL_SIZE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::OutOfBounds,
                format!("qcow2 disk of {size_bytes} bytes, over {VIRTUAL_SIZE_BYTES_MAX}"),
            ));
        }
        check_header_length(raw.header_length.get(), cluster_bits)?;
        let l1_entries = check_l1(raw, size_bytes, cluster_bits, file_bytes)?;
        Ok(Self { size_bytes, cluster_bits, l1_offset: raw.l1_table_offset.get(), l1_entries })
    }
}

fn check_features(features: u64) -> Result<()> {
    let named = [
        (INCOMPATIBLE_DATA_FILE, "external data file"),
        (INCOMPATIBLE_COMPRESSION_TYPE, "compression type"),
        (INCOMPATIBLE_EXTENDED_L2, "extended L2 entries"),
    ];
    if features & INCOMPATIBLE_CORRUPT != 0 {
        return Err(Error::new(ErrorKind::Corrupt, "qcow2 disk marked corrupt by its writer"));
    }
    for (bit, name) in named {
        if features & bit != 0 {
            return Err(unsupported(format!("qcow2 {name}")));
        }
    }
    match features & !INCOMPATIBLE_DIRTY {
        0 => Ok(()),
        unknown => Err(unsupported(format!("qcow2 incompatible features {unknown:#x}"))),
    }
}

fn check_header_length(length: u32, cluster_bits: u32) -> Result<()> {
    let fits = length as usize >= size_of::<RawHeader>() && u64::from(length) <= 1 << cluster_bits;
    if fits && length.is_multiple_of(8) {
        Ok(())
    } else {
        Err(invalid(format!("qcow2 header length {length}")))
    }
}

/// The number of first-level entries that the disk needs, all of them inside the file.
fn check_l1(raw: &RawHeader, size_bytes: u64, cluster_bits: u32, file_bytes: u64) -> Result<usize> {
    let entries = size_bytes.div_ceil(l2_coverage_bytes(cluster_bits));
    let bytes = entries * 8;
    if bytes > QCOW2_L1_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::OutOfBounds,
            format!("qcow2 L1 table of {bytes} bytes, over {QCOW2_L1_BYTES_MAX}"),
        ));
    }
    if u64::from(raw.l1_size.get()) < entries {
        return Err(corrupt(format!("qcow2 L1 table of {} entries, not {entries}", raw.l1_size)));
    }
    let offset = raw.l1_table_offset.get();
    let inside = offset.checked_add(bytes).is_some_and(|end| end <= file_bytes);
    if !inside || !offset.is_multiple_of(1 << cluster_bits) {
        return Err(corrupt(format!("qcow2 L1 table at offset {offset}")));
    }
    usize::try_from(entries).map_err(|_| corrupt("qcow2 L1 table larger than memory"))
}

/// The bytes of disk that one second-level table describes.
pub(super) const fn l2_coverage_bytes(cluster_bits: u32) -> u64 {
    1 << (cluster_bits + cluster_bits - 3)
}

pub(super) fn corrupt(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, context)
}

pub(super) fn unsupported(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedFeature, context)
}

fn invalid(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidFormat, context)
}
