//! vdi files.
#![no_main]

#[path = "../../crates/calotype-disk/tests/it/corpus/vdi.rs"]
mod body;
#[path = "../../crates/calotype-disk/tests/it/corpus/walked.rs"]
mod walked;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
