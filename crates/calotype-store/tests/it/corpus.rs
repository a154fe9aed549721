//! The corpus of this crate's fuzz target.

#[path = "../../../../fuzz/replay.rs"]
mod replay;

mod seeds;
mod store;

#[test]
fn directories_of_the_corpus_hand_out_what_they_verify_or_refuse() {
    replay::replay("store", store::run);
}
