//! Times of query parameters.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/time.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
