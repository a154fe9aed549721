//! Files as sources, QEMU's tools, and whole disks at once.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use calotype_disk::qcow2::Qcow2;
use calotype_disk::{Disk, ExtentKind, Result, Source};
use tempfile::TempDir;

pub(crate) struct FileSource(pub(crate) File);

impl Source for FileSource {
    fn length_bytes(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

/// A source that counts what is read from it.
#[derive(Clone)]
pub(crate) struct Counting(Arc<(Box<dyn Source>, AtomicU64)>);

impl Counting {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self(Arc::new((Box::new(source), AtomicU64::new(0))))
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        self.0.1.load(Ordering::Relaxed)
    }
}

impl Source for Counting {
    fn length_bytes(&self) -> u64 {
        self.0.0.length_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.1.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.0.0.read_at(offset, buf)
    }
}

pub(crate) fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().to_owned()
}

/// What QEMU sees, as the bytes of a raw disk.
pub(crate) fn raw_of(directory: &TempDir, source: &[&str]) -> Vec<u8> {
    let raw = path(directory, "converted.raw");
    qemu("qemu-img", &[&["convert", "-O", "raw"], source, &[&raw]].concat());
    std::fs::read(raw).unwrap()
}

/// Overwrites a big-endian number.
pub(crate) fn put(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_be_bytes());
}

/// Walks all extents of a disk and reads the start of each: how many there are.
pub(crate) fn walk(disk: &dyn Disk) -> Result<u64> {
    let mut offset = 0;
    let mut buf = vec![0; 3 << 16];
    let mut steps = 0;
    while offset < disk.size_bytes() {
        let extent = disk.extent_at(offset)?;
        assert!(extent.length_bytes > 0 && extent.length_bytes <= disk.size_bytes() - offset);
        let length = (extent.length_bytes as usize).min(buf.len());
        disk.read_at(offset, &mut buf[..length])?;
        offset += extent.length_bytes;
        steps += 1;
        assert!(steps < 1_000_000);
    }
    Ok(steps)
}

pub(crate) fn open_layer(path: &Path) -> Result<Qcow2> {
    Qcow2::open_layer(Box::new(FileSource(File::open(path).unwrap())))
}

/// Runs one of QEMU's tools to its end; its output.
pub(crate) fn qemu(tool: &str, arguments: &[&str]) -> String {
    let output = run(tool, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {text}{errors}");
    text
}

pub(crate) fn run(tool: &str, arguments: &[&str]) -> std::process::Output {
    Command::new(tool).args(arguments).output().unwrap_or_else(|error| {
        panic!(
            "{tool}: {error}; these tests compare with QEMU's tools, install them with \
             `apt-get install --no-install-recommends qemu-utils`"
        )
    })
}

/// All bytes of a disk, read in pieces that fall on no cluster.
pub(crate) fn read_all(disk: &dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.size_bytes() as usize];
    for (index, piece) in bytes.chunks_mut(300_000).enumerate() {
        disk.read_at(index as u64 * 300_000, piece).unwrap();
    }
    bytes
}

/// The extents of a disk, neighbours of a kind joined, checked to cover it without a gap.
pub(crate) fn extents(disk: &dyn Disk) -> Vec<(u64, u64, ExtentKind)> {
    let mut extents: Vec<(u64, u64, ExtentKind)> = Vec::new();
    let mut offset = 0;
    while offset < disk.size_bytes() {
        let extent = disk.extent_at(offset).unwrap();
        assert!(extent.length_bytes > 0);
        match extents.last_mut() {
            Some(last) if last.2 == extent.kind => last.1 += extent.length_bytes,
            _ => extents.push((offset, extent.length_bytes, extent.kind)),
        }
        offset += extent.length_bytes;
    }
    assert_eq!(offset, disk.size_bytes());
    extents
}
