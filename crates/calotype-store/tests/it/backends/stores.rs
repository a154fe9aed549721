//! Whole stores whose files are far away: nothing acknowledged is lost, whatever is lost here.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use calotype_store::backend::{Backend, Cached, Folder, Key, Remote, Upload};
use calotype_store::{Error, ErrorKind, Location, ManifestId, Options, S3Location, Store};

use super::flaky::{Faults, Flaky};
use super::servers::{SeaweedFs, Simple};
use crate::support::{self, CHUNK, MemoryDisk, noise, read_all};

fn disk(seed: u64, chunks: usize) -> MemoryDisk {
    MemoryDisk::full_of(noise(seed, chunks * CHUNK))
}

fn commit(store: &Store, disk: &MemoryDisk) -> calotype_store::Result<ManifestId> {
    store.commit(disk, None, &()).map(|committed| committed.manifest)
}

fn open(location: &S3Location, state: &Path) -> calotype_store::Result<Store> {
    Store::open_at(&Location::S3(location.clone()), state, &support::small())
}

/// Everything that a store is there for, on a server.
fn a_whole_life(location: &S3Location) {
    let state = tempfile::tempdir().unwrap();
    let store = open(location, state.path()).unwrap();
    let disks: Vec<_> = (0..4).map(|seed| disk(seed, 20 + seed as usize)).collect();
    let ids: Vec<_> = disks.iter().map(|disk| commit(&store, disk).unwrap()).collect();
    for (disk, &id) in disks.iter().zip(&ids) {
        assert!(read_all(&store, id) == disk.bytes);
        store.verify(id).unwrap();
    }
    let kept = BTreeSet::from([ids[1], ids[3]]);
    let collected = store.collect(&kept).unwrap();
    assert_eq!(collected.manifests_removed, 2);
    assert!(collected.packs_deleted > 0);
    let usage = store.usage();

    // With the state that it left, and with none.
    drop(store);
    let lost = tempfile::tempdir().unwrap();
    for state in [state.path(), lost.path()] {
        let store = open(location, state).unwrap();
        assert_eq!(store.manifests(), kept);
        assert_eq!(store.usage(), usage);
        for index in [1, 3] {
            assert!(read_all(&store, ids[index]) == disks[index].bytes);
        }
        assert_eq!(store.size_bytes(ids[0]).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn a_store_lives_on_an_s3_server_in_process() {
    a_whole_life(&Simple::start().location("life"));
}

#[test]
fn a_store_lives_on_seaweedfs() {
    a_whole_life(&SeaweedFs::start().location("life"));
}

#[test]
fn a_store_is_open_once_even_from_two_state_directories() {
    let server = Simple::start();
    let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let location = server.location("once");
    let store = open(&location, state.path()).unwrap();
    assert_eq!(open(&location, state.path()).unwrap_err().kind(), ErrorKind::Locked);
    assert_eq!(open(&location, other.path()).unwrap_err().kind(), ErrorKind::Locked);
    let id = commit(&store, &disk(1, 3)).unwrap();
    drop(store);
    assert!(open(&location, other.path()).unwrap().contains(id));

    // The same for a local store with its state elsewhere.
    let local = Location::Directory(tempfile::tempdir().unwrap().path().to_owned());
    let open = |state: &Path| Store::open_at(&local, state, &support::small());
    let store = open(state.path()).unwrap();
    assert_eq!(open(other.path()).unwrap_err().kind(), ErrorKind::Locked);
    drop(store);
    open(other.path()).unwrap();
}

/// A server that stands still at one moment, as far as a store can tell that was killed there: all of
/// its objects, without what was only on its way.
#[test]
fn a_crash_between_the_packs_and_the_manifest_leaves_nothing_but_room() {
    let objects = Flaky::new(3, Faults::default());
    let state = tempfile::tempdir().unwrap();
    let open = |state: &Path| {
        let backend = Remote::open(objects.clone(), "p", "memory").unwrap();
        Store::open_on(Box::new(NoManifests(backend)), state, &support::small()).unwrap()
    };
    let store = open(state.path());
    let error = commit(&store, &disk(1, 30)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    // Killed: nothing is closed. Its state directory is lost with its lock.
    std::mem::forget(store);
    let state = tempfile::tempdir().unwrap();
    let backend = Remote::open(objects.clone(), "p", "memory").unwrap();
    let store = Store::open_on(Box::new(backend), state.path(), &support::small()).unwrap();
    assert_eq!(store.manifests(), BTreeSet::new());
    assert!(store.usage().packs > 3);
    // What is there is used by whoever brings the same, and else collected.
    let again = store.commit(&disk(1, 30), None, &()).unwrap();
    assert_eq!(again.chunks_new, 0);
    assert!(read_all(&store, again.manifest) == disk(1, 30).bytes);
    drop(again);
    store.collect(&BTreeSet::new()).unwrap();
    assert_eq!(store.usage().packs, 0);
}

/// The end of a process comes before it publishes a manifest.
struct NoManifests(Remote);

impl Backend for NoManifests {
    fn list(&self, folder: Folder) -> calotype_store::Result<Vec<(Key, u64)>> {
        self.0.list(folder)
    }

    fn create(&self, key: Key) -> calotype_store::Result<Box<dyn calotype_store::backend::Upload>> {
        if let Key::Manifest(_) = key {
            return Err(Error::new(ErrorKind::Io, "killed"));
        }
        self.0.create(key)
    }

    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> calotype_store::Result<()> {
        self.0.read(key, offset, buf)
    }

    fn delete(&self, keys: &[Key]) -> calotype_store::Result<()> {
        self.0.delete(keys)
    }
}

#[test]
fn what_a_failing_server_acknowledged_is_kept() {
    let faults = Faults { before: 20, after: 20, slow: 20, lost: 0 };
    let (mut kept, mut failed) = (0, 0);
    for seed in 0..12 {
        let objects = Flaky::new(seed, Faults::default());
        let state = tempfile::tempdir().unwrap();
        let open = || {
            let backend = Remote::open(objects.clone(), "p", "memory")?;
            Store::open_on(Box::new(backend), state.path(), &support::small())
        };
        let mut acknowledged = Vec::new();
        let mut store = open().unwrap();
        objects.set_faults(faults);
        for step in 0..10 {
            let disk = disk(seed * 100 + step, 8);
            match commit(&store, &disk) {
                Ok(id) => acknowledged.push((id, disk)),
                Err(_) => failed += 1,
            }
            if step % 3 == 2 {
                if acknowledged.len() > 2 {
                    acknowledged.remove(0);
                }
                let roots = acknowledged.iter().map(|(id, _)| *id).collect();
                // Whether it ends or not.
                failed += u32::from(store.collect(&roots).is_err());
            }
            if step % 4 == 3 {
                drop(store);
                store = (0..100).find_map(|_| open().ok()).unwrap();
            }
        }
        objects.set_faults(Faults::default());
        drop(store);
        let store = open().unwrap();
        for (id, disk) in &acknowledged {
            assert!(read_all(&store, *id) == disk.bytes, "seed {seed}");
            kept += 1;
        }
        let roots = acknowledged.iter().map(|(id, _)| *id).collect();
        store.collect(&roots).unwrap();
        assert_eq!(store.manifests(), roots);
        assert_eq!(objects.conditional_puts.load(Ordering::SeqCst), 0);
    }
    assert!(kept > 20 && failed > 20, "{kept} {failed}");
}

#[test]
fn listings_that_name_what_is_gone_harm_nothing() {
    let objects = Flaky::new(5, Faults::default());
    let state = tempfile::tempdir().unwrap();
    let open = |state: &Path| {
        let backend = Remote::open(objects.clone(), "p", "memory").unwrap();
        Store::open_on(Box::new(backend), state, &support::small()).unwrap()
    };
    let store = open(state.path());
    let (gone, kept) = (disk(1, 20), disk(2, 20));
    let gone_id = commit(&store, &gone).unwrap();
    let kept_id = commit(&store, &kept).unwrap();
    objects.keep_ghosts.store(true, Ordering::SeqCst);
    store.collect(&BTreeSet::from([kept_id])).unwrap();
    drop(store);

    let lost = tempfile::tempdir().unwrap();
    for state in [state.path(), lost.path()] {
        let store = open(state);
        assert!(read_all(&store, kept_id) == kept.bytes);
        // A disk that only seems to be there fails, and is stored again by whoever brings it.
        assert!(store.disk(gone_id).is_err());
    }
    let store = open(lost.path());
    assert_eq!(commit(&store, &gone).unwrap(), gone_id);
    assert!(read_all(&store, gone_id) == gone.bytes);
    store.collect(&BTreeSet::from([kept_id])).unwrap();
    assert!(read_all(&store, kept_id) == kept.bytes);
}

/// Damages every block in a cache.
fn damage_cache(directory: &Path, damage: impl Fn(&mut Vec<u8>)) -> usize {
    let files: Vec<_> = std::fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
    for file in &files {
        let mut bytes = std::fs::read(file.path()).unwrap();
        damage(&mut bytes);
        std::fs::write(file.path(), bytes).unwrap();
    }
    files.len()
}

#[test]
fn a_damaged_cache_is_repaired_from_the_backend() {
    let server = Simple::start();
    let location = server.location("damage");
    let state = tempfile::tempdir().unwrap();
    let cache = state.path().join("cache");
    // No memory for chunks: all are read from where they are.
    let options = Options { cache_bytes: 0, ..support::small() };
    let open = || Store::open_at(&Location::S3(location.clone()), state.path(), &options).unwrap();
    let image = disk(1, 30);
    let id = commit(&open(), &image).unwrap();
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.fill(0),
        |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x10),
        Vec::clear,
    ];
    for damage in damages {
        // While it is open, and before.
        let store = open();
        assert!(damage_cache(&cache, damage) > 0);
        assert!(read_all(&store, id) == image.bytes);
        damage_cache(&cache, damage);
        drop(store);
        let store = open();
        assert!(read_all(&store, id) == image.bytes);
        // And is right by itself then.
        std::fs::rename(server.file("damage/packs"), server.file("damage/away")).unwrap();
        assert!(read_all(&store, id) == image.bytes);
        std::fs::rename(server.file("damage/away"), server.file("damage/packs")).unwrap();
    }
}

#[test]
fn a_damaged_backend_is_not_hidden_by_what_a_cache_says_afterwards() {
    let server = Simple::start();
    let location = server.location("damage");
    let state = tempfile::tempdir().unwrap();
    let options = Options { cache_bytes: 0, ..support::small() };
    let open = || Store::open_at(&Location::S3(location.clone()), state.path(), &options).unwrap();
    let image = disk(1, 3);
    let store = open();
    let id = commit(&store, &image).unwrap();
    let packs = server.file("damage/packs");
    for pack in std::fs::read_dir(&packs).unwrap() {
        let path = pack.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1000..2000].fill(0);
        std::fs::write(path, bytes).unwrap();
    }
    // The cache has it still.
    assert!(read_all(&store, id) == image.bytes);
    damage_cache(&state.path().join("cache"), Vec::clear);
    let mut chunk = vec![0; CHUNK];
    let disk = store.disk(id).unwrap();
    assert!(calotype_disk::Disk::read_at(disk.as_ref(), 0, &mut chunk).is_err());
    assert!(calotype_disk::Disk::read_at(disk.as_ref(), 2 * CHUNK as u64, &mut chunk).is_ok());
}

/// Counts what is read from it.
struct Counted {
    below: Remote,
    reads: Arc<std::sync::atomic::AtomicU64>,
}

impl Backend for Counted {
    fn list(&self, folder: Folder) -> calotype_store::Result<Vec<(Key, u64)>> {
        self.below.list(folder)
    }

    fn create(&self, key: Key) -> calotype_store::Result<Box<dyn Upload>> {
        self.below.create(key)
    }

    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> calotype_store::Result<()> {
        if let Key::Pack(_) = key {
            self.reads.fetch_add(buf.len() as u64, Ordering::SeqCst);
        }
        self.below.read(key, offset, buf)
    }

    fn delete(&self, keys: &[Key]) -> calotype_store::Result<()> {
        self.below.delete(keys)
    }
}

#[test]
fn eight_readers_fetch_a_block_once_and_a_restart_fetches_nothing() {
    let server = Simple::start();
    let location = server.location("once");
    let reads = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let cache = tempfile::tempdir().unwrap();
    let open = || {
        let below = Counted { below: Remote::open_s3(&location).unwrap(), reads: reads.clone() };
        let cached = Cached::open(Box::new(below), cache.path(), 1 << 30).unwrap();
        cached.list(Folder::Packs).unwrap();
        cached
    };
    let key = Key::Pack(calotype_store::PackId::fresh());
    let bytes = noise(1, (5 << 20) + 123);
    let backend = Remote::open_s3(&location).unwrap();
    let mut upload = backend.create(key).unwrap();
    upload.append(&bytes).unwrap();
    upload.finish().unwrap();

    let backend = open();
    let read_by_eight = |backend: &Cached| {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for begin in (0..bytes.len()).step_by(100_000) {
                        let mut buf = vec![0; 70_000.min(bytes.len() - begin)];
                        backend.read(key, begin as u64, &mut buf).unwrap();
                        assert!(buf == bytes[begin..begin + buf.len()]);
                    }
                });
            }
        });
    };
    read_by_eight(&backend);
    assert_eq!(reads.load(Ordering::SeqCst), bytes.len() as u64);
    drop(backend);
    read_by_eight(&open());
    assert_eq!(reads.load(Ordering::SeqCst), bytes.len() as u64);
}

#[test]
fn what_is_written_is_in_the_cache_already() {
    let server = Simple::start();
    let location = server.location("through");
    let state = tempfile::tempdir().unwrap();
    let options = Options { cache_bytes: 0, ..support::small() };
    let store = Store::open_at(&Location::S3(location), state.path(), &options).unwrap();
    let image = disk(1, 40);
    let id = commit(&store, &image).unwrap();
    std::fs::rename(server.file("through/packs"), server.file("through/away")).unwrap();
    assert!(read_all(&store, id) == image.bytes);
}
