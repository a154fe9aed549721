//! Damaged files: found, named, never handed out; and as much as possible saved.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use calotype_disk::Disk;
use calotype_store::{ErrorKind, ManifestId, Store};

use crate::support::{CHUNK, MemoryDisk, noise, open, read_all};

fn files(directory: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

/// Noise, text and repetition, so that both codecs occur.
fn some_disk(seed: u64) -> Vec<u8> {
    let mut bytes = noise(seed, 6 * CHUNK);
    for (index, byte) in bytes[2 * CHUNK..4 * CHUNK].iter_mut().enumerate() {
        *byte = b"calotype "[(index + index / 1000) % 9];
    }
    // Holes up to a size that needs a node: all chunks are below the first one.
    bytes.resize(260 * CHUNK, 0);
    bytes
}

/// A closed store with one disk in one pack.
fn one_pack() -> (tempfile::TempDir, ManifestId, Vec<u8>, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let bytes = some_disk(1);
    let store = Store::open(directory.path()).unwrap();
    let committed = store.commit(&MemoryDisk::full_of(bytes.clone()), None, &()).unwrap();
    let id = committed.manifest;
    let pack = files(directory.path(), "packs").pop().unwrap();
    (directory, id, bytes, pack)
}

/// Reads a disk piece by piece: what is read must be right, the rest an error.
fn read_what_is_there(store: &Store, id: ManifestId, expected: &[u8]) -> usize {
    let disk = store.disk(id).unwrap();
    let mut failures = 0;
    for (index, expected) in expected.chunks(CHUNK).enumerate() {
        let mut piece = vec![0; expected.len()];
        match disk.read_at((index * CHUNK) as u64, &mut piece) {
            Ok(()) => assert!(piece == expected, "wrong bytes handed out"),
            Err(error) => {
                assert_eq!(error.kind(), calotype_disk::ErrorKind::Corrupt);
                failures += 1;
            }
        }
    }
    failures
}

#[test]
fn a_flipped_bit_anywhere_in_a_pack_is_harmless_or_found() {
    let (directory, id, bytes, pack) = one_pack();
    let length = fs::metadata(&pack).unwrap().len();
    let mut found = 0;
    // A stride that falls on headers, entries, payloads, records and the trailer alike.
    for offset in (0..length).step_by(2503).chain(length - 200..length) {
        flip(&pack, offset);
        let store = open(directory.path());
        let failures = read_what_is_there(&store, id, &bytes);
        match store.verify(id) {
            // Only if nothing that the disk needs was hit.
            Ok(_) => assert_eq!(failures, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(failures > 0);
                found += 1;
            }
        }
        drop(store);
        flip(&pack, offset);
    }
    assert!(found > 100, "{found}");
    open(directory.path()).verify(id).unwrap();
}

#[test]
fn a_bit_that_flips_while_the_store_is_open_is_found() {
    let (directory, id, _, pack) = one_pack();
    let store = Store::open(directory.path()).unwrap();
    store.verify(id).unwrap();
    flip(&pack, 20_000);
    let error = store.verify(id).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    let name = pack.file_stem().unwrap().to_str().unwrap();
    assert!(cause.contains(&format!("damaged in pack {name} at offset")), "{cause}");
}

#[test]
fn committing_the_same_bytes_again_heals_a_damaged_chunk() {
    let (directory, id, bytes, pack) = one_pack();
    flip(&pack, 20_000);
    let store = open(directory.path());
    store.verify(id).unwrap_err();
    let committed = store.commit(&MemoryDisk::full_of(bytes.clone()), None, &()).unwrap();
    assert_eq!((committed.manifest, committed.chunks_new), (id, 1));
    store.verify(id).unwrap();
    assert!(read_all(&store, id) == bytes);
    drop((store, committed));
    open(directory.path()).verify(id).unwrap();
}

#[test]
fn a_pack_without_its_footer_is_read_by_its_entries() {
    let (directory, id, bytes, pack) = one_pack();
    let whole = fs::read(&pack).unwrap();
    // Seven chunks, the node among them, have records of 64 bytes; the trailer has 64.
    for cut in [1, 30, 64, 65, 64 + 64 * 7] {
        fs::write(&pack, &whole[..whole.len() - cut]).unwrap();
        let store = open(directory.path());
        store.verify(id).unwrap();
        assert!(read_all(&store, id) == bytes);
    }
    let garbage = [whole.as_slice(), &noise(9, 5000)].concat();
    fs::write(&pack, garbage).unwrap();
    let store = open(directory.path());
    store.verify(id).unwrap();
    // The next collection makes it a good pack again.
    let collected = store.collect(&[id].into()).unwrap();
    assert_eq!(collected.packs_rewritten, 1);
    assert!(!pack.exists());
    store.verify(id).unwrap();
    drop(store);
    open(directory.path()).verify(id).unwrap();
}

#[test]
fn what_is_left_of_a_truncated_pack_is_saved() {
    let (directory, id, bytes, pack) = one_pack();
    let whole = fs::read(&pack).unwrap();
    for length in [whole.len() / 2, 70_000, 100, 16, 7, 0] {
        fs::write(&pack, &whole[..length]).unwrap();
        let store = open(directory.path());
        let failures = read_what_is_there(&store, id, &bytes);
        assert!(failures > 0);
        assert_eq!(store.verify(id).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn chunks_behind_a_damaged_entry_are_found_without_a_footer() {
    let (directory, id, bytes, pack) = one_pack();
    let whole = fs::read(&pack).unwrap();
    let mut damaged = whole[..whole.len() - 64].to_vec();
    // The lengths of the first entry.
    damaged[16 + 4..16 + 12].fill(0xff);
    fs::write(&pack, damaged).unwrap();
    let store = open(directory.path());
    // The node is the last chunk of the pack; the first chunk of data is lost.
    assert_eq!(store.verify(id).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(read_what_is_there(&store, id, &bytes), 1);
}

#[test]
fn a_missing_pack_is_found() {
    let (directory, id, _, pack) = one_pack();
    fs::remove_file(pack).unwrap();
    let store = open(directory.path());
    assert_eq!(store.verify(id).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_damaged_manifest_is_found_and_ends_a_collection() {
    let (directory, id, _, _) = one_pack();
    let manifest = directory.path().join(format!("manifests/{id}"));
    flip(&manifest, 100);
    let store = open(directory.path());
    assert!(store.contains(id));
    assert_eq!(store.disk(id).err().unwrap().kind(), ErrorKind::Corrupt);
    assert_eq!(store.verify(id).unwrap_err().kind(), ErrorKind::Corrupt);
    let before = store.usage();
    assert_eq!(store.collect(&[id].into()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.usage(), before);
    // Without it as a root, it can go.
    store.collect(&[].into()).unwrap();
    assert_eq!(store.usage().stored_bytes, 0);
}

#[test]
fn half_written_and_foreign_files_do_not_matter() {
    let (directory, id, _, _) = one_pack();
    for (name, bytes) in [
        ("tmp/0", noise(1, 100_000)),
        ("tmp/1", Vec::new()),
        ("packs/readme", noise(2, 100)),
        ("packs/0000000000000000000000000000002A.pack", noise(2, 100)),
        ("packs/2b.pack", noise(2, 100)),
        ("packs/00000000000000000000000000000030.pack", noise(3, 300_000)),
        ("manifests/readme", noise(4, 10)),
        ("partials/readme", noise(4, 10)),
        (
            "partials/0000000000000000000000000000000000000000000000000000000000000001",
            noise(5, 300),
        ),
    ] {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    let store = open(directory.path());
    assert!(files(directory.path(), "tmp").is_empty());
    assert_eq!(store.manifests(), [id].into());
    store.verify(id).unwrap();
    let committed = store.commit(&MemoryDisk::full_of(noise(7, CHUNK)), None, &()).unwrap();
    store.verify(committed.manifest).unwrap();
}

#[test]
fn refuses_a_pack_of_a_later_version() {
    let (directory, _, _, pack) = one_pack();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[8] = 3;
    fs::write(&pack, bytes).unwrap();
    Store::drop_index(directory.path()).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
}

#[test]
fn a_damaged_or_missing_index_is_built_again_from_the_packs() {
    let (directory, id, bytes, _) = one_pack();
    let index = directory.path().join("index");
    let whole = fs::read(&index).unwrap();
    let usage = open(directory.path()).usage();
    let check = || {
        let store = open(directory.path());
        store.verify(id).unwrap();
        assert!(read_all(&store, id) == bytes);
        assert_eq!(store.usage(), usage);
    };
    fs::remove_file(&index).unwrap();
    check();
    for length in [0, 1, 100, 5000, whole.len() / 2, whole.len() - 1] {
        fs::write(&index, &whole[..length]).unwrap();
        check();
    }
    fs::write(&index, noise(1, whole.len())).unwrap();
    check();
    Store::drop_index(directory.path()).unwrap();
    assert!(!index.exists());
    check();
}

#[test]
fn a_flipped_bit_anywhere_in_the_index_does_no_harm() {
    let (directory, id, bytes, _) = one_pack();
    let index = directory.path().join("index");
    let whole = fs::read(&index).unwrap();
    let used: Vec<_> = (0..whole.len()).filter(|&offset| whole[offset] != 0).collect();
    // Where there is something, and here and there where there is nothing.
    let stride = used.len().div_ceil(150);
    for offset in used.into_iter().step_by(stride).chain((0..whole.len()).step_by(99_991)) {
        let mut damaged = whole.clone();
        damaged[offset] ^= 0x10;
        fs::write(&index, &damaged).unwrap();
        let store = open(directory.path());
        store.verify(id).unwrap_or_else(|error| panic!("bit of byte {offset}: {error}"));
        assert!(read_all(&store, id) == bytes);
        let again = store.commit(&MemoryDisk::full_of(bytes.clone()), None, &()).unwrap();
        assert_eq!((again.manifest, again.chunks_new), (id, 0));
    }
}

#[test]
fn an_index_of_other_packs_is_brought_up_to_date() {
    let (directory, id, bytes, pack) = one_pack();
    let index = directory.path().join("index");
    let old = fs::read(&index).unwrap();
    let store = open(directory.path());
    let other = store.commit(&MemoryDisk::full_of(noise(77, 3 * CHUNK)), None, &()).unwrap();
    let other = other.manifest;
    drop(store);
    // A pack more than it knows.
    fs::write(&index, &old).unwrap();
    let store = open(directory.path());
    store.verify(other).unwrap();
    store.verify(id).unwrap();
    drop(store);
    // A pack less.
    fs::remove_file(pack).unwrap();
    let store = open(directory.path());
    store.verify(other).unwrap();
    assert_eq!(store.verify(id).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.usage().packs, 1);
    // What was lost is stored again.
    let again = store.commit(&MemoryDisk::full_of(bytes), None, &()).unwrap();
    assert_eq!(again.manifest, id);
    store.verify(id).unwrap();
}
