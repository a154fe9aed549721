//! Every backend keeps the promises of the trait.

use calotype_store::backend::{Local, conformance};

#[test]
fn a_local_directory_is_a_backend() {
    let directory = tempfile::tempdir().unwrap();
    conformance::check(&Local::open(directory.path()).unwrap());
}
