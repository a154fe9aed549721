//! Public keys as PEM.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/public_key.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
