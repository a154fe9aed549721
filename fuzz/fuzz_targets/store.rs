//! Directories of the store.
#![no_main]

#[path = "../../crates/calotype-store/tests/it/corpus/store.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
