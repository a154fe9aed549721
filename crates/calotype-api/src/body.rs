//! Reads a request's JSON body and, when it is wrong, says which field and why.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// How much of the path of a field an answer repeats, in bytes.
const PATH_BYTES_MAX: usize = 256;

/// How much of what is wrong with a field an answer repeats, in bytes: enough for the longest list of allowed words.
const WHAT_BYTES_MAX: usize = 1536;

/// Reads a body. An empty body reads as `{}`, because some clients leave an empty object out.
///
/// What is no JSON is `CannotParseRequest`; an absent field is `MissingParameter`; any other wrong field is
/// `InvalidParameter`, with the path of the field in the message. What the body says is repeated shortened, so that
/// the answer does not grow with the body.
pub fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        describe(&shorten(&path, PATH_BYTES_MAX), &error.into_inner())
    })?;
    reader.end().map_err(ApiError::cannot_parse)?;
    Ok(value)
}

fn describe(path: &str, error: &serde_json::Error) -> ApiError {
    if !error.is_data() {
        return ApiError::cannot_parse(error);
    }
    let whole = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = whole.strip_suffix(&place).unwrap_or(&whole);
    let path = if path == "." { "" } else { path };
    if let Some(field) = quoted(what, "missing field `") {
        let parent = if path.is_empty() { String::new() } else { format!("{path}.") };
        return ApiError::missing_parameter(&format!("{parent}{field}"));
    }
    if let Some(field) = quoted(what, "unknown field `") {
        // The path already ends in the unknown field's name when the reader had got as far as its key.
        let field = shorten(if path.is_empty() { field } else { path }, PATH_BYTES_MAX);
        return ApiError::invalid_parameter(&field, "is not a known field");
    }
    let built_in =
        ["invalid ", "unknown ", "duplicate "].iter().any(|start| what.starts_with(start));
    let name = if path.is_empty() { "body" } else { path };
    let what = shorten(what, WHAT_BYTES_MAX);
    if built_in {
        ApiError::invalid_parameter(&format!("{name}:"), what)
    } else {
        ApiError::invalid_parameter(name, what)
    }
}

/// The text without its middle if it is longer than allowed: what is wrong stands first, what would be right last.
fn shorten(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let head = text.floor_char_boundary(bytes_max / 4);
    let tail = text.ceil_char_boundary(text.len() - bytes_max / 2);
    Cow::Owned(format!("{}…{}", &text[..head], &text[tail..]))
}

fn quoted<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)?.split('`').next()
}
