//! A number of bytes, and a `Range` header for them.

use calotype_api::range::{Asked, asked};

pub(crate) fn run(data: &[u8]) {
    let Some((whole, header)) = data.split_first_chunk() else { return };
    let (whole, Ok(header)) = (u64::from_be_bytes(*whole), std::str::from_utf8(header)) else {
        return;
    };
    let Asked::Range(range) = asked(Some(header), whole) else { return };
    assert!(range.start < range.end && range.end <= whole);
    let written = format!("bytes={}-{}", range.start, range.end - 1);
    assert_eq!(asked(Some(&written), whole), Asked::Range(range));
}
