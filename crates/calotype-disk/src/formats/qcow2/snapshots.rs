//! The table of internal snapshots: only its places are of use, for what is read is the active state.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::header::{Header, corrupt};
use super::metadata::What;
use crate::limits::QCOW2_SNAPSHOT_TABLE_BYTES_MAX;
use crate::{Error, ErrorKind, Result, Source};

/// What every entry begins with; behind it come the extra data, the id and the name.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    l1_table_offset: U64,
    l1_size: U32,
    id_str_size: U16,
    name_size: U16,
    _date_and_clock: [u8; 16],
    _vm_state_size: U32,
    extra_data_size: U32,
}

/// Says to `part` where the table lies and where its entries have tables of their own.
pub(super) fn walk(
    source: &dyn Source,
    header: &Header,
    mut part: impl FnMut(What, u64, u64) -> Result<()>,
) -> Result<()> {
    if header.snapshots == 0 {
        return Ok(());
    }
    let offset = header.snapshots_offset;
    let available = source.length_bytes().saturating_sub(offset);
    if available == 0 {
        return Err(outside(0, header, available));
    }
    let mut bytes = vec![0; available.min(QCOW2_SNAPSHOT_TABLE_BYTES_MAX) as usize];
    source
        .read_at(offset, &mut bytes)
        .map_err(|error| Error::io("reading qcow2 snapshot table", error))?;

    let mut rest: &[u8] = &bytes;
    for index in 0..header.snapshots {
        let Some((entry, behind)) = take_entry(rest) else {
            return Err(outside(index, header, available));
        };
        part(What::SnapshotL1Table, entry.l1_table_offset.get(), u64::from(entry.l1_size) * 8)?;
        rest = behind;
    }
    part(What::SnapshotTable, offset, (bytes.len() - rest.len()) as u64)
}

/// The first entry, and what follows it on the next multiple of eight.
fn take_entry(bytes: &[u8]) -> Option<(RawEntry, &[u8])> {
    let (entry, _) = RawEntry::read_from_prefix(bytes).ok()?;
    let length = size_of::<RawEntry>() as u64
        + u64::from(entry.extra_data_size)
        + u64::from(entry.id_str_size)
        + u64::from(entry.name_size);
    if length > bytes.len() as u64 {
        return None;
    }
    // The last entry of a file may lack its padding.
    let padded = (length.next_multiple_of(8) as usize).min(bytes.len());
    Some((entry, bytes.get(padded..)?))
}

fn outside(index: u32, header: &Header, available: u64) -> Error {
    let Header { snapshots, snapshots_offset, .. } = header;
    let entry = format!(
        "entry {index} of {snapshots} of the qcow2 snapshot table at {snapshots_offset:#x}"
    );
    if available > QCOW2_SNAPSHOT_TABLE_BYTES_MAX {
        let limit = QCOW2_SNAPSHOT_TABLE_BYTES_MAX;
        Error::new(ErrorKind::OutOfBounds, format!("{entry} lies beyond {limit} bytes"))
    } else {
        corrupt(format!("{entry} leaves the file"))
    }
}
