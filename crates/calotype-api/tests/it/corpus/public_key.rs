//! Any text as a key.

use calotype_api::sign::{PrivateKey, PublicKey};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = PrivateKey::from_pem(text);
    let Ok(key) = PublicKey::from_pem(text) else { return };
    assert_eq!(PublicKey::from_pem(&key.to_pem()).as_ref(), Ok(&key));
    assert!(!key.verifies(data, data));
}
