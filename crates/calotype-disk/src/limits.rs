//! Every limit of this crate.

/// The largest virtual disk that is opened or created: 64 TiB, twice the largest volume of the API.
pub const VIRTUAL_SIZE_BYTES_MAX: u64 = 64 << 40;

/// How much of each end of a file is looked at to tell its format.
pub const END_BYTES: u64 = 4096;

/// The largest first-level table of a qcow2 disk: the limit of QEMU itself.
pub const QCOW2_L1_BYTES_MAX: u64 = 32 << 20;

/// The smallest and the largest cluster of a qcow2 disk, as powers of two: the limits of QEMU.
pub const QCOW2_CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// The largest first-level table of a stranger's qcow2 disk, all of which is looked at before it is
/// opened: enough for 64 TiB in clusters of 64 KiB, for 256 GiB in clusters of 4 KiB.
pub const QCOW2_STRANGERS_L1_BYTES_MAX: u64 = 1 << 20;

/// The part of a stranger's refcount table that is looked at: enough for a file of 128 TiB in
/// clusters of 64 KiB, of 512 GiB in clusters of 4 KiB.
pub const QCOW2_REFCOUNT_TABLE_BYTES_MAX: u64 = 512 << 10;

/// The largest table of internal snapshots: some 2,000 of them.
pub const QCOW2_SNAPSHOT_TABLE_BYTES_MAX: u64 = 256 << 10;

/// The memory that one qcow2 disk spends on clusters that were compressed.
pub const QCOW2_INFLATED_CACHE_BYTES_MAX: usize = 4 << 20;

/// The largest window of a zstd stream, as a power of two: 8 MiB, what every reader should take by
/// RFC 8878, and what `zstd -19` needs.
pub const ZSTD_WINDOW_BITS_MAX: u32 = 23;

/// The memory that one qcow2 disk spends on second-level tables.
pub const QCOW2_L2_CACHE_BYTES_MAX: usize = 4 << 20;

/// The largest `image_metadata.json` of an `.oci` archive; real ones are of a few KiB.
pub const ARCHIVE_METADATA_BYTES_MAX: u64 = 1 << 20;

/// The memory that one disk spends on pages of its tables of blocks.
pub const TABLE_CACHE_BYTES_MAX: usize = 4 << 20;

/// The threads that read, compare and deflate for one export, of which each holds two batches at most.
pub const EXPORT_WORKERS_MAX: usize = 16;

/// The largest vhd: 2040 GiB, a limit of the format as QEMU and Hyper-V have it.
pub const VHD_SIZE_BYTES_MAX: u64 = 2040 << 30;

/// The smallest and the largest vmdk grain in sectors; VMware writes 128.
pub const VMDK_GRAIN_SECTORS: std::ops::RangeInclusive<u64> = 8..=4096;

/// The largest description of a vmdk disk.
pub const VMDK_DESCRIPTOR_BYTES_MAX: u64 = 64 << 10;

/// The largest vmdk grain table in entries: the limit of QEMU, and what everybody writes.
pub const VMDK_GRAIN_TABLE_ENTRIES_MAX: u64 = 512;

/// The inflated grains that one vmdk disk keeps.
pub const VMDK_GRAIN_CACHE_BYTES_MAX: usize = 4 << 20;

/// The largest monolithicSparse vmdk that is written: it begins with all its tables, which are held in
/// memory until then, of this size 96 MiB.
pub const VMDK_SPARSE_SIZE_BYTES_MAX: u64 = 512 << 30;

/// The largest vhdx block: the limit of the format.
pub const VHDX_BLOCK_BYTES_MAX: u64 = 256 << 20;

/// The largest extended header of a member of an `.oci` archive.
pub const ARCHIVE_EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// The most headers of an `.oci` archive: two members, each with extended headers.
pub const ARCHIVE_HEADERS_MAX: usize = 16;

/// The memory that an xz stream may ask for: what `xz -9` needs, whose dictionary is of 64 MiB.
pub const XZ_MEMORY_KIB_MAX: u32 = 65 << 10;

/// What is kept of a compressed file behind the place that was unpacked last.
pub const UNPACKED_WINDOW_BYTES: usize = 4 << 20;

/// What is kept of the end of a compressed file.
pub const UNPACKED_TAIL_BYTES: usize = 64 << 10;

/// How often a compressed file may be unpacked, as a multiple of its length.
pub const UNPACKED_PASSES_MAX: u64 = 16;
