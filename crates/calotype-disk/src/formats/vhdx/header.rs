//! The two headers of a vhdx, of which the newer sound one counts.

use std::ops::Range;

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{MIB, is_checksum_right};
use crate::formats::blocks::{check_inside, corrupt, invalid, read, unsupported};
use crate::{Result, Source};

pub(super) const IDENTIFIER: [u8; 8] = *b"vhdxfile";
const SIGNATURE: [u8; 4] = *b"head";
const OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
const HEADER_BYTES: usize = 4096;
const CHECKSUM_PLACE: usize = 4;
const VERSION: u16 = 1;
const LOG_VERSION: u16 = 0;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned, Debug, Clone)]
#[repr(C)]
struct RawHeader {
    signature: [u8; 4],
    checksum: U32,
    sequence_number: U64,
    file_write_guid: [u8; 16],
    data_write_guid: [u8; 16],
    log_guid: [u8; 16],
    log_version: U16,
    version: U16,
    log_length: U32,
    log_offset: U64,
}

/// Checks identifier and headers; where the log is, which has nothing to replay.
pub(super) fn check(source: &dyn Source) -> Result<Range<u64>> {
    if source.length_bytes() < MIB {
        return Err(invalid("vhdx cut short within its first MiB"));
    }
    if read(source, "vhdx identifier", 0, IDENTIFIER.len())? != IDENTIFIER {
        return Err(invalid("no vhdx identifier"));
    }
    let header = newest(source)?;
    if header.version.get() != VERSION || header.log_version.get() != LOG_VERSION {
        let (version, log) = (header.version, header.log_version);
        return Err(unsupported(format!("vhdx version {version} with a log of version {log}")));
    }
    if header.log_guid != [0; 16] {
        return Err(unsupported("vhdx with a log that must be replayed"));
    }
    let (start, length) = (header.log_offset.get(), u64::from(header.log_length.get()));
    check_inside(source, "vhdx log", start, length)?;
    if start < MIB || !start.is_multiple_of(MIB) || !length.is_multiple_of(MIB) {
        return Err(corrupt(format!("vhdx log of {length} bytes at {start}")));
    }
    Ok(start..start + length)
}

fn newest(source: &dyn Source) -> Result<RawHeader> {
    let mut sound = Vec::new();
    for offset in OFFSETS {
        let bytes = read(source, "vhdx header", offset, HEADER_BYTES)?;
        if bytes.starts_with(&SIGNATURE) && is_checksum_right(&bytes, CHECKSUM_PLACE) {
            sound.extend(RawHeader::read_from_prefix(&bytes).ok().map(|(header, _)| header));
        }
    }
    let newest = sound.into_iter().max_by_key(|header| header.sequence_number.get());
    newest.ok_or_else(|| corrupt("vhdx without a header that has the right checksum"))
}
