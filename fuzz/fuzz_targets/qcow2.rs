//! qcow2 layers.
#![no_main]

#[path = "../../crates/calotype-disk/tests/it/corpus/qcow2.rs"]
mod body;
#[path = "../../crates/calotype-disk/tests/it/corpus/walked.rs"]
mod walked;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
