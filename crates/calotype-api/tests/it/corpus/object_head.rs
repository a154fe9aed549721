//! What a client says about an object, as `name: value` in lines: metadata, attributes and digests.

use std::collections::BTreeMap;

use calotype_api::ErrorCode;
use calotype_api::object_head::{METADATA_PREFIX, check_name, digest, measured, metadata};
use data_encoding::BASE64;
use http::{HeaderName, HeaderValue};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = check_name(text) {
        assert_eq!(error.code, ErrorCode::InvalidObjectName);
    }
    let said: BTreeMap<String, String> = text
        .split('\n')
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for value in said.values() {
        // What is taken can be told to who gets the object.
        if let Ok(Some(taken)) = measured("content-type", Some(value.clone())) {
            assert!(taken.len() <= 1024 && HeaderValue::try_from(taken).is_ok());
        }
        if let Ok(md5) = digest::<16>("content-md5", value) {
            assert_eq!(&BASE64.encode(&md5), value);
        }
    }
    let Ok(taken) = metadata(said) else { return };
    let bytes: usize = taken.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes <= 4000, "{bytes} bytes");
    for (name, value) in taken {
        assert!(HeaderName::try_from(format!("{METADATA_PREFIX}{name}")).is_ok(), "{name}");
        assert!(HeaderValue::try_from(value).is_ok());
    }
}
