//! The metadata of `.oci` archives.
#![no_main]

#[path = "../../crates/calotype-disk/tests/it/corpus/image_metadata.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
