//! The corpus of this crate's fuzz targets.

#[path = "../../../../fuzz/replay.rs"]
mod replay;

mod qcow2;

#[test]
fn layers_of_the_corpus_are_read_or_refused() {
    replay::replay("qcow2", qcow2::run);
}
