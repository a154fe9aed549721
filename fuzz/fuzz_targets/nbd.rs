//! What a client says to the block server.
#![no_main]

#[path = "../../crates/calotype-vm/tests/it/corpus/nbd.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
