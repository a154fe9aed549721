//! Every format that is written: what QEMU reads of it, and what we read ourselves, is the disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use calotype_disk::limits::{
    VHD_SIZE_BYTES_MAX, VIRTUAL_SIZE_BYTES_MAX, VMDK_SPARSE_SIZE_BYTES_MAX,
};
use calotype_disk::{
    Body, Disk, Error, ErrorKind, Export, Extent, FORMATS, FormatName, Result, open, qcow2, raw,
    vdi, vhd, vmdk,
};

use crate::spots::{NO_LIMITS, Spots, assert_refused, noise, open_file, text, write_file, written};
use crate::support::{Counting, FileSource, path, qemu, read_all};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A way to write a disk, and how QEMU calls it.
struct Writer {
    name: &'static str,
    format: FormatName,
    driver: &'static str,
    plan: fn(&dyn Disk) -> Result<Box<dyn Export>>,
    /// Whether `qemu-img check` knows the format.
    is_checked: bool,
}

const WRITERS: &[Writer] = &[
    Writer {
        name: "raw",
        format: FormatName::Raw,
        driver: "raw",
        plan: raw::plan,
        is_checked: false,
    },
    Writer {
        name: "qcow2 compressed",
        format: FormatName::Qcow2,
        driver: "qcow2",
        plan: qcow2::plan_compressed,
        is_checked: true,
    },
    Writer {
        name: "qcow2 sparse",
        format: FormatName::Qcow2,
        driver: "qcow2",
        plan: qcow2::plan_sparse,
        is_checked: true,
    },
    Writer {
        name: "vmdk streamOptimized",
        format: FormatName::Vmdk,
        driver: "vmdk",
        plan: vmdk::plan_stream,
        is_checked: true,
    },
    Writer {
        name: "vmdk monolithicSparse",
        format: FormatName::Vmdk,
        driver: "vmdk",
        plan: vmdk::plan_sparse,
        is_checked: true,
    },
    Writer {
        name: "vdi",
        format: FormatName::Vdi,
        driver: "vdi",
        plan: vdi::plan,
        is_checked: true,
    },
    Writer {
        name: "vhd dynamic",
        format: FormatName::Vhd,
        driver: "vpc",
        plan: vhd::plan_dynamic,
        is_checked: false,
    },
    Writer {
        name: "vhd fixed",
        format: FormatName::Vhd,
        driver: "vpc",
        plan: vhd::plan_fixed,
        is_checked: false,
    },
];

/// Writes a disk in every format, and compares what QEMU and we read with the disk.
fn check_everywhere(disk: &Spots) {
    let directory = tempfile::tempdir().unwrap();
    let raw = path(&directory, "disk.raw");
    disk.write_raw(Path::new(&raw));
    let size_bytes = disk.size_bytes.next_multiple_of(512);
    for writer in WRITERS {
        let file = path(&directory, "disk");
        let export = (writer.plan)(disk).unwrap();
        write_file(export.as_ref(), disk, Path::new(&file));

        let info = qemu("qemu-img", &["info", "--output=json", "-f", writer.driver, &file]);
        let size = format!("\"virtual-size\": {size_bytes},");
        assert!(info.contains(&size), "{}: {info}", writer.name);
        qemu("qemu-img", &["compare", "-f", "raw", "-F", writer.driver, &raw, &file]);
        if writer.is_checked {
            let checked = qemu("qemu-img", &["check", "-f", writer.driver, &file]);
            assert!(checked.contains("No errors were found"), "{}: {checked}", writer.name);
        }
        check_own(writer, disk, Path::new(&file), size_bytes);
    }
}

fn check_own(writer: &Writer, disk: &Spots, file: &Path, size_bytes: u64) {
    let read = open_file(writer.format, file);
    assert_eq!(read.size_bytes(), size_bytes, "{}", writer.name);
    for (&offset, bytes) in &disk.spots {
        let mut found = vec![1; bytes.len()];
        read.read_at(offset, &mut found).unwrap();
        assert!(found == *bytes, "{}: the spot at {offset} differs", writer.name);
    }
    if size_bytes <= 128 * MIB {
        let mut whole = vec![0; size_bytes as usize];
        disk.read_at(0, &mut whole[..disk.size_bytes as usize]).unwrap();
        assert!(read_all(read.as_ref()) == whole, "{}", writer.name);
    }
}

#[test]
fn the_table_says_what_each_format_is_exported_as() {
    let disk = Spots::new(MIB, [(0, text(5000, 1))]);
    let written_formats: BTreeSet<_> =
        FORMATS.iter().filter(|format| format.plan.is_some()).map(|format| format.name).collect();
    assert_eq!(written_formats, WRITERS.iter().map(|writer| writer.format).collect());
    for format in FORMATS {
        let Some(plan) = format.plan else { continue };
        let default = WRITERS.iter().find(|writer| writer.format == format.name).unwrap();
        let by_table = written(plan(&disk).unwrap().as_ref(), &disk);
        assert!(by_table == written((default.plan)(&disk).unwrap().as_ref(), &disk));
    }
}

#[test]
fn a_disk_of_all_sorts_of_data() {
    check_everywhere(&Spots::new(
        75 * MIB + 3 * 512,
        [
            (0, text(300 * 1024, 7)),
            // Within one cluster, across two, whole ones that do not deflate, and one amid those that do.
            (400 * KIB + 11, vec![9; 100]),
            (512 * KIB - 1, vec![8; 2]),
            (MIB, noise(700 * 1024, 3)),
            (2 * MIB, text(65_536, 3)),
            (2 * MIB + 64 * KIB, noise(65_536, 4)),
            (2 * MIB + 128 * KIB, text(65_536, 5)),
            // Data of zeros.
            (5 * MIB, vec![0; 3 << 20]),
            // Across the first grain table of a vmdk.
            (32 * MIB - 100 * KIB, text(200 * 1024, 9)),
            (75 * MIB + 2 * 512, vec![6; 512]),
        ],
    ));
}

#[test]
fn a_disk_without_data() {
    check_everywhere(&Spots::new(3 * GIB + 512, []));
}

#[test]
fn a_large_disk_with_little_data() {
    let last = 100 * GIB + 5 * 512;
    check_everywhere(&Spots::new(
        last,
        [
            (0, text(1000, 1)),
            // Around the end of the first L2 table of a qcow2.
            (512 * MIB - 70_000, text(140_000, 2)),
            (512 * MIB * 3 + 1, noise(200_000, 3)),
            (60 * GIB, text(5 << 20, 4)),
            (last - 1000, noise(1000, 5)),
        ],
    ));
}

#[test]
fn a_disk_that_ends_inside_of_a_sector_or_a_cluster_is_filled_up_with_zeros() {
    for size in [1, 511, 512, 513, 65_535, 65_536, 65_537, MIB - 1, MIB + 1, 2 * MIB + 777] {
        let last = size.saturating_sub(700);
        check_everywhere(&Spots::new(size, [(last, vec![0xee; (size - last) as usize])]));
    }
}

#[test]
fn data_of_zeros_takes_no_room_in_a_sparse_file() {
    let zeros = Spots::new(64 * MIB, [(0, vec![0; 64 << 20])]);
    let empty = Spots::new(64 * MIB, []);
    for writer in WRITERS {
        let length = |disk: &Spots| written((writer.plan)(disk).unwrap().as_ref(), disk).len();
        assert_eq!(length(&zeros), length(&empty), "{}", writer.name);
    }
}

#[test]
fn what_does_not_deflate_takes_hardly_more_room_than_it_has() {
    // Every other cluster deflates.
    let clusters = (0..256).map(|index| {
        let offset = index * 128 * KIB;
        [(offset, noise(65_536, index)), (offset + 64 * KIB, text(65_536, index))]
    });
    let disk = Spots::new(32 * MIB, clusters.flatten());
    for (plan, of_noise) in [
        (qcow2::plan_compressed as fn(&dyn Disk) -> _, 16 * MIB),
        (vmdk::plan_stream, 16 * MIB + 256 * KIB),
    ] {
        let length = written(plan(&disk).unwrap().as_ref(), &disk).len() as u64;
        assert!(length < of_noise + 6 * MIB, "{length} bytes");
    }
}

#[test]
fn the_same_disk_makes_the_same_file_and_another_one_another_identity() {
    let disk = Spots::new(9 * MIB, [(MIB, text(3 << 20, 3)), (7 * MIB, noise(1 << 20, 4))]);
    let moved = Spots::new(9 * MIB, [(2 * MIB, text(3 << 20, 3)), (7 * MIB, noise(1 << 20, 4))]);
    for writer in WRITERS {
        let write = |disk: &Spots| written((writer.plan)(disk).unwrap().as_ref(), disk);
        assert!(write(&disk) == write(&disk), "{}", writer.name);
    }
    // Where the UUIDs are.
    let vdi = |disk: &Spots| written(vdi::plan(disk).unwrap().as_ref(), disk)[392..408].to_vec();
    assert_ne!(vdi(&disk), vdi(&moved));
    let vhd =
        |disk: &Spots| written(vhd::plan_dynamic(disk).unwrap().as_ref(), disk)[68..84].to_vec();
    assert_ne!(vhd(&disk), vhd(&moved));
}

#[test]
fn refuses_a_disk_that_the_format_cannot_hold() {
    let refused = |writer: &Writer, size| {
        let error = (writer.plan)(&Spots::new(size, [])).err();
        error.is_some_and(|error| error.kind() == ErrorKind::OutOfBounds)
    };
    for writer in WRITERS {
        assert!(refused(writer, 0), "{}", writer.name);
        assert!(refused(writer, VIRTUAL_SIZE_BYTES_MAX + 1), "{}", writer.name);
        assert!(refused(writer, u64::MAX), "{}", writer.name);
        let max = match writer.name {
            "vhd dynamic" | "vhd fixed" => VHD_SIZE_BYTES_MAX,
            "vmdk monolithicSparse" => VMDK_SPARSE_SIZE_BYTES_MAX,
            _ => VIRTUAL_SIZE_BYTES_MAX,
        };
        assert!(!refused(writer, max), "{}", writer.name);
        assert!(refused(writer, max + GIB), "{}", writer.name);
    }
}

/// Fails when so much was appended.
struct Full(u64);

impl Body for Full {
    fn append(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.0 = self.0.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

#[test]
fn a_body_that_fails_ends_the_work_with_its_error() {
    let disk = Spots::new(64 * MIB, (0..64).map(|n| (n * MIB, noise(1 << 20, n))));
    for writer in WRITERS {
        let export = (writer.plan)(&disk).unwrap();
        let error = export.write(&disk, &mut Full(10 * MIB)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{}", writer.name);
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(cause.to_string(), io::Error::from(io::ErrorKind::StorageFull).to_string());
    }
}

/// A disk that cannot be read, or not be mapped, from some place on.
struct Damaged {
    disk: Spots,
    reads_to: u64,
    maps_to: u64,
}

impl Disk for Damaged {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset >= self.reads_to {
            return Err(Error::new(ErrorKind::Corrupt, "cannot be read"));
        }
        self.disk.read_at(offset, buf)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        if offset >= self.maps_to {
            return Err(Error::new(ErrorKind::Corrupt, "cannot be mapped"));
        }
        self.disk.extent_at(offset)
    }
}

#[test]
fn a_disk_that_fails_ends_the_work_with_its_error() {
    let disk = Spots::new(64 * MIB, (0..64).map(|n| (n * MIB, noise(1 << 20, n))));
    for writer in WRITERS {
        for (reads_to, maps_to, why) in
            [(9 * MIB, u64::MAX, "cannot be read"), (u64::MAX, 9 * MIB, "cannot be mapped")]
        {
            let disk = Damaged { disk: disk.clone(), reads_to, maps_to };
            let export = (writer.plan)(&disk).unwrap();
            let error = export.write(&disk, &mut Full(u64::MAX)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", writer.name);
            assert_eq!(error.to_string(), why, "{}", writer.name);
        }
    }
}

#[test]
fn qemu_writes_on_into_what_was_written_sparse() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Spots::new(80 * MIB, [(MIB, text(3 << 20, 3)), (70 * MIB, noise(1 << 20, 4))]);
    let raw = path(&directory, "disk.raw");
    disk.write_raw(Path::new(&raw));
    let writes = ["-c", "write -P 7 2M 3M", "-c", "write -P 8 50M 1M"];
    qemu("qemu-io", &[&["-f", "raw"], &writes[..], &[&raw]].concat());
    for writer in WRITERS.iter().filter(|writer| writer.name != "vmdk streamOptimized") {
        let file = path(&directory, "disk");
        write_file((writer.plan)(&disk).unwrap().as_ref(), &disk, Path::new(&file));
        qemu("qemu-io", &[&["-f", writer.driver], &writes[..], &[&file]].concat());
        qemu("qemu-img", &["compare", "-f", "raw", "-F", writer.driver, &raw, &file]);
        let read = open_file(writer.format, Path::new(&file));
        assert!(read_all(read.as_ref()) == fs::read(&raw).unwrap(), "{}", writer.name);
    }
}

#[test]
fn opening_a_file_reads_little_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "disk");
    // As much as a quota allows, all of its tables there.
    let disk = Spots::new(400 * GIB, (0..800).map(|n| (n * 512 * MIB, vec![1; 512])));
    for writer in WRITERS {
        write_file((writer.plan)(&disk).unwrap().as_ref(), &disk, Path::new(&file));
        let source = Counting::new(FileSource(File::open(&file).unwrap()));
        open(Box::new(source.clone()), Some(writer.format), &NO_LIMITS).unwrap();
        let read_bytes = source.read_bytes();
        assert!(read_bytes <= 2 * MIB, "{}: {read_bytes} bytes", writer.name);
    }
}

#[test]
fn refuses_a_disk_that_makes_its_file_one_of_two_formats() {
    // What a guest wrote at the beginning of its disk is what a fixed vhd begins with.
    let disk = Spots::new(MIB, [(0, b"QFI\xfb\0\0\0\x03".to_vec())]);
    let file = written(vhd::plan_fixed(&disk).unwrap().as_ref(), &disk);
    let reason = "a file with the marks of two formats, QCOW2 and VHD";
    assert_refused(FormatName::Vhd, file, ErrorKind::InvalidFormat, reason);
}
