//! `Range` headers: which bytes of a whole are asked for.

use std::ops::Range;

/// What a request asks for of some content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of it.
    Whole,
    /// A range that it has.
    Range(Range<u64>),
    /// A range that begins behind its end.
    Unsatisfiable,
}

/// Reads a `Range` header. As RFC 9110 has it, one that is malformed, in another unit or of several ranges
/// counts as absent.
pub fn asked(header: Option<&str>, whole_bytes: u64) -> Asked {
    match header.and_then(|header| range(header, whole_bytes)) {
        None => Asked::Whole,
        Some(range) if range.is_empty() => Asked::Unsatisfiable,
        Some(range) => Asked::Range(range),
    }
}

/// Empty if it is nowhere in the whole.
fn range(header: &str, whole_bytes: u64) -> Option<Range<u64>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More than there is whatever the whole.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (unit, range) = header.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    if first.is_empty() {
        return Some(whole_bytes.saturating_sub(number(last)?)..whole_bytes);
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    let end = last.saturating_add(1).min(whole_bytes);
    Some(first.min(end)..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_a_range_as_the_standard_has_it() {
        for (header, expected) in [
            ("bytes=0-0", Asked::Range(0..1)),
            ("bytes=2-4", Asked::Range(2..5)),
            ("Bytes=2-", Asked::Range(2..10)),
            ("bytes=8-99", Asked::Range(8..10)),
            ("bytes=8-99999999999999999999999", Asked::Range(8..10)),
            ("bytes=-3", Asked::Range(7..10)),
            ("bytes=-30", Asked::Range(0..10)),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=99999999999999999999999-", Asked::Unsatisfiable),
            ("bytes=4-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes", Asked::Whole),
            ("chapters=1-2", Asked::Whole),
        ] {
            assert_eq!(asked(Some(header), 10), expected, "{header}");
        }
        assert_eq!(asked(Some("bytes=0-"), 0), Asked::Unsatisfiable);
        assert_eq!(asked(None, 10), Asked::Whole);
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_lies_in_the_whole(header in "bytes=[0-9-]{0,24}", whole in any::<u64>()) {
            if let Asked::Range(range) = asked(Some(&header), whole) {
                prop_assert!(range.start < range.end && range.end <= whole);
            }
        }
    }
}
