//! The corpora of this crate's fuzz targets.

#[path = "../../../../fuzz/replay.rs"]
mod replay;

mod authorization;
mod ocid;
mod public_key;
mod request_body;
mod time;

#[test]
fn requests_of_the_corpus_are_verified_or_refused() {
    replay::replay("authorization", authorization::run);
}

#[test]
fn ocids_of_the_corpus_print_as_they_were_read() {
    replay::replay("ocid", ocid::run);
}

#[test]
fn public_keys_of_the_corpus_are_read_or_refused() {
    replay::replay("public_key", public_key::run);
}

#[test]
fn bodies_of_the_corpus_are_read_or_refused_in_few_words() {
    replay::replay("request_body", request_body::run);
}

#[test]
fn times_of_the_corpus_are_read_or_refused() {
    replay::replay("time", time::run);
}
