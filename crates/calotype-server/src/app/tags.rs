//! Limits of tags: what hangs on a resource stays small enough to be listed with it.

use calotype_api::error::ApiError;
use calotype_api::tags::{DefinedTags, FreeformTags};

/// Free-form tags of one resource.
const FREEFORM_TAGS_MAX: usize = 10;
/// Defined tags of one resource.
const DEFINED_TAGS_MAX: usize = 64;
/// Characters of a tag's key.
const KEY_LENGTH_MAX: usize = 100;
/// Characters of a tag's value.
const VALUE_LENGTH_MAX: usize = 256;
/// Bytes of all tags of a resource as JSON.
const TOTAL_BYTES_MAX: usize = 5 * 1024;

/// Refuses tags beyond the limits, naming the limit.
pub fn check(
    freeform: Option<&FreeformTags>,
    defined: Option<&DefinedTags>,
) -> Result<(), ApiError> {
    let mut total_bytes = 0;
    if let Some(tags) = freeform {
        at_most("freeformTags", "tags", tags.len(), FREEFORM_TAGS_MAX)?;
        for (key, value) in tags {
            at_most("freeformTags", "characters in a key", key.chars().count(), KEY_LENGTH_MAX)?;
            let length = value.chars().count();
            at_most("freeformTags", "characters in a value", length, VALUE_LENGTH_MAX)?;
            total_bytes += key.len() + value.len();
        }
    }
    if let Some(namespaces) = defined {
        let count = namespaces.values().map(std::collections::BTreeMap::len).sum();
        at_most("definedTags", "tags", count, DEFINED_TAGS_MAX)?;
        for (key, value) in namespaces.values().flatten() {
            at_most("definedTags", "characters in a key", key.chars().count(), KEY_LENGTH_MAX)?;
            total_bytes += key.len() + value.to_string().len();
        }
    }
    at_most("freeformTags and definedTags", "bytes together", total_bytes, TOTAL_BYTES_MAX)
}

fn at_most(field: &str, what: &str, count: usize, limit: usize) -> Result<(), ApiError> {
    if count <= limit {
        return Ok(());
    }
    Err(ApiError::invalid_parameter(field, format!("has {count} {what}; the limit is {limit}")))
}
