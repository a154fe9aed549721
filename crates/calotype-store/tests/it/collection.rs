//! Collection beside commits and readers.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use calotype_disk::Disk;
use calotype_store::{Committed, ErrorKind, ManifestId, Progress, Store};

use crate::support::{CHUNK, MemoryDisk, noise, open, read_all};

fn disk(seeds: impl Iterator<Item = u64>) -> MemoryDisk {
    MemoryDisk::full_of(seeds.flat_map(|seed| noise(seed, CHUNK)).collect())
}

fn commit(store: &Store, seeds: std::ops::Range<u64>) -> Committed {
    store.commit(&disk(seeds), None, &()).unwrap()
}

#[test]
fn what_is_committed_or_open_is_not_collected() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let committed = commit(&store, 0..10);
    let id = committed.manifest;
    assert_eq!(store.collect(&[].into()).unwrap().manifests_removed, 0);

    let disk = store.disk(id).unwrap();
    drop(committed);
    assert_eq!(store.collect(&[].into()).unwrap().manifests_removed, 0);
    let mut chunk = vec![0; CHUNK];
    disk.read_at(9 * CHUNK as u64, &mut chunk).unwrap();

    drop(disk);
    let collected = store.collect(&[].into()).unwrap();
    assert_eq!((collected.manifests_removed, collected.chunks_removed), (1, 10));
    assert_eq!(store.disk(id).err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(store.usage(), calotype_store::Usage::default());
    for folder in ["packs", "manifests", "tmp"] {
        assert_eq!(std::fs::read_dir(directory.path().join(folder)).unwrap().count(), 0);
    }
}

#[test]
fn what_was_recorded_after_the_roots_were_read_is_not_collected() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let collection = store.begin_collection();
    let roots = BTreeSet::new();
    // Committed, recorded somewhere and dropped, all after the roots were read.
    let id = commit(&store, 0..3).manifest;
    assert_eq!(collection.run(&roots).unwrap().manifests_removed, 0);
    store.verify(id).unwrap();
    assert_eq!(store.collect(&roots).unwrap().manifests_removed, 1);
}

#[test]
fn what_was_kept_while_it_was_moved_between_records_is_not_collected() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = commit(&store, 0..3).manifest;
    let collection = store.begin_collection();
    // The roots are read meanwhile, and it is found neither where it was nor where it comes.
    drop(store.keep(id).unwrap());
    assert_eq!(collection.run(&[].into()).unwrap().manifests_removed, 0);
    store.verify(id).unwrap();
    assert_eq!(store.collect(&[].into()).unwrap().manifests_removed, 1);
    assert_eq!(store.keep(id).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_pack_with_little_left_is_moved() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let all = commit(&store, 0..40).manifest;
    let few = commit(&store, 5..9);
    assert_eq!(few.chunks_new, 0);
    let before = store.usage().stored_bytes;
    let collected = store.collect(&[few.manifest].into()).unwrap();
    assert_eq!(collected.manifests_removed, 1);
    assert_eq!(collected.chunks_removed, 36);
    assert!(collected.packs_rewritten >= 1);
    let after = store.usage().stored_bytes;
    assert!(after < before / 5, "{before} -> {after}");
    assert!(!store.contains(all));
    store.verify(few.manifest).unwrap();
    let id = few.manifest;
    drop((store, few));
    let store = open(directory.path());
    assert_eq!(store.usage().stored_bytes, after);
    assert!(read_all(&store, id) == disk(5..9).bytes);
}

#[test]
fn many_small_packs_become_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let ids: BTreeSet<_> = (0..20).map(|n| commit(&store, n..n + 1).manifest).collect();
    assert_eq!(store.usage().packs, 20);
    let collected = store.collect(&ids).unwrap();
    assert_eq!((collected.chunks_removed, collected.packs_rewritten), (0, 20));
    assert!(store.usage().packs <= 3, "{:?}", store.usage());
    for id in ids {
        store.verify(id).unwrap();
    }
}

#[test]
fn a_pack_with_a_damaged_chunk_is_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let _all = commit(&store, 0..40).manifest;
    let few = commit(&store, 5..9);
    let packs = std::fs::read_dir(directory.path().join("packs")).unwrap();
    let pack = packs.map(|entry| entry.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    // Chunk 6 lies behind the header and six entries of noise, which is stored as it is.
    bytes[16 + 6 * (64 + CHUNK) + 64 + 100] ^= 1;
    std::fs::write(&pack, bytes).unwrap();

    store.collect(&[few.manifest].into()).unwrap();
    assert!(pack.exists());
    let error = store.verify(few.manifest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("has 1 chunks"), "{error}");
}

/// Runs `action` once, in the middle of a commit.
struct Midway<'a> {
    action: &'a (dyn Fn() + Sync),
    done: AtomicBool,
}

impl Progress for Midway<'_> {
    fn advance(&self, done_bytes: u64, total_bytes: u64) {
        if done_bytes * 2 > total_bytes && !self.done.swap(true, Ordering::Relaxed) {
            (self.action)();
        }
    }
}

#[test]
fn what_a_running_commit_found_is_not_collected() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    // In the store, but nothing needs it any more.
    let old = commit(&store, 0..60).manifest;
    let collected = Mutex::new(Vec::new());
    let action = || collected.lock().unwrap().push(store.collect(&[].into()).unwrap());
    let progress = Midway { action: &action, done: AtomicBool::new(false) };
    // Finds the first 60 chunks, and goes on long enough for a collection in between.
    let new = store.commit(&disk(0..150), None, &progress).unwrap();
    let collected = collected.into_inner().unwrap();
    assert_eq!((collected.len(), collected[0].manifests_removed), (1, 1));
    assert!(!store.contains(old));
    store.verify(new.manifest).unwrap();
    assert!(read_all(&store, new.manifest) == disk(0..150).bytes);
}

#[test]
fn the_base_of_a_running_commit_is_not_collected() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let base = commit(&store, 0..200).manifest;
    let action = || assert_eq!(store.collect(&[].into()).unwrap().manifests_removed, 0);
    let progress = Midway { action: &action, done: AtomicBool::new(false) };
    let mut layer = MemoryDisk::empty_layer(200 * CHUNK);
    layer.write(40 * CHUNK, &noise(1000, 100 * CHUNK));
    let new = store.commit(&layer, Some(base), &progress).unwrap();
    assert!(progress.done.into_inner());
    store.verify(new.manifest).unwrap();
    assert!(read_all(&store, new.manifest) == layer.over(&disk(0..200).bytes));
}

#[test]
fn commits_collections_and_readers_run_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    // What a catalog would hold.
    let catalog: Mutex<BTreeSet<ManifestId>> = Mutex::default();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut collections = 0;
            while !stop.load(Ordering::Relaxed) || collections < 3 {
                let collection = store.begin_collection();
                let roots = catalog.lock().unwrap().clone();
                collection.run(&roots).unwrap();
                collections += 1;
            }
        });
        let writers: Vec<_> = (0..3_u64)
            .map(|writer| {
                let (store, catalog) = (&store, &catalog);
                scope.spawn(move || {
                    let mut base: Option<ManifestId> = None;
                    let mut seen = disk(0..12).bytes;
                    for round in 0..12_u64 {
                        let committed = match base {
                            // Every writer begins with the same disk, and others forget it.
                            None => store.commit(&disk(0..12), None, &()).unwrap(),
                            Some(base) => {
                                let mut layer = MemoryDisk::empty_layer(12 * CHUNK);
                                let fresh = noise(100 + writer * 7 + round / 2, CHUNK);
                                layer.write((round as usize % 12) * CHUNK, &fresh);
                                seen = layer.over(&seen);
                                store.commit(&layer, Some(base), &()).unwrap()
                            }
                        };
                        let id = committed.manifest;
                        catalog.lock().unwrap().insert(id);
                        drop(committed);
                        assert!(read_all(store, id) == seen);
                        if let Some(old) = base.replace(id) {
                            // Another writer may need the common first one.
                            if round > 1 && old != id {
                                catalog.lock().unwrap().remove(&old);
                            }
                        }
                    }
                    store.verify(base.unwrap()).unwrap();
                })
            })
            .collect();
        let failed = writers.into_iter().map(thread::ScopedJoinHandle::join).any(|w| w.is_err());
        stop.store(true, Ordering::Relaxed);
        collector.join().unwrap();
        assert!(!failed);
    });
    let roots = catalog.into_inner().unwrap();
    store.collect(&roots).unwrap();
    assert_eq!(store.manifests(), roots);
    for id in roots {
        store.verify(id).unwrap();
    }
}
