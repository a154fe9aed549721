//! What heads say about objects.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/object_head.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
