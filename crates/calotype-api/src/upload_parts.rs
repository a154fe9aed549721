//! Which parts of an upload become the object, as who commits it names them.

use std::collections::BTreeMap;

use crate::error::{ApiError, ErrorCode};
use crate::objects::CommitMultipartUploadPartDetails;

/// The parts that are wanted, in the order of their numbers. `all` are those that were uploaded, by number, each
/// with its etag.
pub fn choose<P: Copy>(
    all: &BTreeMap<u32, (String, P)>,
    wanted: &[CommitMultipartUploadPartDetails],
) -> Result<Vec<P>, ApiError> {
    let invalid = |number: u32, what: &str| {
        let message = format!("Part {number} {what}");
        ApiError::new(ErrorCode::InvalidUploadPart, message)
    };
    let mut chosen = BTreeMap::new();
    for CommitMultipartUploadPartDetails { etag, part_num } in wanted {
        let Some((of_part, part)) = all.get(part_num) else {
            return Err(invalid(*part_num, "was not uploaded"));
        };
        if etag.trim_matches('"') != of_part {
            return Err(invalid(*part_num, "has another etag"));
        }
        if chosen.insert(*part_num, *part).is_some() {
            return Err(invalid(*part_num, "is named more than once"));
        }
    }
    Ok(chosen.into_values().collect())
}
