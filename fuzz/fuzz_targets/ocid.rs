//! OCIDs.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/ocid.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
