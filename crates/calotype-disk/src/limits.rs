//! Every limit of this crate.

/// The largest virtual disk that is opened or created: 64 TiB, twice the largest volume of the API.
pub const VIRTUAL_SIZE_BYTES_MAX: u64 = 64 << 40;

/// How much of each end of a file is looked at to tell its format.
pub const END_BYTES: u64 = 4096;

/// The largest first-level table of a qcow2 disk: the limit of QEMU itself.
pub const QCOW2_L1_BYTES_MAX: u64 = 32 << 20;

/// The smallest and the largest cluster of a qcow2 disk, as powers of two: the limits of QEMU.
pub const QCOW2_CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// The memory that one qcow2 disk spends on second-level tables.
pub const QCOW2_L2_CACHE_BYTES_MAX: usize = 4 << 20;

/// The largest `image_metadata.json` of an `.oci` archive; real ones are of a few KiB.
pub const ARCHIVE_METADATA_BYTES_MAX: u64 = 1 << 20;
