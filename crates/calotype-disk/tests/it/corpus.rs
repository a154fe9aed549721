//! The corpus of this crate's fuzz targets.

#[path = "../../../../fuzz/replay.rs"]
mod replay;

mod image_metadata;
mod oci_archive;
mod qcow2;
mod unpacked;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;
mod walked;

#[test]
fn layers_of_the_corpus_are_read_or_refused() {
    replay::replay("qcow2", qcow2::run);
}

#[test]
fn compressed_files_of_the_corpus_are_read_or_refused() {
    replay::replay("unpacked", unpacked::run);
}

#[test]
fn archives_of_the_corpus_are_read_or_refused() {
    replay::replay("oci_archive", oci_archive::run);
}

#[test]
fn metadata_of_the_corpus_is_read_or_refused() {
    replay::replay("image_metadata", image_metadata::run);
}

#[test]
fn disks_of_other_formats_in_the_corpus_are_read_or_refused() {
    replay::replay("vmdk", vmdk::run);
    replay::replay("vdi", vdi::run);
    replay::replay("vhd", vhd::run);
    replay::replay("vhdx", vhdx::run);
}
