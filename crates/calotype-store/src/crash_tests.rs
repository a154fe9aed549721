//! The store beside a failing file system: killed before any step, or out of room at any.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use calotype_disk::Disk;
use calotype_disk::raw::Raw;

use crate::backend::Local;
use crate::backend::files::{Files, RealFiles, Space, StoreFile};
use crate::index::IndexFile;
use crate::limits::CHUNK_BYTES;
use crate::{ErrorKind, ManifestId, Options, Result, Store};

/// Small packs: a commit of some chunks passes every step several times.
fn options() -> Options {
    Options { pack_bytes: 4 * CHUNK_BYTES as u64, ..Options::default() }
}

/// A change of the file system, in the order in which an upload passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Append,
    SyncFile,
    Rename,
    SyncFolder,
    Remove,
    /// Any change of the index.
    Index,
}

type Hook = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// The real file system, with a hook asked before every change.
struct Hooked(Hook);

struct HookedFile {
    file: Arc<dyn StoreFile>,
    hook: Hook,
    is_index: bool,
}

impl Hooked {
    fn wrap(&self, file: Arc<dyn StoreFile>, path: &Path) -> Arc<dyn StoreFile> {
        Arc::new(HookedFile { file, hook: self.0.clone(), is_index: path.ends_with("index") })
    }
}

impl Files for Hooked {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        RealFiles.create_folder(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        self.0(Step::Create)?;
        Ok(self.wrap(RealFiles.create(path)?, path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        RealFiles.open(path)
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        Ok(self.wrap(RealFiles.open_or_create(path)?, path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        RealFiles.list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0(Step::Rename)?;
        RealFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0(Step::Remove)?;
        RealFiles.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.0(Step::SyncFolder)?;
        RealFiles.sync_folder(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealFiles.space(path)
    }
}

impl HookedFile {
    fn before(&self, step: Step) -> io::Result<()> {
        (self.hook)(if self.is_index { Step::Index } else { step })
    }
}

impl StoreFile for HookedFile {
    fn length_bytes(&self) -> io::Result<u64> {
        self.file.length_bytes()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.before(Step::Append)?;
        self.file.write_all_at(bytes, offset)
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.before(Step::Append)?;
        self.file.set_length(length_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.before(Step::SyncFile)?;
        self.file.sync()
    }
}

fn try_open_with(
    directory: &Path,
    hook: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static,
) -> Result<Store> {
    let files: Arc<dyn Files> = Arc::new(Hooked(Arc::new(hook)));
    let backend = Local::open_on(files.clone(), directory)?;
    let path: PathBuf = directory.join("index");
    Store::over(Box::new(backend), &IndexFile { files, path }, &options(), Box::new(()))
}

fn open_with(
    directory: &Path,
    hook: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static,
) -> Store {
    try_open_with(directory, hook).unwrap()
}

/// A store that is killed before its step number `step`: from then on nothing happens any more.
fn open_killed_before(directory: &Path, step: usize) -> (Store, Arc<AtomicUsize>) {
    let steps = Arc::new(AtomicUsize::new(0));
    let counter = steps.clone();
    let opened = Arc::new(AtomicBool::new(false));
    let counting = opened.clone();
    let store = open_with(directory, move |_| {
        if !counting.load(Ordering::Relaxed) || counter.fetch_add(1, Ordering::Relaxed) < step {
            Ok(())
        } else {
            Err(io::Error::other("killed"))
        }
    });
    opened.store(true, Ordering::Relaxed);
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
        let used = steps.load(Ordering::Relaxed);
        drop(store);
        let store = check(directory.path(), &acknowledged);
        if let Ok(collected) = collected {
            assert!(used <= step);
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
