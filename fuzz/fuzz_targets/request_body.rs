//! JSON bodies of every request.
#![no_main]

#[path = "../../crates/calotype-api/tests/it/corpus/request_body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
