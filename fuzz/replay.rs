//! Runs the body of a fuzz target on every file of its corpus, inside `cargo test`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Fails with the names of all inputs that fail.
pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs: Vec<_> =
        std::fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty(), "{} is empty", corpus.display());
    inputs.sort();
    inputs.retain(|input| {
        let data = std::fs::read(input).unwrap();
        catch_unwind(AssertUnwindSafe(|| run(&data))).is_err()
    });
    assert!(inputs.is_empty(), "these inputs fail: {inputs:#?}");
}
