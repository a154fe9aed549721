//! Commits that were interrupted, and go on.

use std::sync::atomic::{AtomicBool, Ordering};

use calotype_store::{ErrorKind, ManifestId, PartialId, Progress};

use crate::support::{CHUNK, MemoryDisk, noise, open, read_all};

/// Cancels when so many bytes are done.
struct StopAt {
    done_bytes: u64,
    stop: AtomicBool,
}

impl StopAt {
    fn new(done_bytes: u64) -> Self {
        Self { done_bytes, stop: AtomicBool::new(false) }
    }
}

impl Progress for StopAt {
    fn advance(&self, done_bytes: u64, _total_bytes: u64) {
        self.stop.fetch_or(done_bytes >= self.done_bytes, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A disk that fills two nodes, with holes and repetition.
fn some_disk() -> MemoryDisk {
    let mut bytes = noise(1, 300 * CHUNK);
    bytes[20 * CHUNK..40 * CHUNK].fill(0);
    bytes[50 * CHUNK..60 * CHUNK].fill(7);
    MemoryDisk::full_of(bytes)
}

const WORK: &[u8] = b"image 1";

#[test]
fn an_interrupted_commit_goes_on_where_it_was() {
    let disk = some_disk();
    let total = disk.bytes.len() as u64;
    for reopened in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let work = PartialId::of(WORK);
        let mut store = open(directory.path());
        let stop = StopAt::new(total * 3 / 4);
        let error = store.commit_resumable(&disk, None, work, &stop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(store.manifests().len(), 0);
        // What it has is not collected.
        store.collect(&[].into()).unwrap();
        if reopened {
            drop(store);
            store = open(directory.path());
            store.collect(&[].into()).unwrap();
        }
        let committed = store.commit_resumable(&disk, None, work, &()).unwrap();
        assert!(committed.bytes_read < total * 2 / 3, "{}", committed.bytes_read);
        store.verify(committed.manifest).unwrap();
        assert!(read_all(&store, committed.manifest) == disk.bytes);
        assert_eq!(std::fs::read_dir(directory.path().join("partials")).unwrap().count(), 0);
        let flat = store.commit(&disk, None, &()).unwrap();
        assert_eq!((flat.manifest, flat.chunks_new), (committed.manifest, 0));
    }
}

#[test]
fn an_interrupted_commit_over_a_base_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let base = store.commit(&some_disk(), None, &()).unwrap();
    let mut layer = MemoryDisk::empty_layer(310 * CHUNK);
    layer.write(10 * CHUNK, &noise(5, 150 * CHUNK));
    layer.write(290 * CHUNK, &noise(6, 5 * CHUNK));
    let work = PartialId::of(WORK);
    let stop = StopAt::new(100 * CHUNK as u64);
    store.commit_resumable(&layer, Some(base.manifest), work, &stop).unwrap_err();
    let committed = store.commit_resumable(&layer, Some(base.manifest), work, &()).unwrap();
    assert!(committed.bytes_read < 100 * CHUNK as u64, "{}", committed.bytes_read);
    store.verify(committed.manifest).unwrap();
    assert!(read_all(&store, committed.manifest) == layer.over(&some_disk().bytes));
}

#[test]
fn what_was_begun_for_other_work_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let work = PartialId::of(WORK);
    let stop = StopAt::new(200 * CHUNK as u64);
    store.commit_resumable(&some_disk(), None, work, &stop).unwrap_err();
    // Another size, or another base, cannot be the same work.
    let other = MemoryDisk::full_of(noise(9, 100 * CHUNK));
    let committed = store.commit_resumable(&other, None, work, &()).unwrap();
    assert_eq!(committed.bytes_read, 100 * CHUNK as u64);
    assert!(read_all(&store, committed.manifest) == other.bytes);
}

#[test]
fn what_nobody_goes_on_with_can_be_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let work = PartialId::of(WORK);
    let stop = StopAt::new(200 * CHUNK as u64);
    store.commit_resumable(&some_disk(), None, work, &stop).unwrap_err();
    store.collect(&[].into()).unwrap();
    assert!(store.usage().chunks > 0);
    store.forget_partial(work).unwrap();
    store.collect(&[].into()).unwrap();
    assert_eq!(store.usage().chunks, 0);
}

#[test]
fn a_damaged_partial_is_as_good_as_none() {
    let disk = some_disk();
    for damage in [0, 20, 40, 90, 200] {
        let directory = tempfile::tempdir().unwrap();
        let work = PartialId::of(WORK);
        let store = open(directory.path());
        let stop = StopAt::new(200 * CHUNK as u64);
        store.commit_resumable(&disk, None, work, &stop).unwrap_err();
        let path = directory.path().join(format!("partials/{work}"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[damage] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        store.collect(&[].into()).unwrap();
        let committed = store.commit_resumable(&disk, None, work, &()).unwrap();
        let id: ManifestId = committed.manifest;
        assert_eq!(committed.bytes_read, disk.bytes.len() as u64);
        store.verify(id).unwrap();
    }
}
