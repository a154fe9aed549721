//! Compressed files.
#![no_main]

#[path = "../../crates/calotype-disk/tests/it/corpus/unpacked.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
