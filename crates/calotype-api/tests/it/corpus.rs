//! The corpora of this crate's fuzz targets.

#[path = "../../../../fuzz/replay.rs"]
mod replay;

mod authorization;
mod object_head;
mod object_list;
mod object_url;
mod ocid;
mod public_key;
mod range;
mod request_body;
mod time;
mod upload_parts;

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

#[test]
fn ranges_of_the_corpus_lie_in_the_whole() {
    replay::replay("range", range::run);
}

#[test]
fn urls_of_the_corpus_print_as_they_were_read() {
    replay::replay("object_url", object_url::run);
}

#[test]
fn lists_of_the_corpus_show_what_is_there() {
    replay::replay("object_list", object_list::run);
}

#[test]
fn what_the_corpus_says_about_objects_can_be_told_again_or_is_refused() {
    replay::replay("object_head", object_head::run);
}

#[test]
fn commits_of_the_corpus_are_of_the_parts_that_they_name() {
    replay::replay("upload_parts", upload_parts::run);
}
