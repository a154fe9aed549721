//! Scrub: every flipped bit is found, named with the disks it harms, and repaired from any copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use calotype_disk::Disk;
use calotype_store::backend::Local;
use calotype_store::{
    Affected, ChunkId, ChunkSource, ErrorKind, ManifestId, Origin, PartialId, Progress, Result,
    ScrubOptions, Scrubbed, Store, StoreCopy, TakeCopy,
};

use crate::support::{CHUNK, MemoryDisk, noise, open, read_all, small};

const CHUNK_BYTES: u64 = CHUNK as u64;
/// Of noise, which is stored as it is: the entry and the payload.
const ENTRY: u64 = 64;
const STEP: u64 = ENTRY + CHUNK_BYTES;

fn disk(seeds: impl IntoIterator<Item = u64>) -> MemoryDisk {
    let chunk = |seed| if seed == 0 { vec![0; CHUNK] } else { noise(seed, CHUNK) };
    MemoryDisk::full_of(seeds.into_iter().flat_map(chunk).collect())
}

fn commit(store: &Store, seeds: impl IntoIterator<Item = u64>) -> ManifestId {
    store.commit(&disk(seeds), None, &()).unwrap().manifest
}

fn packs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("packs")).unwrap();
    let mut packs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    packs.sort();
    packs
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

fn scrub(store: &Store) -> Scrubbed {
    store.scrub(&ScrubOptions::default(), &()).unwrap()
}

/// A store without memory, so that nothing is repaired from there.
fn forgetful(directory: &Path) -> Store {
    let options = calotype_store::Options { cache_bytes: 0, ..small() };
    Store::open_with(directory, &options).unwrap()
}

fn affected(manifest: ManifestId, chunks: std::ops::Range<u64>) -> Affected {
    Affected { manifest, range: chunks.start * CHUNK_BYTES..chunks.end * CHUNK_BYTES }
}

#[test]
fn finds_nothing_wrong_with_a_store_that_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let empty = scrub(&store);
    assert!(empty.is_whole());
    assert_eq!((empty.packs, empty.chunks, empty.bytes), (0, 0, 0));
    commit(&store, 1..300);
    commit(&store, 200..500);
    let seen = Seen::default();
    let scrubbed = store.scrub(&ScrubOptions::default(), &seen).unwrap();
    assert!(scrubbed.is_whole());
    assert_eq!((scrubbed.places_damaged, scrubbed.packs_damaged), (0, 0));
    assert_eq!((scrubbed.chunks, scrubbed.manifests), (store.usage().chunks, 2));
    assert_eq!((scrubbed.packs, scrubbed.bytes), (store.usage().packs, store.usage().stored_bytes));
    let seen = seen.0.into_inner().unwrap();
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&(scrubbed.bytes, scrubbed.bytes)));
}

#[derive(Default)]
struct Seen(Mutex<Vec<(u64, u64)>>);

impl Progress for Seen {
    fn advance(&self, done_bytes: u64, total_bytes: u64) {
        self.0.lock().unwrap().push((done_bytes, total_bytes));
    }
}

#[test]
fn finds_a_flipped_bit_anywhere_in_a_pack() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = noise(1, 3 * CHUNK);
    bytes.extend(b"calotype ".iter().cycle().take(2 * CHUNK));
    bytes.resize(260 * CHUNK, 0);
    let store = open(directory.path());
    let id = store.commit(&MemoryDisk::full_of(bytes.clone()), None, &()).unwrap().manifest;
    drop(store);
    let pack = packs(directory.path()).pop().unwrap();
    let length = fs::metadata(&pack).unwrap().len();
    // Everything but the inside of payloads, and something of that.
    let around = |offset: u64| offset % STEP < 120;
    let offsets = (0..length).filter(|&offset| around(offset) && offset % 7 == 0);
    let offsets = offsets.chain((0..length).step_by(9973)).chain((length - 700..length).step_by(3));
    let index = fs::read(directory.path().join("index")).unwrap();
    for offset in offsets {
        flip(&pack, offset);
        let store = forgetful(directory.path());
        let scrubbed = scrub(&store);
        assert_eq!(scrubbed.packs_damaged, 1, "offset {offset}");
        assert_eq!(scrubbed.is_whole(), store.verify(id).is_ok(), "offset {offset}");
        assert_eq!(scrubbed.places_damaged > 0, !scrubbed.is_whole(), "offset {offset}");
        drop(store);
        flip(&pack, offset);
        // As it was before the pack was found worn.
        fs::write(directory.path().join("index"), &index).unwrap();
    }
    assert!(scrub(&open(directory.path())).is_whole());
}

#[test]
fn names_the_ranges_of_all_disks_that_share_a_damaged_chunk() {
    let directory = tempfile::tempdir().unwrap();
    let store = forgetful(directory.path());
    let first = commit(&store, 1..9);
    // The third chunk of the first one, elsewhere.
    let second = commit(&store, [0, 0, 3, 100, 101]);
    let third = commit(&store, (200..260).chain([3, 3, 102, 3]));
    let other = commit(&store, 6..9);
    flip(&packs(directory.path())[0], 16 + 2 * STEP + 99);
    let scrubbed = scrub(&store);
    assert!(!scrubbed.is_whole());
    assert_eq!((scrubbed.places_damaged, scrubbed.damages_more), (1, 0));
    assert_eq!(scrubbed.damages.len(), 1);
    let damage = &scrubbed.damages[0];
    let expected = [
        affected(first, 2..3),
        affected(second, 2..3),
        affected(third, 60..62),
        affected(third, 63..64),
    ];
    let mut found = damage.affected.clone();
    let key = |affected: &Affected| {
        let order = [first, second, third].iter().position(|&id| id == affected.manifest);
        (order, affected.range.start)
    };
    found.sort_by_key(key);
    assert_eq!(found, expected);
    assert_eq!(damage.manifests, [first, second, third].into());
    assert_eq!(scrubbed.affected(), damage.manifests);
    assert_eq!(damage.place.unwrap().1, 16 + 2 * STEP + ENTRY);
    assert_eq!(damage.repaired, None);

    // Guests get an error for it, and everything else.
    let mut chunk = vec![0; CHUNK];
    let disk = store.disk(second).unwrap();
    let error = disk.read_at(2 * CHUNK_BYTES, &mut chunk).unwrap_err();
    assert_eq!(error.kind(), calotype_disk::ErrorKind::Corrupt);
    disk.read_at(3 * CHUNK_BYTES, &mut chunk).unwrap();
    assert!(chunk == noise(100, CHUNK));
    store.verify(other).unwrap();
    // It stays damaged, and the pack stays.
    store.collect(&store.manifests()).unwrap();
    assert!(packs(directory.path())[0].exists());
    assert!(!scrub(&store).is_whole());
    // Whoever brings the bytes again heals it.
    commit(&store, [3]);
    assert!(scrub(&store).is_whole());
    store.verify(third).unwrap();
}

#[test]
fn says_that_a_lost_node_hides_what_it_covers() {
    let directory = tempfile::tempdir().unwrap();
    let store = forgetful(directory.path());
    let bytes: Vec<_> = (1..=300).flat_map(|seed| noise(seed, CHUNK)).collect();
    let id = store.commit(&MemoryDisk::full_of(bytes), None, &()).unwrap().manifest;
    let pack = packs(directory.path()).pop().unwrap();
    // The last chunk of the last pack is the second node, of 44 chunks; in front of the records is
    // its payload.
    let whole = fs::read(&pack).unwrap();
    let records = whole[whole.len() - 64..].first_chunk().copied().unwrap();
    flip(&pack, u64::from_le_bytes(records) - 5);
    let scrubbed = scrub(&store);
    assert_eq!(scrubbed.damages.len(), 1);
    let node = Affected { manifest: id, range: 256 * CHUNK_BYTES..300 * CHUNK_BYTES };
    assert_eq!(scrubbed.damages[0].affected, [node]);
    assert!(!scrubbed.is_whole());
}

#[test]
fn finds_what_is_wrong_with_other_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = forgetful(directory.path());
    let id = commit(&store, 1..9);
    let other = commit(&store, 20..23);
    let manifest = directory.path().join(format!("manifests/{id}"));
    flip(&manifest, 2000);
    let scrubbed = scrub(&store);
    assert_eq!(scrubbed.manifests_damaged, BTreeMap::from([(id, false)]));
    assert_eq!(scrubbed.affected(), [id].into());
    assert!(!scrubbed.is_whole());
    flip(&manifest, 2000);
    assert!(scrub(&store).is_whole());

    let work = PartialId::of(b"work");
    let stop = StopAt(AtomicU64::new(20 * CHUNK_BYTES));
    store.commit_resumable(&disk(1000..1060), None, work, &stop).unwrap_err();
    let partial = directory.path().join(format!("partials/{work}"));
    assert_eq!(scrub(&store).partials, 1);
    flip(&partial, 100);
    let scrubbed = scrub(&store);
    assert_eq!((scrubbed.partials, scrubbed.partials_damaged), (1, 1));
    assert!(scrubbed.is_whole(), "nothing that was acknowledged is lost");

    let pack = packs(directory.path())[0].clone();
    fs::remove_file(&pack).unwrap();
    drop(store);
    let store = forgetful(directory.path());
    let scrubbed = scrub(&store);
    assert!(scrubbed.damages.len() >= 4, "{scrubbed:?}");
    assert_eq!(scrubbed.affected(), [id].into());
    store.verify(other).unwrap();
}

#[test]
fn a_commit_does_not_go_on_from_what_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let store = forgetful(directory.path());
    let work = PartialId::of(b"work");
    let stop = StopAt(AtomicU64::new(20 * CHUNK_BYTES));
    store.commit_resumable(&disk(1..61), None, work, &stop).unwrap_err();
    flip(&packs(directory.path())[0], 16 + 99);
    let scrubbed = scrub(&store);
    assert_eq!((scrubbed.places_damaged, scrubbed.partials), (1, 1));
    let id = store.commit_resumable(&disk(1..61), None, work, &()).unwrap().manifest;
    store.verify(id).unwrap();
}

/// Cancels from so many bytes on.
struct StopAt(AtomicU64);

impl Progress for StopAt {
    fn advance(&self, done_bytes: u64, _total_bytes: u64) {
        if done_bytes >= self.0.load(Ordering::Relaxed) {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[test]
fn ends_when_it_is_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    commit(&store, 1..200);
    for stop_at in [0, 1 << 20, 5 << 20] {
        let stop = StopAt(AtomicU64::new(stop_at));
        let error = store.scrub(&ScrubOptions::default(), &stop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    assert!(scrub(&store).is_whole());
}

#[test]
fn repairs_from_memory() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let id = commit(&store, 1..9);
    let bytes = read_all(&store, id);
    flip(&packs(directory.path())[0], 16 + 4 * STEP + 99);
    let scrubbed = scrub(&store);
    assert!(scrubbed.is_whole());
    assert_eq!(scrubbed.damages.len(), 1);
    assert_eq!(scrubbed.damages[0].repaired, Some(Origin::Memory));
    assert_eq!(scrubbed.damages[0].affected, [affected(id, 4..5)]);
    drop(store);
    let store = forgetful(directory.path());
    store.verify(id).unwrap();
    assert!(read_all(&store, id) == bytes);
    // What was damaged is not needed any more: the next collection takes the rest out of that pack.
    let damaged = packs(directory.path())[0].clone();
    assert_eq!(store.collect(&[id].into()).unwrap().packs_rewritten, 1);
    assert!(!damaged.exists());
    let scrubbed = scrub(&store);
    assert_eq!((scrubbed.packs_damaged, scrubbed.is_whole()), (0, true));
    store.verify(id).unwrap();
}

#[test]
fn repairs_from_another_pack() {
    let directory = tempfile::tempdir().unwrap();
    let store = forgetful(directory.path());
    let id = commit(&store, 1..4);
    // The same chunks in two packs, as after two commits at once: what is damaged is stored again,
    // and then the damage is undone.
    let first = packs(directory.path())[0].clone();
    let at = 16 + STEP + 99;
    flip(&first, at);
    assert!(!scrub(&store).is_whole());
    commit(&store, 1..4);
    flip(&first, at);
    assert!(scrub(&store).is_whole());
    let second = packs(directory.path())[1].clone();
    flip(&second, 16 + 99);
    let scrubbed = scrub(&store);
    assert!(scrubbed.is_whole());
    assert_eq!(scrubbed.damages[0].repaired, Some(Origin::OtherPack));
    assert_eq!(scrubbed.damages[0].affected, [affected(id, 1..2)]);
    store.verify(id).unwrap();
    drop(store);
    open(directory.path()).verify(id).unwrap();
}

#[test]
fn repairs_from_a_pack_that_was_deleted_while_it_was_open() {
    let directory = tempfile::tempdir().unwrap();
    let store = forgetful(directory.path());
    let id = commit(&store, 1..4);
    store.verify(id).unwrap();
    fs::remove_file(&packs(directory.path())[0]).unwrap();
    let scrubbed = scrub(&store);
    assert_eq!((scrubbed.packs_missing, scrubbed.damages.len()), (1, 3));
    assert!(scrubbed.is_whole());
    store.collect(&[id].into()).unwrap();
    assert_eq!(scrub(&store).packs_missing, 0);
    drop(store);
    open(directory.path()).verify(id).unwrap();
}

#[test]
fn repairs_from_the_local_cache_of_a_remote_store() {
    let (remote, local) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = calotype_store::Options { cache_bytes: 0, ..small() };
    let backend = Box::new(Local::open(remote.path()).unwrap());
    let store = Store::open_on(backend, local.path(), &options).unwrap();
    let id = commit(&store, 1..4);
    store.verify(id).unwrap();
    let bytes = read_all(&store, id);
    flip(&packs(remote.path())[0], 16 + STEP + 99);
    // Nobody notices, as long as it is read from the cache.
    assert!(read_all(&store, id) == bytes);
    let scrubbed = scrub(&store);
    assert!(scrubbed.is_whole());
    assert_eq!(scrubbed.damages.len(), 1);
    assert_eq!(scrubbed.damages[0].repaired, Some(Origin::Cache));
    drop(store);
    // What is stored is whole again, without any cache.
    let again = tempfile::tempdir().unwrap();
    let backend = Box::new(Local::open(remote.path()).unwrap());
    let store = Store::open_on(backend, again.path(), &options).unwrap();
    assert!(read_all(&store, id) == bytes);
}

fn copy_of(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for folder in ["packs", "manifests"] {
        fs::create_dir(copy.path().join(folder)).unwrap();
        for entry in fs::read_dir(directory.join(folder)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(folder).join(entry.file_name())).unwrap();
        }
    }
    fs::copy(directory.join("format"), copy.path().join("format")).unwrap();
    copy
}

#[test]
fn repairs_everything_from_a_copy_of_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = forgetful(directory.path());
    let bytes: Vec<_> = (1..=300).flat_map(|seed| noise(seed, CHUNK)).collect();
    let id = store.commit(&MemoryDisk::full_of(bytes.clone()), None, &()).unwrap().manifest;
    let backup = copy_of(directory.path());
    // All chunks and nodes, and the root.
    for pack in packs(directory.path()) {
        fs::write(pack, noise(7, 100_000)).unwrap();
    }
    flip(&directory.path().join(format!("manifests/{id}")), 77);
    let copy = StoreCopy::open(backup.path()).unwrap();
    let options = ScrubOptions { also: &[&copy], ..ScrubOptions::default() };
    let scrubbed = store.scrub(&options, &()).unwrap();
    assert!(scrubbed.is_whole(), "{scrubbed:?}");
    assert_eq!(scrubbed.manifests_damaged, BTreeMap::from([(id, true)]));
    assert_eq!(scrubbed.damages.len(), 302);
    let elsewhere = |damage: &calotype_store::Damage| damage.repaired == Some(Origin::Elsewhere);
    assert!(scrubbed.damages.iter().all(elsewhere));
    store.verify(id).unwrap();
    assert!(read_all(&store, id) == bytes);
    drop(store);
    let store = forgetful(directory.path());
    assert!(scrub(&store).is_whole());
    store.collect(&[id].into()).unwrap();
    store.verify(id).unwrap();
    assert_eq!(scrub(&store).packs_damaged, 0);
    // Nothing in the copy was touched.
    assert!(!backup.path().join("lock").exists());
    assert_eq!(
        StoreCopy::open(directory.path().join("packs").as_path()).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// Has copies, of other bytes.
struct Liar;

impl ChunkSource for Liar {
    fn copies(&self, wanted: &BTreeMap<ChunkId, usize>, take: &mut TakeCopy<'_>) -> Result<()> {
        for (&id, &length) in wanted {
            take(id, &noise(1234, length))?;
            take(id, &[])?;
        }
        Ok(())
    }

    fn manifest(&self, _id: ManifestId) -> Option<Vec<u8>> {
        Some(noise(1, 8224))
    }
}

#[test]
fn believes_no_copy_that_is_another_chunk() {
    let directory = tempfile::tempdir().unwrap();
    let store = forgetful(directory.path());
    let id = commit(&store, 1..9);
    let other = commit(&store, 30..31);
    flip(&packs(directory.path())[0], 16 + 99);
    flip(&directory.path().join(format!("manifests/{other}")), 77);
    let count = packs(directory.path()).len();
    let options = ScrubOptions { also: &[&Liar], ..ScrubOptions::default() };
    let scrubbed = store.scrub(&options, &()).unwrap();
    assert_eq!(scrubbed.damages.len(), 1);
    assert_eq!(scrubbed.damages[0].repaired, None);
    assert_eq!(scrubbed.manifests_damaged, BTreeMap::from([(other, false)]));
    assert_eq!(packs(directory.path()).len(), count);
    assert_eq!(store.verify(id).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn damage_that_nobody_needs_is_no_loss() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    commit(&store, 1..9);
    let kept = commit(&store, 3..9);
    store.collect(&[kept].into()).unwrap();
    flip(&packs(directory.path())[0], 16 + 99);
    let scrubbed = scrub(&store);
    assert_eq!((scrubbed.places_damaged, scrubbed.damages.len()), (1, 0));
    assert!(scrubbed.is_whole());
    // Nor is it used by a commit that brings the same.
    let again = commit(&store, 1..9);
    store.verify(again).unwrap();
}

#[test]
fn goes_on_beside_commits_and_collections() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let kept = commit(&store, 1..100);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let scrubber = scope.spawn(|| {
            let mut scrubs = 0;
            while !stop.load(Ordering::Relaxed) || scrubs < 3 {
                let scrubbed = scrub(&store);
                assert!(scrubbed.is_whole(), "{scrubbed:?}");
                assert_eq!((scrubbed.places_damaged, scrubbed.packs_damaged), (0, 0));
                scrubs += 1;
            }
        });
        let busy = scope.spawn(|| {
            for round in 0..30 {
                let roots = BTreeSet::from([kept]);
                // Shares every second chunk with what is kept, and leaves sparse packs behind.
                let seeds = (1..60).flat_map(|n| [n, 1000 + round * 50 + n]);
                drop(store.commit(&disk(seeds), None, &()).unwrap());
                store.collect(&roots).unwrap();
            }
        });
        let failed = busy.join().is_err();
        stop.store(true, Ordering::Relaxed);
        scrubber.join().unwrap();
        assert!(!failed);
    });
    store.verify(kept).unwrap();
}

#[test]
fn a_pack_that_is_cut_short_while_it_is_open_harms_no_collection() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    commit(&store, 1..20);
    let few = commit(&store, [1, 2, 19]);
    let other = commit(&store, 50..52);
    let pack = packs(directory.path())[0].clone();
    let file = fs::OpenOptions::new().write(true).open(&pack).unwrap();
    file.set_len(16 + 5 * STEP).unwrap();
    let scrubbed = scrub(&store);
    assert_eq!((scrubbed.packs_damaged, scrubbed.affected().contains(&few)), (1, true));
    assert!(!scrubbed.affected().contains(&other));
    // Little of it is needed, so it would be moved.
    store.collect(&[few, other].into()).unwrap();
    assert!(pack.exists());
    store.verify(other).unwrap();
    assert_eq!(store.verify(few).unwrap_err().kind(), ErrorKind::Corrupt);
}
