//! Files opened by a process that may do nothing else, through the crate's public API.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use calotype_confined::{ConfinedDisk, Error, Expected, Request, Result};
use calotype_disk::{Disk, ExtentKind, FormatName, Source};

/// The process that reads: this program again, with this one test.
#[test]
#[ignore = "the process of other tests"]
fn reader() {
    calotype_confined::run().unwrap();
}

fn reader_command() -> Vec<OsString> {
    let program = std::env::current_exe().unwrap().into_os_string();
    let words = ["--ignored", "--exact", "reader", "--nocapture", "--test-threads=1"];
    std::iter::once(program).chain(words.map(OsString::from)).collect()
}

/// A file in memory that counts what is read of it.
struct Counted {
    bytes: Vec<u8>,
    read_bytes: Arc<AtomicU64>,
    fails: bool,
}

impl Source for Counted {
    fn length_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if self.fails {
            return Err(io::Error::other("the disk is on fire"));
        }
        self.read_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, buf)
    }
}

fn request(bytes: Vec<u8>, format: FormatName) -> Request {
    Request {
        reader: reader_command(),
        source: Box::new(bytes),
        expected: Expected::Disk(format),
        virtual_size_bytes_max: 400 << 30,
        file_size_bytes_max: 400 << 30,
        cancelled: Box::new(|| false),
    }
}

fn open(bytes: Vec<u8>, format: FormatName) -> Result<ConfinedDisk> {
    ConfinedDisk::open(request(bytes, format))
}

fn qemu_img(words: &[&str]) {
    let output = Command::new("qemu-img").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Why a file was refused.
fn refusal(opened: Result<ConfinedDisk>) -> String {
    match opened {
        Err(Error::Refused(error)) => error.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(disk) => panic!("opened {:?}", disk.opened()),
    }
}

#[test]
fn reads_every_byte_that_qemu_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (directory.path().join("raw"), directory.path().join("qcow2"));
    let mut bytes: Vec<u8> = (0..9_000_000_u32).map(|n| (n / 40) as u8).collect();
    bytes[1 << 20..5 << 20].fill(0);
    bytes.truncate(8_999_936);
    fs::write(&raw, &bytes).unwrap();
    qemu_img(&["convert", "-c", "-f", "raw", "-O", "qcow2", text(&raw), text(&qcow2)]);

    let disk = open(fs::read(&qcow2).unwrap(), FormatName::Qcow2).unwrap();
    assert_eq!(disk.opened().format, FormatName::Qcow2);
    assert_eq!(disk.size_bytes(), bytes.len() as u64);
    let mut read = vec![1; bytes.len()];
    disk.read_at(0, &mut read).unwrap();
    assert!(read == bytes);
    let mut piece = [1; 1000];
    disk.read_at(70_001, &mut piece).unwrap();
    assert_eq!(piece, bytes[70_001..71_001]);

    let (mut offset, mut data) = (0, 0);
    while offset < disk.size_bytes() {
        let extent = disk.extent_at(offset).unwrap();
        assert_ne!(extent.kind, ExtentKind::Parent);
        if extent.kind == ExtentKind::Data {
            data += extent.length_bytes;
        }
        offset += extent.length_bytes;
    }
    assert!(data <= bytes.len() as u64 - (4 << 20), "holes are told: {data}");
    assert!(disk.read_at(disk.size_bytes(), &mut [0]).is_err());
}

#[test]
fn what_the_kernel_can_deny_is_denied() {
    let disk = open(vec![7; 4096], FormatName::Raw).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(disk.opened().confinement.seccomp, status.contains("Seccomp:"));
}

#[test]
fn says_why_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let qcow2 = directory.path().join("qcow2");
    let words = ["create", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow"];
    qemu_img(&[&words[..], &[text(&qcow2), "64M"]].concat());
    let bytes = fs::read(&qcow2).unwrap();
    assert!(refusal(open(bytes.clone(), FormatName::Qcow2)).contains("backing file"));
    let declared = refusal(open(bytes, FormatName::Raw));
    assert!(declared.contains("RAW") && declared.contains("QCOW2"), "{declared}");
}

#[test]
fn hardly_reads_a_file_that_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let qcow2 = directory.path().join("qcow2");
    qemu_img(&["create", "-f", "qcow2", text(&qcow2), "500G"]);
    let mut bytes = fs::read(&qcow2).unwrap();
    bytes.resize(64 << 20, 0);
    let read_bytes = Arc::new(AtomicU64::new(0));
    let source = Counted { bytes, read_bytes: Arc::clone(&read_bytes), fails: false };
    let request = Request { source: Box::new(source), ..request(Vec::new(), FormatName::Qcow2) };
    assert!(refusal(ConfinedDisk::open(request)).contains("at most"));
    assert!(read_bytes.load(Ordering::Relaxed) <= 2 << 20);
}

#[test]
fn does_not_blame_the_file_for_its_storage() {
    let source = Counted { bytes: vec![7; 1 << 20], read_bytes: Arc::default(), fails: true };
    let request = Request { source: Box::new(source), ..request(Vec::new(), FormatName::Raw) };
    assert!(matches!(ConfinedDisk::open(request), Err(Error::Source(_))));
}

#[test]
fn a_reader_that_ends_is_not_waited_for() {
    for reader in [vec!["/bin/false".into()], vec!["/nowhere/at/all".into()], Vec::new()] {
        let request = Request { reader, ..request(vec![7; 4096], FormatName::Raw) };
        assert!(matches!(ConfinedDisk::open(request), Err(Error::Reader(_))));
    }
}

#[test]
fn nobody_waits_for_a_disk_that_is_not_wanted_any_more() {
    let wanted = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&wanted);
    let cancelled = Box::new(move || !asked.load(Ordering::Relaxed));
    let request = Request { cancelled, ..request(vec![7; 4096], FormatName::Raw) };
    assert!(matches!(ConfinedDisk::open(request), Err(Error::Cancelled)));
}

#[test]
fn a_hole_of_the_file_is_not_read() {
    struct Holes;
    impl Source for Holes {
        fn length_bytes(&self) -> u64 {
            100 << 30
        }
        fn read_at(&self, _offset: u64, buf: &mut [u8]) -> io::Result<()> {
            buf.fill(0);
            Ok(())
        }
        fn extent_at(&self, offset: u64) -> io::Result<(u64, bool)> {
            Ok((self.length_bytes() - offset, false))
        }
    }
    let request = Request { source: Box::new(Holes), ..request(Vec::new(), FormatName::Raw) };
    let disk = ConfinedDisk::open(request).unwrap();
    let extent = disk.extent_at(5).unwrap();
    assert_eq!((extent.length_bytes, extent.kind), ((100 << 30) - 5, ExtentKind::Zero));
}
