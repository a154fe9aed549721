//! Learning what a pack holds: from its footer, or from its entries if the footer is damaged.

use zerocopy::byteorder::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use super::PackId;
use super::codec;
use super::format::{
    ENTRY_BYTES, ENTRY_MAGIC, HEADER_BYTES, HEADER_MAGIC, RECORD_BYTES, RawEntry, RawHeader,
    RawRecord, RawTrailer, Record, TRAILER_BYTES, TRAILER_MAGIC, VERSION, footer_checksum,
};
use crate::backend::{Backend, Key};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{PACK_BYTES_MAX, PACK_CHUNKS_MAX, PLAIN_BYTES_MAX};

/// The contents of a pack.
#[derive(Debug)]
pub(crate) struct OpenedPack {
    pub(crate) records: Vec<Record>,
    /// The footer was not usable; what was found is what hashes to its name.
    pub(crate) scanned: bool,
}

/// Reads what the pack of `length_bytes` holds.
pub(crate) fn open_pack(
    backend: &dyn Backend,
    pack: PackId,
    length_bytes: u64,
) -> Result<OpenedPack> {
    check_version(backend, pack, length_bytes)?;
    if let Some(records) = read_footer(backend, pack, length_bytes)? {
        return Ok(OpenedPack { records, scanned: false });
    }
    tracing::warn!(%pack, "pack footer damaged, reading the whole pack");
    let records = Scan { backend, pack, length_bytes }.run()?;
    Ok(OpenedPack { records, scanned: true })
}

/// As [`open_pack`], whatever the header says, and whether header, footer and trailer are as they were
/// written and the entries follow each other without a gap.
pub(crate) fn examine_pack(
    backend: &dyn Backend,
    pack: PackId,
    length_bytes: u64,
) -> Result<(OpenedPack, bool)> {
    let Some(records) = read_footer(backend, pack, length_bytes)? else {
        let records = Scan { backend, pack, length_bytes }.run()?;
        return Ok((OpenedPack { records, scanned: true }, false));
    };
    let mut header = [0; HEADER_BYTES as usize];
    backend.read(Key::Pack(pack), 0, &mut header)?;
    let expected =
        RawHeader { magic: HEADER_MAGIC, version: U32::new(VERSION), reserved: U32::ZERO };
    // Magic and version were looked at already.
    let mut reserved = [0; size_of::<u64>()];
    let end_bytes = (reserved.len() + TRAILER_MAGIC.len()) as u64;
    backend.read(Key::Pack(pack), length_bytes - end_bytes, &mut reserved)?;
    let mut end = HEADER_BYTES;
    let follows = |record: &Record| {
        let begin = end + ENTRY_BYTES;
        end = begin + u64::from(record.stored_bytes);
        begin == u64::from(record.offset)
    };
    let without_gap = records.iter().all(follows);
    let records_bytes = records.len() as u64 * RECORD_BYTES;
    let sound = header == *expected.as_bytes()
        && reserved == [0; size_of::<u64>()]
        && without_gap
        && end + records_bytes + TRAILER_BYTES == length_bytes;
    Ok((OpenedPack { records, scanned: false }, sound))
}

/// Only a known magic with an unknown version is refused; a damaged header is left to the scan.
fn check_version(backend: &dyn Backend, pack: PackId, length_bytes: u64) -> Result<()> {
    if length_bytes < HEADER_BYTES {
        return Ok(());
    }
    let mut bytes = [0; HEADER_BYTES as usize];
    backend.read(Key::Pack(pack), 0, &mut bytes)?;
    match RawHeader::read_from_bytes(&bytes) {
        Ok(header) if header.magic == HEADER_MAGIC && header.version.get() > VERSION => {
            Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!("pack {pack} has version {}, not {VERSION}", header.version),
            ))
        }
        _ => Ok(()),
    }
}

/// The records, or none if footer or trailer are damaged in any way.
fn read_footer(
    backend: &dyn Backend,
    pack: PackId,
    length_bytes: u64,
) -> Result<Option<Vec<Record>>> {
    let Some(trailer_offset) = length_bytes.checked_sub(TRAILER_BYTES) else { return Ok(None) };
    let mut bytes = [0; TRAILER_BYTES as usize];
    backend.read(Key::Pack(pack), trailer_offset, &mut bytes)?;
    let Ok(trailer) = RawTrailer::read_from_bytes(&bytes) else { return Ok(None) };

    let count = u64::from(trailer.records.get());
    let records_offset = trailer.records_offset.get();
    let fits = records_offset.checked_add(count * RECORD_BYTES) == Some(trailer_offset);
    if trailer.magic != TRAILER_MAGIC
        || trailer.version.get() != VERSION
        || count > PACK_CHUNKS_MAX as u64
        || !fits
    {
        return Ok(None);
    }
    let mut bytes = vec![0; (count * RECORD_BYTES) as usize];
    backend.read(Key::Pack(pack), records_offset, &mut bytes)?;
    if footer_checksum(&bytes, &trailer) != trailer.checksum {
        return Ok(None);
    }
    let Ok(raw) = <[RawRecord]>::ref_from_bytes(&bytes) else { return Ok(None) };
    Ok(raw.iter().map(|raw| Record::from_raw(raw, records_offset)).collect())
}

/// Finds chunks without a footer: at every place that looks like an entry, the payload is unpacked
/// and hashed, so that what is found is right however damaged the rest is.
struct Scan<'a> {
    backend: &'a dyn Backend,
    pack: PackId,
    length_bytes: u64,
}

impl Scan<'_> {
    const WINDOW_BYTES: u64 = 1 << 20;

    fn run(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut offset = HEADER_BYTES;
        while offset + ENTRY_BYTES <= self.length_bytes.min(PACK_BYTES_MAX)
            && records.len() < PACK_CHUNKS_MAX
        {
            if let Some(record) = self.entry_at(offset)? {
                offset = u64::from(record.offset) + u64::from(record.stored_bytes);
                records.push(record);
            } else {
                offset = self.next_magic(offset + 1)?;
            }
        }
        Ok(records)
    }

    fn entry_at(&self, offset: u64) -> Result<Option<Record>> {
        let mut bytes = [0; ENTRY_BYTES as usize];
        self.backend.read(Key::Pack(self.pack), offset, &mut bytes)?;
        let Ok(entry) = RawEntry::read_from_bytes(&bytes) else { return Ok(None) };
        let Some(record) = Record::from_entry(&entry, offset, self.length_bytes) else {
            return Ok(None);
        };
        let mut payload = vec![0; (record.stored_bytes as usize).min(PLAIN_BYTES_MAX)];
        self.backend.read(Key::Pack(self.pack), u64::from(record.offset), &mut payload)?;
        let plain = codec::unpack(record.id, record.codec, payload, record.plain_bytes as usize);
        Ok(plain.map(|_| record))
    }

    /// The next place at or after `offset` where an entry may begin, or the end.
    fn next_magic(&self, mut offset: u64) -> Result<u64> {
        while offset < self.length_bytes {
            let window = Self::WINDOW_BYTES.min(self.length_bytes - offset);
            let mut bytes = vec![0; window as usize];
            self.backend.read(Key::Pack(self.pack), offset, &mut bytes)?;
            if let Some(found) = bytes.windows(ENTRY_MAGIC.len()).position(|w| w == ENTRY_MAGIC) {
                return Ok(offset + found as u64);
            }
            // A magic may lie across two windows.
            offset += window.saturating_sub(ENTRY_MAGIC.len() as u64 - 1).max(1);
        }
        Ok(self.length_bytes)
    }
}
