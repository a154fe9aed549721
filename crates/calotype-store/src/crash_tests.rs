//! The store beside a failing file system: killed before any step, or out of room at any.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use calotype_disk::Disk;
use calotype_disk::raw::Raw;

use crate::backend::{Faults, Local, Step};
use crate::limits::CHUNK_BYTES;
use crate::{ErrorKind, ManifestId, Options, Result, Store};

/// Small packs: a commit of some chunks passes every step several times.
fn options() -> Options {
    Options { pack_bytes: 4 * CHUNK_BYTES as u64, ..Options::default() }
}

fn open_with(
    directory: &Path,
    hook: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static,
) -> Store {
    let faults = Faults { hook: Some(Arc::new(hook)) };
    Store::over(Box::new(Local::open(directory, faults).unwrap()), &options()).unwrap()
}

/// A store that is killed before its step number `step`: from then on nothing happens any more.
fn open_killed_before(directory: &Path, step: usize) -> (Store, Arc<AtomicUsize>) {
    let steps = Arc::new(AtomicUsize::new(0));
    let counter = steps.clone();
    let store = open_with(directory, move |_| {
        if counter.fetch_add(1, Ordering::Relaxed) < step {
            Ok(())
        } else {
            Err(io::Error::other("killed"))
        }
    });
    (store, steps)
}

/// Chunks that do not compress, one for each seed.
fn bytes(seeds: std::ops::Range<u32>) -> Vec<u8> {
    let mut bytes = vec![0; seeds.len() * CHUNK_BYTES];
    for (seed, chunk) in seeds.zip(bytes.chunks_exact_mut(CHUNK_BYTES)) {
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(chunk);
    }
    bytes
}

fn commit(store: &Store, seeds: std::ops::Range<u32>) -> Result<crate::Committed> {
    store.commit(&Raw::open(Box::new(bytes(seeds))).unwrap(), None, &())
}

/// Opens the store as the next process does: everything acknowledged is there, everything that is
/// there is whole, and nothing half-written is left.
fn check(directory: &Path, acknowledged: &BTreeMap<ManifestId, Vec<u8>>) -> Store {
    let store = Store::open_with(directory, &options()).unwrap();
    for (id, expected) in acknowledged {
        let mut bytes = vec![0; expected.len()];
        store.disk(*id).unwrap().read_at(0, &mut bytes).unwrap();
        assert!(bytes == *expected);
    }
    for id in store.manifests() {
        store.verify(id).unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.join("tmp")).unwrap().count(), 0);
    store
}

#[test]
fn a_commit_killed_before_any_step_loses_nothing_and_shows_nothing_half() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    {
        let store = check(directory.path(), &acknowledged);
        let first = commit(&store, 0..10).unwrap().manifest;
        acknowledged.insert(first, bytes(0..10));
    }
    let mut killed = 0;
    for step in 0.. {
        let (store, steps) = open_killed_before(directory.path(), step);
        let committed = commit(&store, 5..25);
        let used = steps.load(Ordering::Relaxed);
        match committed {
            Ok(committed) => {
                assert!(used <= step);
                acknowledged.insert(committed.manifest, bytes(5..25));
                drop((store, committed));
                break;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io);
                killed += 1;
            }
        }
        drop(store);
        let store = check(directory.path(), &acknowledged);
        // As if it had never been tried, so that every try passes all steps.
        store.collect(&acknowledged.keys().copied().collect()).unwrap();
        assert_eq!(store.manifests().len(), acknowledged.len());
    }
    check(directory.path(), &acknowledged);
    // Four packs of five chunks each and a manifest, of five steps or more each.
    assert!(killed >= 20, "{killed}");
}

#[test]
fn a_collection_killed_before_any_step_loses_nothing_and_shows_nothing_half() {
    let mut killed = 0;
    for step in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let mut acknowledged = BTreeMap::new();
        let (store, steps) = open_killed_before(directory.path(), usize::MAX);
        // Forgotten, and partly shared with what stays: some packs die, some are moved.
        for seeds in [0..20, 30..33, 2..4] {
            let _forgotten = commit(&store, seeds).unwrap();
        }
        for seeds in [2..3, 17..25] {
            let kept = commit(&store, seeds.clone()).unwrap();
            acknowledged.insert(kept.manifest, bytes(seeds));
        }
        drop((store, steps));
        let (store, steps) = open_killed_before(directory.path(), step);
        let collected = store.collect(&acknowledged.keys().copied().collect());
        drop(store);
        let store = check(directory.path(), &acknowledged);
        if let Ok(collected) = collected {
            assert!(steps.load(Ordering::Relaxed) <= step);
            assert!(collected.packs_deleted > 0 && collected.packs_rewritten > 0);
            assert_eq!(store.manifests().len(), 2);
            break;
        }
        killed += 1;
        // The next collection finishes the work.
        store.collect(&acknowledged.keys().copied().collect()).unwrap();
        drop(store);
        let store = check(directory.path(), &acknowledged);
        assert_eq!(store.manifests().len(), 2);
    }
    assert!(killed >= 10, "{killed}");
}

#[test]
fn a_full_file_system_fails_a_commit_clearly_and_leaves_nothing() {
    for full_at in [Step::Create, Step::Append, Step::SyncFile, Step::Rename] {
        for spared in [0, 1, 3, 4] {
            let directory = tempfile::tempdir().unwrap();
            let full = Arc::new(AtomicUsize::new(usize::MAX));
            let room = full.clone();
            let store = open_with(directory.path(), move |step| {
                if step != full_at {
                    return Ok(());
                }
                match room.load(Ordering::Relaxed) {
                    usize::MAX => Ok(()),
                    0 => Err(io::ErrorKind::StorageFull.into()),
                    left => {
                        room.store(left - 1, Ordering::Relaxed);
                        Ok(())
                    }
                }
            });
            let first = commit(&store, 0..4).unwrap();
            full.store(spared, Ordering::Relaxed);
            let error = commit(&store, 2..22).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{full_at:?} {spared}");
            assert_eq!(store.manifests(), [first.manifest].into());
            assert_eq!(std::fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
            store.verify(first.manifest).unwrap();

            // A collection gives back what the attempt took, without needing room.
            store.collect(&[].into()).unwrap();
            let expected = 4 * CHUNK_BYTES as u64;
            assert!(store.usage().stored_bytes < expected * 11 / 10, "{:?}", store.usage());
            full.store(usize::MAX, Ordering::Relaxed);
            let second = commit(&store, 2..22).unwrap();
            store.verify(second.manifest).unwrap();
        }
    }
}

#[test]
fn a_collection_without_room_frees_what_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicUsize::new(0));
    let is_full = full.clone();
    let store =
        open_with(directory.path(), move |step| match (step, is_full.load(Ordering::Relaxed)) {
            (Step::Create | Step::Append, 1) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        });
    let _forgotten = commit(&store, 0..20).unwrap().manifest;
    let kept = commit(&store, 2..3).unwrap();
    let before = store.usage();
    full.store(1, Ordering::Relaxed);
    let collected = store.collect(&[kept.manifest].into()).unwrap();
    assert_eq!((collected.packs_deleted, collected.packs_rewritten), (before.packs - 1, 0));
    store.verify(kept.manifest).unwrap();
    full.store(0, Ordering::Relaxed);
    assert_eq!(store.collect(&[kept.manifest].into()).unwrap().packs_rewritten, 1);
    store.verify(kept.manifest).unwrap();
}
