//! Files as sources, QEMU's tools, and whole disks at once.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use calotype_disk::qcow2::Qcow2;
use calotype_disk::{Disk, ExtentKind, Result, Source};

pub(crate) struct FileSource(pub(crate) File);

impl Source for FileSource {
    fn length_bytes(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
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
