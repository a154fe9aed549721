//! Any text as an OCID.

use calotype_api::Ocid;
use calotype_api::ocid::OCID_LENGTH_MAX;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(ocid) = text.parse::<Ocid>() else { return };
    assert_eq!(ocid.to_string(), text);
    assert!(text.len() <= OCID_LENGTH_MAX && text.is_ascii());
    assert!(!ocid.resource_type().is_empty() && !ocid.realm().is_empty());
    assert_ne!(ocid.region(), Some(""));
    let json = serde_json::to_vec(&ocid).unwrap();
    assert_eq!(serde_json::from_slice::<Ocid>(&json).unwrap(), ocid);
}
