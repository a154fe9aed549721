//! The corpus of this crate's fuzz target.

#[path = "../../../../fuzz/replay.rs"]
mod replay;

mod nbd;

#[test]
fn clients_of_the_corpus_are_answered_or_left() {
    replay::replay("nbd", nbd::run);
}
