//! What every disk does, whatever file it is read from.

use calotype_disk::{Disk, ExtentKind, FormatName, OpenLimits, Source, open};

/// Runs looked at in one disk: enough for every input of the fuzzer's usual size.
const RUNS_MAX: usize = 2048;
/// How far a walk goes on behind a run that cannot be found out.
const SKIPPED_BYTES: u64 = 8192;
/// Disks up to here are read as a whole as well.
const WHOLE_BYTES_MAX: u64 = 256 << 10;
/// What a read must overwrite.
const STALE: u8 = 0xa5;

/// Opens a file as one of this format, and checks the disk if it is one.
pub(crate) fn check_file(format: FormatName, source: Box<dyn Source>) {
    let limits = OpenLimits { virtual_size_bytes_max: u64::MAX, file_size_bytes_max: u64::MAX };
    if let Ok((_, disk)) = open(source, Some(format), &limits) {
        check(disk.as_ref());
    }
}

pub(crate) fn check(disk: &dyn Disk) {
    let size_bytes = disk.size_bytes();
    assert!(disk.extent_at(size_bytes).is_err());
    assert!(disk.read_at(size_bytes, &mut [STALE]).is_err());
    assert!(disk.read_at(u64::MAX, &mut [STALE]).is_err());
    disk.read_at(size_bytes, &mut []).unwrap();

    let mut offset = 0;
    for _ in 0..RUNS_MAX {
        if offset >= size_bytes {
            break;
        }
        match disk.extent_at(offset) {
            Ok(extent) => {
                assert!(extent.length_bytes > 0, "an empty run at {offset}");
                assert!(extent.length_bytes <= size_bytes - offset, "a run past the end");
                check_run(disk, offset, extent.length_bytes, extent.kind);
                offset += extent.length_bytes;
            }
            Err(_) => offset += SKIPPED_BYTES,
        }
    }
    if size_bytes <= WHOLE_BYTES_MAX {
        check_pieces(disk, size_bytes as usize);
    }
}

/// Both ends of a run, of which all but data must read as zeros.
fn check_run(disk: &dyn Disk, offset: u64, length_bytes: u64, kind: ExtentKind) {
    let piece = length_bytes.min(5000);
    for start in [offset, offset + length_bytes - piece] {
        let mut bytes = vec![STALE; piece as usize];
        let read = disk.read_at(start, &mut bytes);
        if kind != ExtentKind::Data {
            read.unwrap();
            assert!(bytes.iter().all(|&byte| byte == 0), "{kind:?} at {start} is not zeros");
        }
    }
}

/// What can be read at once reads the same in pieces.
fn check_pieces(disk: &dyn Disk, size_bytes: usize) {
    let mut whole = vec![STALE; size_bytes];
    if disk.read_at(0, &mut whole).is_err() {
        return;
    }
    for (index, expected) in whole.chunks(1021).enumerate() {
        let mut piece = vec![STALE; expected.len()];
        disk.read_at(index as u64 * 1021, &mut piece).unwrap();
        assert!(piece == expected, "piece {index} differs");
    }
}
