//! Commits of uploads in parts.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/upload_parts.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
