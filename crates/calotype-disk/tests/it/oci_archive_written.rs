//! The `.oci` archive as it is written.

use std::fs::{self, File};
use std::path::Path;

use calotype_disk::oci_archive::{self, ExternalLaunchOptions, ImageMetadata, OciArchive};

use crate::spots::{NO_LIMITS, Spots, noise, text, write_file, written};
use crate::support::{FileSource, path, qemu, read_all, run};

const MIB: u64 = 1 << 20;

fn metadata() -> ImageMetadata {
    ImageMetadata {
        version: 2,
        external_launch_options: ExternalLaunchOptions {
            firmware: Some("UEFI_64".into()),
            launch_options_source: Some("PARAVIRTUALIZED".into()),
            ..ExternalLaunchOptions::default()
        },
        image_capability_data: None,
        image_caps_format_version: None,
        operating_system: Some("Debian".into()),
        operating_system_version: Some("12".into()),
        additional_metadata: oci_archive::AdditionalMetadata::default(),
    }
}

#[test]
fn tar_finds_the_metadata_and_a_disk_that_qemu_reads() {
    let directory = tempfile::tempdir().unwrap();
    let (archive, raw) = (path(&directory, "image.oci"), path(&directory, "disk.raw"));
    let disk = Spots::new(40 * MIB, [(MIB, text(300_000, 1)), (9 * MIB, noise(300_000, 2))]);
    disk.write_raw(Path::new(&raw));
    let export = oci_archive::plan(&disk, &metadata()).unwrap();
    let length = write_file(export.as_ref(), &disk, Path::new(&archive));
    assert!(length.is_multiple_of(10_240), "{length} bytes are no whole records");

    let folder = directory.path().to_str().unwrap();
    let output = run("tar", &["--extract", "--verbose", "--file", &archive, "--directory", folder]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "image_metadata.json\noutput.QCOW2\n");

    let json = fs::read(path(&directory, "image_metadata.json")).unwrap();
    assert_eq!(ImageMetadata::from_json(&json).unwrap(), metadata());
    let member = path(&directory, "output.QCOW2");
    qemu("qemu-img", &["check", "-f", "qcow2", &member]);
    qemu("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", &raw, &member]);

    let source = Box::new(FileSource(File::open(&archive).unwrap()));
    let read = OciArchive::open(source, &NO_LIMITS).unwrap();
    assert_eq!(read.metadata, metadata());
    assert!(read_all(read.disk.as_ref()) == fs::read(&raw).unwrap());
}

#[test]
fn the_same_disk_makes_the_same_archive() {
    let disk = Spots::new(40 * MIB, [(MIB, text(300_000, 1))]);
    let archive = || written(oci_archive::plan(&disk, &metadata()).unwrap().as_ref(), &disk);
    assert!(archive() == archive());
}
