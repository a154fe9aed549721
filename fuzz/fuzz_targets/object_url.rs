//! Paths of objects' URLs.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/object_url.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
