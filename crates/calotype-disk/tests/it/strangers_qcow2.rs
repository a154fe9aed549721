//! qcow2 disks of strangers beside QEMU: all that it can write into one file is read alike.

use std::fs::{self, File};
use std::path::Path;

use calotype_disk::qcow2::Qcow2;
use calotype_disk::{Disk, ErrorKind, ExtentKind, FormatName, OpenLimits, open};
use tempfile::TempDir;

use crate::support::{Counting, FileSource, extents, path, qemu, raw_of, read_all};

/// No multiple of any cluster.
const SIZE_BYTES: usize = (9 << 20) + 512;

/// Text that compresses, noise that does not, zeros, and a tail that fills no cluster.
fn pattern() -> Vec<u8> {
    let mut bytes = vec![0; SIZE_BYTES];
    let mut state = 1_u64;
    for (index, block) in bytes.chunks_mut(4096).enumerate() {
        match index / 37 % 4 {
            0 => {}
            1 => block.fill(index as u8),
            2 => {
                let text = format!("line {index} of a text that compresses well\n");
                block.iter_mut().zip(text.bytes().cycle()).for_each(|(to, byte)| *to = byte);
            }
            _ => {
                for byte in block {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *byte = (state >> 56) as u8;
                }
            }
        }
    }
    bytes
}

fn open_file(file: &str) -> Qcow2 {
    let source = FileSource(File::open(file).unwrap());
    Qcow2::open(Box::new(source)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The disk of `file` reads as QEMU reads it, and its extents do not lie.
fn compare(directory: &TempDir, file: &str, what: &str) {
    let expected = raw_of(directory, &["-f", "qcow2", file]);
    let disk = open_file(file);
    let seen = read_all(&disk);
    assert!(seen == expected, "{what}");
    for (offset, length, kind) in extents(&disk) {
        let run = &expected[offset as usize..(offset + length) as usize];
        match kind {
            ExtentKind::Data => {}
            ExtentKind::Zero => assert!(run.iter().all(|&byte| byte == 0), "{what} at {offset}"),
            ExtentKind::Parent => panic!("{what}: nothing is below a whole disk"),
        }
    }
}

#[test]
fn reads_what_qemu_converts_to() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, file) = (path(&directory, "disk.raw"), path(&directory, "disk.qcow2"));
    fs::write(&raw, pattern()).unwrap();
    for options in [
        "compat=0.10",
        "compat=0.10,cluster_size=512",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=2M",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k",
        "extended_l2=on,cluster_size=2M",
        "refcount_bits=1",
        "refcount_bits=2,cluster_size=512",
        "refcount_bits=64,cluster_size=512",
        "lazy_refcounts=on",
        "preallocation=metadata",
        "preallocation=metadata,extended_l2=on",
        "preallocation=falloc",
    ] {
        qemu("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", "-o", options, &raw, &file]);
        compare(&directory, &file, options);
    }
}

#[test]
fn reads_what_qemu_compresses() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, file) = (path(&directory, "disk.raw"), path(&directory, "disk.qcow2"));
    fs::write(&raw, pattern()).unwrap();
    for method in ["zlib", "zstd"] {
        for more in [
            "cluster_size=512",
            "cluster_size=4k",
            "cluster_size=64k",
            "cluster_size=2M",
            "cluster_size=16k,extended_l2=on",
            "cluster_size=64k,extended_l2=on",
        ] {
            let options = format!("compression_type={method},{more}");
            let convert = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &options];
            qemu("qemu-img", &[&convert[..], &[&raw, &file]].concat());
            let check = qemu("qemu-img", &["check", "--output=json", &file]);
            assert!(check.contains("\"compressed-clusters\": "), "{options}: {check}");
            compare(&directory, &file, &options);
        }
    }
    let options = "compat=0.10";
    let convert = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options];
    qemu("qemu-img", &[&convert[..], &[&raw, &file]].concat());
    compare(&directory, &file, options);
}

/// Writes, zeros and discards at odd places.
fn scribble(file: &str, seed: u64) {
    let mut arguments: Vec<String> =
        ["-f", "qcow2", "-t", "unsafe", "-d", "unmap", file].map(String::from).into();
    let mut state = seed;
    for pattern in 1..80 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        let length = ((state >> 50) % 240 + 1) * 512;
        let offset = (state >> 20) % ((SIZE_BYTES as u64 - length) / 512) * 512;
        let command = match pattern % 9 {
            0 => format!("write -z {offset} {length}"),
            1 => format!("write -z -u {offset} {length}"),
            2 => format!("discard {offset} {length}"),
            _ => format!("write -P {pattern} {offset} {length}"),
        };
        arguments.extend(["-c".into(), command]);
    }
    qemu("qemu-io", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn reads_disks_that_were_written_to_and_whose_snapshots_were_taken() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, file) = (path(&directory, "disk.raw"), path(&directory, "disk.qcow2"));
    fs::write(&raw, pattern()).unwrap();
    for options in [
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=64k",
        "cluster_size=64k,extended_l2=on,compression_type=zstd",
        "cluster_size=2M,extended_l2=on",
    ] {
        let convert = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options];
        qemu("qemu-img", &[&convert[..], &[&raw, &file]].concat());
        for (seed, name) in ["first", "a snapshot with a longer name"].iter().enumerate() {
            scribble(&file, seed as u64);
            qemu("qemu-img", &["snapshot", "-c", name, &file]);
        }
        scribble(&file, 9);
        compare(&directory, &file, options);
    }
}

#[test]
fn reads_a_disk_that_its_writer_left_dirty() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "disk.qcow2");
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", &file, "4M"]);
    let write = ["-c", "write -P 9 1M 64k", "-c", "flush", "-c", "abort", &file];
    assert!(!crate::support::run("qemu-io", &write).status.success());
    let mut bytes = vec![0; 65_536];
    open_file(&file).read_at(1 << 20, &mut bytes).unwrap();
    assert!(bytes == vec![9; 65_536]);
}

#[test]
fn small_reads_of_a_compressed_cluster_inflate_it_once() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, file) = (path(&directory, "disk.raw"), path(&directory, "disk.qcow2"));
    fs::write(&raw, pattern()).unwrap();
    qemu("qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", &raw, &file]);
    let source = Counting::new(fs::read(&file).unwrap());
    let disk = Qcow2::open(Box::new(source.clone())).unwrap();
    let expected = pattern();
    // Of a cluster of text.
    let start = 37 * 4096 * 2 / 65_536 * 65_536 + 65_536;
    disk.read_at(start as u64, &mut [0; 512]).unwrap();
    let before = source.read_bytes();
    for offset in (start..start + 65_536).step_by(512) {
        let mut bytes = [0; 512];
        disk.read_at(offset as u64, &mut bytes).unwrap();
        assert!(bytes == expected[offset..offset + 512]);
    }
    assert_eq!(source.read_bytes(), before);
}

#[test]
fn refuses_what_would_need_another_file_or_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "disk.qcow2");
    let create = ["create", "-q", "-f", "qcow2"];
    let backing = ["-u", "-F", "raw", "-b", "/etc/hostname", &file, "1M"];
    qemu("qemu-img", &[&create[..], &backing].concat());
    assert_refused(&file, "backing file");

    let data_file = format!("data_file={}", path(&directory, "data"));
    qemu("qemu-img", &[&create[..], &["-o", &data_file, &file, "1M"]].concat());
    assert_refused(&file, "external data file");

    let secret = ["--object", "secret,id=key,data=secret"];
    // Making a LUKS header measures the machine, which some machines cannot.
    let aes = ["-o", "encrypt.format=aes,encrypt.key-secret=key"];
    qemu("qemu-img", &[&create[..], &secret, &aes, &[&file, "4M"]].concat());
    assert_refused(&file, "encrypted with AES");
}

fn assert_refused(file: &str, reason: &str) {
    let limits = OpenLimits { virtual_size_bytes_max: 1 << 40, file_size_bytes_max: 1 << 40 };
    let source = FileSource(File::open(Path::new(file)).unwrap());
    let error = open(Box::new(source), Some(FormatName::Qcow2), &limits).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature, "{error}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[test]
fn a_large_disk_is_opened_with_few_reads() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "disk.qcow2");
    let options = "preallocation=metadata";
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &file, "64G"]);
    let source = Counting::new(FileSource(File::open(&file).unwrap()));
    let disk = Qcow2::open(Box::new(source.clone())).unwrap();
    assert_eq!(disk.size_bytes(), 64 << 30);
    // Its tables take 8 MiB.
    assert!(source.read_bytes() < 256 << 10, "{} bytes", source.read_bytes());
}
