//! The header of a sparse extent, which a `streamOptimized` file repeats at its end.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::descriptor::NO_DESCRIPTOR;
use crate::export::SECTOR_BYTES;
use crate::formats::blocks::{check_inside, corrupt, invalid, out_of_bounds, read, unsupported};
use crate::limits::{
    VIRTUAL_SIZE_BYTES_MAX, VMDK_DESCRIPTOR_BYTES_MAX, VMDK_GRAIN_SECTORS,
    VMDK_GRAIN_TABLE_ENTRIES_MAX,
};
use crate::{Error, Result, Source};

pub(super) const MAGIC: [u8; 4] = *b"KDMV";
pub(super) const MAGIC_OF_ESX: [u8; 4] = *b"COWD";

pub(super) const FLAG_NEWLINES: u32 = 1 << 0;
pub(super) const FLAG_REDUNDANT_DIRECTORY: u32 = 1 << 1;
/// Entry 1 of a grain table stands for a grain of zeros.
pub(super) const FLAG_ZERO_GRAINS: u32 = 1 << 2;
pub(super) const FLAG_COMPRESSED: u32 = 1 << 16;
pub(super) const FLAG_MARKERS: u32 = 1 << 17;
const FLAGS_KNOWN: u32 =
    FLAG_NEWLINES | FLAG_REDUNDANT_DIRECTORY | FLAG_ZERO_GRAINS | FLAG_COMPRESSED | FLAG_MARKERS;

/// Where the grain directory is when only the footer can say it.
pub(super) const DIRECTORY_AT_END: u64 = u64::MAX;
pub(super) const DEFLATE: u16 = 1;
/// Shows whether the file went through something that rewrites the ends of lines.
pub(super) const NEWLINES: [u8; 4] = *b"\n \r\n";

pub(super) const MARKER_GRAIN_TABLE: u32 = 1;
pub(super) const MARKER_GRAIN_DIRECTORY: u32 = 2;
pub(super) const MARKER_FOOTER: u32 = 3;

/// `SparseExtentHeader`: all offsets and sizes in sectors.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
pub(super) struct RawHeader {
    pub(super) magic: [u8; 4],
    pub(super) version: U32,
    pub(super) flags: U32,
    pub(super) capacity: U64,
    pub(super) grain_size: U64,
    pub(super) descriptor_offset: U64,
    pub(super) descriptor_size: U64,
    pub(super) entries_per_table: U32,
    pub(super) redundant_directory_offset: U64,
    pub(super) directory_offset: U64,
    pub(super) overhead: U64,
    /// Set while the disk is in use; QEMU does not look at it, and what it says harms no reader.
    pub(super) unclean_shutdown: u8,
    pub(super) newlines: [u8; 4],
    pub(super) compress_algorithm: U16,
    pub(super) padding: [u8; 433],
}

const _: () = assert!(size_of::<RawHeader>() as u64 == SECTOR_BYTES);

/// What a reader needs, checked.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) capacity_sectors: u64,
    pub(super) grain_bytes: u64,
    pub(super) entries_per_table: u64,
    pub(super) directory_offset: u64,
    /// Grains lie behind it.
    pub(super) overhead_bytes: u64,
    pub(super) compressed: bool,
    pub(super) zero_grains: bool,
    pub(super) descriptor_offset: u64,
    pub(super) descriptor_bytes: u64,
}

impl Header {
    pub(super) fn read(source: &dyn Source) -> Result<Self> {
        let first = read_raw(source, 0)?;
        if first.directory_offset.get() != DIRECTORY_AT_END {
            return Self::check(&first, source);
        }
        let footer = read_footer(source)?;
        // Only the place of the directories may differ.
        let mut as_first = footer.clone();
        as_first.directory_offset = first.directory_offset;
        as_first.redundant_directory_offset = first.redundant_directory_offset;
        as_first.unclean_shutdown = first.unclean_shutdown;
        if as_first.as_bytes() != first.as_bytes() {
            return Err(corrupt("vmdk header and footer that disagree"));
        }
        Self::check(&footer, source)
    }

    fn check(raw: &RawHeader, source: &dyn Source) -> Result<Self> {
        if !(1..=3).contains(&raw.version.get()) {
            return Err(unsupported(format!("vmdk version {}", raw.version)));
        }
        let compressed = check_flags(raw)?;
        let capacity_sectors = raw.capacity.get();
        if !(1..=VIRTUAL_SIZE_BYTES_MAX / SECTOR_BYTES).contains(&capacity_sectors) {
            return Err(out_of_bounds(format!("vmdk capacity of {capacity_sectors} sectors")));
        }
        let grain_sectors = raw.grain_size.get();
        if !VMDK_GRAIN_SECTORS.contains(&grain_sectors) || !grain_sectors.is_power_of_two() {
            return Err(invalid(format!("vmdk grains of {grain_sectors} sectors")));
        }
        let entries_per_table = u64::from(raw.entries_per_table.get());
        if !(1..=VMDK_GRAIN_TABLE_ENTRIES_MAX).contains(&entries_per_table) {
            return Err(invalid(format!("vmdk grain tables of {entries_per_table} entries")));
        }
        let overhead_bytes = bytes(raw.overhead, "overhead")?;
        check_inside(source, "vmdk metadata", 0, overhead_bytes)?;
        let descriptor_offset = bytes(raw.descriptor_offset, "descriptor offset")?;
        let descriptor_bytes = bytes(raw.descriptor_size, "descriptor size")?;
        if descriptor_offset == 0 || descriptor_bytes == 0 {
            return Err(unsupported(NO_DESCRIPTOR));
        }
        if descriptor_bytes > VMDK_DESCRIPTOR_BYTES_MAX {
            return Err(out_of_bounds(format!(
                "vmdk descriptor of {descriptor_bytes} bytes, over {VMDK_DESCRIPTOR_BYTES_MAX}"
            )));
        }
        Ok(Self {
            capacity_sectors,
            grain_bytes: grain_sectors * SECTOR_BYTES,
            entries_per_table,
            directory_offset: check_directory(raw)?,
            overhead_bytes,
            compressed,
            zero_grains: raw.flags.get() & FLAG_ZERO_GRAINS != 0,
            descriptor_offset,
            descriptor_bytes,
        })
    }
}

/// Whether the grains are compressed.
fn check_flags(raw: &RawHeader) -> Result<bool> {
    let flags = raw.flags.get();
    if flags & !FLAGS_KNOWN != 0 {
        return Err(unsupported(format!("vmdk flags {:#x}", flags & !FLAGS_KNOWN)));
    }
    if flags & FLAG_NEWLINES != 0 && raw.newlines != NEWLINES {
        return Err(corrupt("vmdk that was transferred as text"));
    }
    let algorithm = raw.compress_algorithm.get();
    if algorithm > DEFLATE {
        return Err(unsupported(format!("vmdk compression {algorithm}")));
    }
    let compressed = algorithm == DEFLATE;
    if compressed != (flags & FLAG_COMPRESSED != 0) || compressed != (flags & FLAG_MARKERS != 0) {
        return Err(corrupt(format!("vmdk flags {flags:#x} with compression {algorithm}")));
    }
    Ok(compressed)
}

/// The directory that is used: the first, as QEMU does; the redundant one is for repairs.
fn check_directory(raw: &RawHeader) -> Result<u64> {
    match bytes(raw.directory_offset, "grain directory offset")? {
        0 => Err(corrupt("vmdk grain directory at offset 0")),
        offset => Ok(offset),
    }
}

fn bytes(sectors: U64, name: &str) -> Result<u64> {
    let sectors = sectors.get();
    sectors
        .checked_mul(SECTOR_BYTES)
        .ok_or_else(|| corrupt(format!("vmdk {name} of {sectors} sectors")))
}

fn read_raw(source: &dyn Source, offset: u64) -> Result<RawHeader> {
    if source.length_bytes() < SECTOR_BYTES {
        return Err(invalid("vmdk header cut short"));
    }
    let bytes = read(source, "vmdk header", offset, size_of::<RawHeader>())?;
    let raw = RawHeader::read_from_bytes(&bytes).map_err(|_| invalid("no vmdk header"))?;
    match raw.magic {
        MAGIC => Ok(raw),
        MAGIC_OF_ESX => Err(unsupported("vmdk of the kind of ESX")),
        _ => Err(invalid("no vmdk magic")),
    }
}

/// The footer: a marker, the header again, and the marker of the end of the stream.
fn read_footer(source: &dyn Source) -> Result<RawHeader> {
    let missing = || corrupt("vmdk without a footer, which its header promises");
    let start = source.length_bytes().checked_sub(3 * SECTOR_BYTES).ok_or_else(missing)?;
    let markers = |offset| -> Result<Marker> {
        let bytes = read(source, "vmdk marker", offset, size_of::<Marker>())?;
        Marker::read_from_bytes(&bytes).map_err(|_| missing())
    };
    let (footer, end) = (markers(start)?, markers(start + 2 * SECTOR_BYTES)?);
    if footer.size.get() != 0 || footer.kind.get() != MARKER_FOOTER {
        return Err(missing());
    }
    if end.value.get() != 0 || end.size.get() != 0 || end.kind.get() != 0 {
        return Err(corrupt("vmdk without the marker of its end"));
    }
    let raw = read_raw(source, start + SECTOR_BYTES)
        .map_err(|error: Error| corrupt("vmdk footer that is no header").with_source(error))?;
    if raw.directory_offset.get() == DIRECTORY_AT_END {
        return Err(corrupt("vmdk footer that refers to itself"));
    }
    Ok(raw)
}

/// What precedes the parts of a `streamOptimized` file. Of a grain, `value` is its first sector on the
/// disk, `size` the length of its compressed bytes, which begin where `kind` is.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
pub(super) struct Marker {
    pub(super) value: U64,
    pub(super) size: U32,
    pub(super) kind: U32,
}

/// The length of a marker before a grain.
pub(super) const GRAIN_MARKER_BYTES: usize = 12;
