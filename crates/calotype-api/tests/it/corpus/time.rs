//! Any text as a time.

use calotype_api::Time;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(time) = text.parse::<Time>() else { return };
    let written = time.to_string();
    assert_eq!(written.parse::<Time>(), Ok(time), "{written}");
    let json = serde_json::to_vec(&time).unwrap();
    assert_eq!(serde_json::from_slice::<Time>(&json).unwrap(), time);
}
