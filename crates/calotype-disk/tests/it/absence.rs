//! What this crate must not have.

use std::fs;
use std::path::Path;

fn check(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check(&path);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for forbidden in ["std::fs", "std::path", "std::net", "std::process", "tokio", "unsafe"] {
            assert!(!text.contains(forbidden), "{} has {forbidden}", path.display());
        }
    }
}

#[test]
fn opens_nothing_and_knows_no_runtime() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
}
