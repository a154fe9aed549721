//! Signed requests: head, signature, key id, date, body.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/authorization.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
