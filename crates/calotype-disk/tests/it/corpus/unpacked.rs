//! Compressed bytes from anywhere: unpacked, and read forwards and backwards.

use calotype_disk::{OpenLimits, Source, unpack};

const LIMITS: OpenLimits =
    OpenLimits { virtual_size_bytes_max: 1 << 20, file_size_bytes_max: 1 << 20 };
/// What a read must overwrite.
const STALE: u8 = 0xa5;
const PIECE: usize = 7001;

pub(crate) fn run(data: &[u8]) {
    let Ok(unpacked) = unpack(Box::new(data.to_vec()), &LIMITS) else { return };
    let length = unpacked.length_bytes() as usize;
    assert!(length <= 1 << 20);
    let whole = read(unpacked.as_ref(), 0, length);
    for start in (0..length).step_by(PIECE).rev() {
        let end = (start + PIECE).min(length);
        assert!(read(unpacked.as_ref(), start, end - start) == whole[start..end]);
    }
    assert!(unpacked.read_at(length as u64, &mut [STALE]).is_err());
    assert!(unpacked.read_at(u64::MAX, &mut [STALE]).is_err());
}

/// What unpacked once unpacks again.
fn read(source: &dyn Source, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![STALE; length];
    source.read_at(offset as u64, &mut bytes).unwrap();
    bytes
}
