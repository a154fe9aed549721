//! What the head of a request says about an object: its name, what it is handed out with, and digests.

use std::collections::BTreeMap;

use data_encoding::BASE64;

use crate::error::{ApiError, ErrorCode};

/// Prefix of the names of metadata on the wire.
pub const METADATA_PREFIX: &str = "opc-meta-";
/// Bytes of an object's metadata, names and values.
const METADATA_BYTES_MAX: usize = 4000;
/// Bytes of each other attribute.
const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// Bytes of an object's name.
const NAME_BYTES_MAX: usize = 1024;

/// Refuses what cannot be an object's name.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let forbidden = |character: char| matches!(character, '\n' | '\r' | '\0');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(forbidden) {
        return Ok(());
    }
    let message = format!(
        "An object's name has 1 to {NAME_BYTES_MAX} bytes without NUL, carriage return and newline"
    );
    Err(ApiError::new(ErrorCode::InvalidObjectName, message))
}

/// Metadata as it is kept: names in lower case and without the prefix that some clients put before them.
pub fn metadata(given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ApiError> {
    let mut metadata = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in given {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix(METADATA_PREFIX).unwrap_or(&name);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(allowed) {
            let must = "names must be letters, digits, hyphens, underscores and periods";
            return Err(ApiError::invalid_parameter("metadata", must));
        }
        check_text("metadata", &value)?;
        bytes += name.len() + value.len();
        metadata.insert(name.to_owned(), value);
    }
    if bytes > METADATA_BYTES_MAX {
        let has = format!("has {bytes} bytes; the limit is {METADATA_BYTES_MAX}");
        return Err(ApiError::invalid_parameter("metadata", has));
    }
    Ok(metadata)
}

/// An attribute that is there and not empty, if it can be handed out.
pub fn measured(field: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.len() > ATTRIBUTE_BYTES_MAX {
        let has = format!("has {} bytes; the limit is {ATTRIBUTE_BYTES_MAX}", text.len());
        return Err(ApiError::invalid_parameter(field, has));
    }
    check_text(field, &text)?;
    Ok(Some(text))
}

/// Refuses a text that cannot be handed out as a header.
pub fn check_text(field: &str, text: &str) -> Result<(), ApiError> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(());
    }
    Err(ApiError::invalid_parameter(field, "may have only printable ASCII characters"))
}

/// A digest as headers have it: the Base64 of `N` bytes.
pub fn digest<const N: usize>(field: &str, header: &str) -> Result<[u8; N], ApiError> {
    let bytes = BASE64.decode(header.as_bytes()).ok();
    let digest: Option<[u8; N]> = bytes.and_then(|bytes| bytes.try_into().ok());
    // Decoded is also what was padded in its middle.
    digest.filter(|digest| BASE64.encode(digest) == header).ok_or_else(|| {
        ApiError::invalid_parameter(field, format!("must be the Base64 of {N} bytes"))
    })
}
