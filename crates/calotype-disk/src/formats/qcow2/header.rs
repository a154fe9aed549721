//! The qcow2 header: everything that would change how the rest is read is checked here.
//!
//! All numbers are big-endian. The names are those of QEMU's `docs/interop/qcow2.txt`.

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::inflate::Compression;
use crate::limits::{QCOW2_CLUSTER_BITS, VIRTUAL_SIZE_BYTES_MAX};
use crate::{Error, ErrorKind, Result, Source};

pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";
pub(super) const VERSION: u32 = 3;
const VERSION_2: u32 = 2;
/// What version 2 has of the header; the rest is as if it were written so.
const VERSION_2_BYTES: usize = 72;
const VERSION_2_REFCOUNT_ORDER: u32 = 4;
const REFCOUNT_ORDER_MAX: u32 = 6;
/// Clusters with subclusters are at least 32 of the smallest sectors.
const EXTENDED_L2_CLUSTER_BITS_MIN: u32 = 14;
/// In a table entry, "the refcount is exactly one": of no use to a reader.
pub(super) const COPIED: u64 = 1 << 63;

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

/// What comes behind the 104 bytes, if the header says that it is so long.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Default)]
#[repr(C)]
struct RawTail {
    compression_type: u8,
    _padding: [u8; 7],
}

/// What a reader needs, each field checked by itself and against the features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) size_bytes: u64,
    pub(super) cluster_bits: u32,
    pub(super) names_backing_file: bool,
    pub(super) compression: Compression,
    pub(super) extended_l2: bool,
    pub(super) l1_offset: u64,
    /// As many as the file has room for, which may be more than the disk needs.
    pub(super) l1_entries: u32,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    pub(super) refcount_order: u32,
    pub(super) snapshots: u32,
    pub(super) snapshots_offset: u64,
}

impl Header {
    pub(super) fn read(source: &dyn Source) -> Result<Self> {
        const LENGTH: usize = size_of::<RawHeader>();
        let mut bytes = [0; LENGTH + size_of::<RawTail>()];
        let length = source.length_bytes().min(bytes.len() as u64) as usize;
        let (there, _) = bytes.split_at_mut(length);
        source.read_at(0, there).map_err(|error| Error::io("reading qcow2 header", error))?;
        let wrong = || invalid("qcow2 header of a wrong length");
        let (mut raw, rest) = RawHeader::read_from_prefix(&bytes).map_err(|_| wrong())?;
        let mut tail = RawTail::read_from_bytes(rest).map_err(|_| wrong())?;

        let needed = if raw.version.get() == VERSION_2 { VERSION_2_BYTES } else { LENGTH };
        if length < needed {
            return Err(invalid(format!("qcow2 header cut short at {length} bytes")));
        }
        if raw.magic != MAGIC {
            return Err(invalid("no qcow2 magic"));
        }
        match raw.version.get() {
            VERSION => {}
            VERSION_2 => {
                raw.incompatible_features = U64::ZERO;
                raw.refcount_order = U32::new(VERSION_2_REFCOUNT_ORDER);
                raw.header_length = U32::new(LENGTH as u32);
            }
            version => return Err(unsupported(format!("qcow2 version {version}"))),
        }
        if raw.header_length.get() as usize <= LENGTH || length < bytes.len() {
            tail = RawTail::default();
        }
        Self::check(&raw, &tail)
    }

    fn check(raw: &RawHeader, tail: &RawTail) -> Result<Self> {
        if raw.crypt_method.get() != 0 {
            return Err(unsupported(match raw.crypt_method.get() {
                1 => "qcow2 disk encrypted with AES (crypt_method 1)".into(),
                2 => "qcow2 disk encrypted with LUKS (crypt_method 2)".into(),
                other => format!("qcow2 crypt_method {other}"),
            }));
        }
        let features = raw.incompatible_features.get();
        check_features(features)?;
        let cluster_bits = raw.cluster_bits.get();
        if !QCOW2_CLUSTER_BITS.contains(&cluster_bits) {
            return Err(invalid(format!("qcow2 cluster size 2^{cluster_bits}")));
        }
        let extended_l2 = features & INCOMPATIBLE_EXTENDED_L2 != 0;
        if extended_l2 && cluster_bits < EXTENDED_L2_CLUSTER_BITS_MIN {
            return Err(invalid(format!("qcow2 subclusters in clusters of 2^{cluster_bits}")));
        }
        let size_bytes = raw.size.get();
        if size_bytes > VIRTUAL_SIZE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::OutOfBounds,
                format!("qcow2 disk of {size_bytes} bytes, over {VIRTUAL_SIZE_BYTES_MAX}"),
            ));
        }
        check_header_length(raw.header_length.get(), cluster_bits)?;
        if raw.refcount_order.get() > REFCOUNT_ORDER_MAX {
            return Err(invalid(format!("qcow2 refcount_order {}", raw.refcount_order)));
        }
        Ok(Self {
            version: raw.version.get(),
            size_bytes,
            cluster_bits,
            names_backing_file: raw.backing_file_offset.get() != 0
                || raw.backing_file_size.get() != 0,
            compression: check_compression(tail.compression_type, features)?,
            extended_l2,
            l1_offset: raw.l1_table_offset.get(),
            l1_entries: raw.l1_size.get(),
            refcount_table_offset: raw.refcount_table_offset.get(),
            refcount_table_clusters: raw.refcount_table_clusters.get(),
            refcount_order: raw.refcount_order.get(),
            snapshots: raw.nb_snapshots.get(),
            snapshots_offset: raw.snapshots_offset.get(),
        })
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The bytes of disk that one second-level table describes.
    pub(super) fn l2_coverage_bytes(&self) -> u64 {
        l2_coverage_bytes(self.cluster_bits) >> u32::from(self.extended_l2)
    }

    /// The number of first-level entries that the disk needs: their table must be no larger than
    /// `bytes_max`, and those that are there must be enough.
    pub(super) fn l1_entries_needed(&self, bytes_max: u64) -> Result<usize> {
        let entries = self.size_bytes.div_ceil(self.l2_coverage_bytes());
        let bytes = entries * 8;
        if bytes > bytes_max {
            return Err(Error::new(
                ErrorKind::OutOfBounds,
                format!("qcow2 L1 table of {bytes} bytes, over {bytes_max}"),
            ));
        }
        if u64::from(self.l1_entries) < entries {
            return Err(corrupt(format!(
                "qcow2 L1 table of {} entries, not {entries}",
                self.l1_entries
            )));
        }
        usize::try_from(entries).map_err(|_| corrupt("qcow2 L1 table larger than memory"))
    }
}

fn check_features(features: u64) -> Result<()> {
    if features & INCOMPATIBLE_CORRUPT != 0 {
        return Err(corrupt("qcow2 disk marked corrupt by its writer"));
    }
    if features & INCOMPATIBLE_DATA_FILE != 0 {
        return Err(unsupported("qcow2 external data file"));
    }
    let known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION_TYPE | INCOMPATIBLE_EXTENDED_L2;
    match features & !known {
        0 => Ok(()),
        unknown => Err(unsupported(format!("qcow2 incompatible features {unknown:#x}"))),
    }
}

/// The field and the feature bit say the same thing twice.
fn check_compression(compression_type: u8, features: u64) -> Result<Compression> {
    match (compression_type, features & INCOMPATIBLE_COMPRESSION_TYPE != 0) {
        (0, false) => Ok(Compression::Zlib),
        (1, true) => Ok(Compression::Zstd),
        (0 | 1, _) => Err(corrupt("qcow2 compression_type contradicts the incompatible features")),
        (other, _) => Err(unsupported(format!("qcow2 compression_type {other}"))),
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

/// The bytes of disk that one second-level table of plain entries describes.
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
