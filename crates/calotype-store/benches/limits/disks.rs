//! The disks that are made here.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use calotype_disk::qcow2::create_layer;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// Data in a synthetic disk, spread over it: like a small system on a large disk.
pub(crate) const DATA_BYTES: u64 = 512 * MIB;

/// What is changed before a capture, in pieces of [`PIECE_BYTES`].
pub(crate) const DIRTY_BYTES: u64 = 8 * MIB;
pub(crate) const PIECE_BYTES: u64 = 64 << 10;

/// A raw disk with `data_bytes` of half compressible data in pieces of 1 MiB, evenly spread.
pub(crate) fn synthetic(path: &Path, size_bytes: u64, data_bytes: u64, seed: u64) {
    let file = File::create(path).unwrap();
    file.set_len(size_bytes).unwrap();
    let pieces = data_bytes / MIB;
    for piece in 0..pieces {
        let offset = piece * (size_bytes / pieces) / MIB * MIB;
        file.write_all_at(&data(seed + piece, MIB), offset).unwrap();
    }
    file.sync_all().unwrap();
}

/// Where the pieces that change lie: all over a disk, aligned to their own size.
pub(crate) fn dirty_offsets(size_bytes: u64) -> impl Iterator<Item = u64> {
    let pieces = DIRTY_BYTES / PIECE_BYTES;
    (0..pieces).map(move |piece| piece * (size_bytes / pieces) / PIECE_BYTES * PIECE_BYTES)
}

/// A qcow2 overlay over `disk` into which QEMU's own tools write the pieces.
pub(crate) fn dirty_layer(layer: &Path, disk: &Path, size_bytes: u64, seed: u64) {
    fs::write(layer, create_layer(size_bytes).unwrap()).unwrap();
    let mut command = Command::new("qemu-io");
    command.args(["--image-opts", &chain(layer, disk)]);
    for (number, offset) in dirty_offsets(size_bytes).enumerate() {
        let part = layer.with_extension(format!("piece-{number}"));
        fs::write(&part, data(seed + number as u64, PIECE_BYTES)).unwrap();
        command.args(["-c", &format!("write -q -s {} {offset} {PIECE_BYTES}", part.display())]);
    }
    assert!(command.status().unwrap().success(), "{command:?}");
    for (number, _) in dirty_offsets(size_bytes).enumerate() {
        fs::remove_file(layer.with_extension(format!("piece-{number}"))).unwrap();
    }
    File::open(layer).unwrap().sync_all().unwrap();
}

/// The same change in a raw disk itself.
pub(crate) fn dirty_raw(disk: &Path, size_bytes: u64, seed: u64) {
    let file = File::options().write(true).open(disk).unwrap();
    for (number, offset) in dirty_offsets(size_bytes).enumerate() {
        file.write_all_at(&data(seed + number as u64, PIECE_BYTES), offset).unwrap();
    }
    file.sync_all().unwrap();
}

fn chain(layer: &Path, disk: &Path) -> String {
    format!(
        "driver=qcow2,file.driver=file,file.filename={},\
         backing.driver=raw,backing.file.driver=file,backing.file.filename={}",
        layer.display(),
        disk.display()
    )
}

/// Half noise, half repetition, different for every seed.
pub(crate) fn data(seed: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![seed as u8; length as usize];
    for (index, block) in bytes.chunks_mut(4096).enumerate() {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes());
        let half = block.len() / 2;
        hasher.finalize_xof().fill(&mut block[..half]);
    }
    bytes
}

/// Reads a file's data, so that it is in the page cache.
pub(crate) fn warm(path: &Path) {
    each_data_run(&File::open(path).unwrap(), |_| {});
}

/// Reads what is not a hole of a file, in order; the buffer is 1 MiB or less.
pub(crate) fn each_data_run(file: &File, mut found: impl FnMut(&[u8])) {
    use rustix::fs::{SeekFrom, seek};
    let mut buffer = vec![0; MIB as usize];
    let mut offset = 0;
    while let Ok(start) = seek(file, SeekFrom::Data(offset)) {
        let end = seek(file, SeekFrom::Hole(start)).unwrap();
        offset = start;
        while offset < end {
            let length = (end - offset).min(MIB) as usize;
            file.read_exact_at(&mut buffer[..length], offset).unwrap();
            found(&buffer[..length]);
            offset += length as u64;
        }
    }
}

/// The bytes of all files below a folder.
pub(crate) fn tree_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { tree_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

/// Nothing of the files below a folder is in the page cache afterwards.
pub(crate) fn chill(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        if entry.metadata().unwrap().is_dir() {
            chill(&entry.path());
        } else {
            let file = File::open(entry.path()).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    }
}

/// Reads all files below a folder, one after the other; answers how many bytes those were.
pub(crate) fn read_tree(directory: &Path) -> u64 {
    let mut buffer = vec![0; MIB as usize];
    let mut total = 0;
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        if entry.metadata().unwrap().is_dir() {
            total += read_tree(&entry.path());
            continue;
        }
        let mut file = File::open(entry.path()).unwrap();
        loop {
            let length = file.read(&mut buffer).unwrap();
            if length == 0 {
                break;
            }
            total += length as u64;
        }
    }
    total
}
