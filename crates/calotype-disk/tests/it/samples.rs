//! Disk images that other programs made, of those that QEMU tests itself with: each is the disk that QEMU reads, or
//! is refused for its reason.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use calotype_disk::{Disk, ErrorKind, FormatName, open, raw};

use crate::spots::{NO_LIMITS, write_file};
use crate::support::{FileSource, path, qemu, run};

/// What is known of a sample.
enum Sample {
    /// It is read, and QEMU's driver of this name reads the same.
    Disk(FormatName, &'static str),
    /// It is refused, when it is opened or when it is read.
    Refused(ErrorKind, &'static str),
}
use Sample::{Disk as Read, Refused};

const SAMPLES: &[(&str, Sample)] = &[
    ("afl5.img", Refused(ErrorKind::InvalidFormat, "no vhd footer at the end")),
    ("afl9.vmdk", Refused(ErrorKind::Corrupt, "transferred as text")),
    ("d2v-zerofilled.vhd", Read(FormatName::Vhd, "vpc")),
    ("empty.bochs", Refused(ErrorKind::UnsupportedFeature, "Bochs")),
    ("grub_mbr.raw", Read(FormatName::Raw, "raw")),
    ("hyperv2012r2-dynamic.vhd", Read(FormatName::Vhd, "vpc")),
    ("iotest-dirtylog-10G-4M.vhdx", Refused(ErrorKind::UnsupportedFeature, "log")),
    ("iotest-dynamic-1G.vhdx", Read(FormatName::Vhdx, "vhdx")),
    ("iotest-version3.vmdk", Read(FormatName::Vmdk, "vmdk")),
    ("parallels-v1", Refused(ErrorKind::UnsupportedFeature, "Parallels")),
    ("parallels-v2", Refused(ErrorKind::UnsupportedFeature, "Parallels")),
    ("parallels-with-bitmap", Refused(ErrorKind::UnsupportedFeature, "Parallels")),
    ("simple-dmg.dmg", Refused(ErrorKind::UnsupportedFeature, "Apple")),
    ("simple-pattern.cloop", Refused(ErrorKind::UnsupportedFeature, "loop device")),
    ("test-disk2vhd.vhdx", Read(FormatName::Vhdx, "vhdx")),
    ("virtualpc-dynamic.vhd", Read(FormatName::Vhd, "vpc")),
];

/// Where they are; fetched if they are not there yet.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/sample-images");
    let output = run(script.to_str().unwrap(), &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/sample-images: {errors}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
});

fn opened(name: &str) -> calotype_disk::Result<(FormatName, Box<dyn Disk>)> {
    open(Box::new(FileSource(File::open(DIRECTORY.join(name)).unwrap())), None, &NO_LIMITS)
}

/// Writes the disk as a raw file, with holes where it says that there is nothing.
fn write_raw(disk: &dyn Disk, file: &str) -> calotype_disk::Result<()> {
    let export = raw::plan(disk)?;
    write_file(export.as_ref(), disk, Path::new(file));
    Ok(())
}

#[test]
fn every_sample_of_qemu_is_known() {
    let there = fs::read_dir(&*DIRECTORY).unwrap();
    let there: BTreeSet<_> =
        there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known: BTreeSet<_> = SAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, known);
}

#[test]
fn what_other_programs_made_is_the_disk_that_qemu_reads() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (path(&directory, "ours.raw"), path(&directory, "theirs.raw"));
    for (name, sample) in SAMPLES {
        let Read(format, driver) = sample else { continue };
        let (found, disk) = opened(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found, *format, "{name}");
        write_raw(disk.as_ref(), &ours).unwrap();
        let file = DIRECTORY.join(name);
        let convert = ["convert", "-f", driver, "-O", "raw", file.to_str().unwrap(), &theirs];
        qemu("qemu-img", &convert);
        let length = |file: &str| fs::metadata(file).unwrap().len();
        assert_eq!(length(&ours), length(&theirs), "{name}");
        qemu("qemu-img", &["compare", "-f", "raw", "-F", "raw", &ours, &theirs]);
    }
}

#[test]
fn what_is_not_read_is_refused_for_its_reason() {
    for (name, sample) in SAMPLES {
        let Refused(kind, reason) = sample else { continue };
        let error = opened(name).err().unwrap_or_else(|| panic!("{name} is opened"));
        assert!(error.kind() == *kind && error.to_string().contains(reason), "{name}: {error:?}");
    }
}
