//! `Range` headers.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/range.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
