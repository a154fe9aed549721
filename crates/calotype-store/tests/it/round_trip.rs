//! What goes in comes out, and costs what it should.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use calotype_disk::{Disk, Error, Extent, ExtentKind, Result};
use calotype_store::{ErrorKind, Progress, Store};

use crate::support::{CHUNK, GRAIN, MemoryDisk, extents, noise, open, read_all};

#[test]
fn a_disk_comes_back_as_it_went_in_also_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = noise(1, 40 * CHUNK + 5000);
    bytes[3 * CHUNK..9 * CHUNK].fill(0);
    bytes[20 * CHUNK..30 * CHUNK].fill(b'x');
    let disk = MemoryDisk::full_of(bytes.clone());

    let store = open(directory.path());
    let committed = store.commit(&disk, None, &()).unwrap();
    assert_eq!(committed.size_bytes, bytes.len() as u64);
    assert_eq!(committed.bytes_read, bytes.len() as u64);
    // 41 chunks, 6 of them zero, 10 the same.
    assert_eq!((committed.chunks_new, committed.chunks_reused), (26, 9));
    assert_eq!(committed.bytes_stored, store.usage().stored_bytes);
    assert!(store.usage().packs > 1);
    let id = committed.manifest;
    drop((store, committed));

    let store = open(directory.path());
    assert!(store.contains(id));
    assert_eq!(store.manifests(), [id].into());
    assert_eq!(store.size_bytes(id).unwrap(), bytes.len() as u64);
    assert!(read_all(&store, id) == bytes);
    let verified = store.verify(id).unwrap();
    assert_eq!(verified.size_bytes, bytes.len() as u64);
    assert_eq!(verified.chunks, store.usage().chunks);
    assert_eq!(verified.stored_bytes, store.stored_bytes(id).unwrap());
    assert_eq!(
        extents(store.disk(id).unwrap().as_ref()),
        [
            (0, 3 * CHUNK as u64, ExtentKind::Data),
            (3 * CHUNK as u64, 6 * CHUNK as u64, ExtentKind::Zero),
            (9 * CHUNK as u64, (31 * CHUNK + 5000) as u64, ExtentKind::Data),
        ]
    );
}

#[test]
fn the_same_disk_is_stored_once_whatever_its_extents() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut bytes = noise(2, 20 * CHUNK);
    bytes[5 * CHUNK..7 * CHUNK].fill(0);
    let full = store.commit(&MemoryDisk::full_of(bytes.clone()), None, &()).unwrap();

    let mut sparse = MemoryDisk::full_of(bytes);
    sparse.kinds[5 * CHUNK / GRAIN..7 * CHUNK / GRAIN].fill(ExtentKind::Zero);
    let again = store.commit(&sparse, None, &()).unwrap();
    assert_eq!(full.manifest, again.manifest);
    assert_eq!((again.bytes_stored, again.chunks_new, again.chunks_reused), (0, 0, 18));
    assert_eq!(again.bytes_read, 18 * CHUNK as u64);
}

#[test]
fn an_empty_disk_and_one_of_holes_cost_a_root() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for size_bytes in [0, 1, 1 << 20, 300 << 20] {
        let disk = MemoryDisk::empty_layer(size_bytes);
        let committed = store.commit(&disk, None, &()).unwrap();
        assert_eq!(committed.bytes_read, 0);
        assert_eq!(committed.bytes_stored, 8224);
        assert!(read_all(&store, committed.manifest) == vec![0; size_bytes]);
    }
    assert_eq!(store.usage().packs, 0);
    assert_eq!(store.usage().manifests, 4);
}

/// A disk of one kind everywhere, except for some grains of noise; counts what is asked of it.
struct HugeDisk {
    size_bytes: u64,
    kind: ExtentKind,
    data: Vec<u64>,
    bytes_read: AtomicU64,
    questions: AtomicU64,
}

impl HugeDisk {
    fn new(size_bytes: u64, kind: ExtentKind, data: Vec<u64>) -> Self {
        let (bytes_read, questions) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { size_bytes, kind, data, bytes_read, questions }
    }
}

impl Disk for HugeDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.bytes_read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        buf.copy_from_slice(&noise(offset / CHUNK as u64, buf.len()));
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let in_data = |start: &&u64| (**start..**start + CHUNK as u64).contains(&offset);
        if let Some(start) = self.data.iter().find(in_data) {
            let length_bytes = start + CHUNK as u64 - offset;
            return Ok(Extent { length_bytes, kind: ExtentKind::Data });
        }
        let next = self.data.iter().find(|start| **start > offset).copied();
        let end = next.unwrap_or(self.size_bytes);
        Ok(Extent { length_bytes: end - offset, kind: self.kind })
    }
}

#[test]
fn a_commit_with_a_base_costs_the_change_whatever_the_size() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for size_bytes in [2 << 30, 20 << 40] {
        let data: Vec<u64> = (0..50).map(|n| n * (size_bytes / 50) / 65_536 * 65_536).collect();
        let base = store.commit(&HugeDisk::new(size_bytes, ExtentKind::Zero, data), None, &());
        let base = base.unwrap();
        let chunks_before = store.usage().chunks;

        let layer = HugeDisk::new(size_bytes, ExtentKind::Parent, vec![7 * CHUNK as u64, 1 << 30]);
        let committed = store.commit(&layer, Some(base.manifest), &()).unwrap();
        assert_eq!(committed.bytes_read, 2 * CHUNK as u64);
        assert_eq!(layer.bytes_read.into_inner(), 2 * CHUNK as u64);
        assert!(layer.questions.into_inner() < 20);
        // Two chunks, and for each the nodes between it and the root.
        assert!(store.usage().chunks - chunks_before <= 2 + 2 * 3);
        let disk = store.disk(committed.manifest).unwrap();
        let mut chunk = vec![0; CHUNK];
        disk.read_at(1 << 30, &mut chunk).unwrap();
        assert!(chunk == noise((1 << 30) / CHUNK as u64, CHUNK));
        disk.read_at(0, &mut chunk).unwrap();
        assert!(chunk == noise(0, CHUNK));
        store.verify(committed.manifest).unwrap();
    }
}

#[derive(Default)]
struct Recorder {
    reports: Mutex<Vec<(u64, u64)>>,
    cancel_after: Option<usize>,
}

impl Progress for Recorder {
    fn advance(&self, done_bytes: u64, total_bytes: u64) {
        self.reports.lock().unwrap().push((done_bytes, total_bytes));
    }

    fn cancelled(&self) -> bool {
        self.cancel_after.is_some_and(|reports| self.reports.lock().unwrap().len() >= reports)
    }
}

#[test]
fn progress_never_goes_back_and_ends_complete() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let recorder = Recorder::default();
    let disk = MemoryDisk::full_of(noise(3, 100 * CHUNK + 10));
    let _committed = store.commit(&disk, None, &recorder).unwrap();
    let reports = recorder.reports.into_inner().unwrap();
    let total = disk.bytes.len() as u64;
    assert!(reports.len() >= 7);
    assert_eq!(reports.first(), Some(&(0, total)));
    assert_eq!(reports.last(), Some(&(total, total)));
    assert!(reports.is_sorted_by(|a, b| a.0 < b.0 && a.1 == b.1), "{reports:?}");
}

#[test]
fn a_cancelled_commit_shows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let recorder = Recorder { cancel_after: Some(3), ..Recorder::default() };
    let disk = MemoryDisk::full_of(noise(4, 200 * CHUNK));
    let error = store.commit(&disk, None, &recorder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(store.manifests().is_empty());
    assert_eq!(std::fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
    store.collect(&[].into()).unwrap();
    assert_eq!(store.usage().stored_bytes, 0);
}

struct BrokenDisk;

impl Disk for BrokenDisk {
    fn size_bytes(&self) -> u64 {
        100 * CHUNK as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset > 50 * CHUNK as u64 {
            return Err(Error::new(calotype_disk::ErrorKind::Io, "gone"));
        }
        buf.fill(1);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { length_bytes: self.size_bytes() - offset, kind: ExtentKind::Data })
    }
}

#[test]
fn a_disk_that_cannot_be_read_fails_the_commit_with_its_cause() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let error = store.commit(&BrokenDisk, None, &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disk);
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "gone");
    assert!(store.manifests().is_empty());
}

#[test]
fn refuses_what_is_not_there_or_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let disk = MemoryDisk::full_of(noise(5, CHUNK));
    let unknown = open(other.path()).commit(&disk, None, &()).unwrap().manifest;

    assert!(!store.contains(unknown));
    for kind in [
        store.disk(unknown).err().unwrap().kind(),
        store.verify(unknown).unwrap_err().kind(),
        store.size_bytes(unknown).unwrap_err().kind(),
        store.stored_bytes(unknown).unwrap_err().kind(),
        store.commit(&disk, Some(unknown), &()).unwrap_err().kind(),
        store.collect(&[unknown].into()).unwrap_err().kind(),
    ] {
        assert_eq!(kind, ErrorKind::NotFound);
    }
    let huge = HugeDisk::new(u64::MAX, ExtentKind::Zero, Vec::new());
    assert_eq!(store.commit(&huge, None, &()).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_store_is_opened_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert_eq!(Store::open(directory.path()).unwrap_err().kind(), ErrorKind::Locked);
    let clone = store.clone();
    drop(store);
    assert_eq!(Store::open(directory.path()).unwrap_err().kind(), ErrorKind::Locked);
    drop(clone);
    Store::open(directory.path()).unwrap();
}

#[test]
fn refuses_a_store_of_another_version() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    std::fs::write(directory.path().join("format"), "calotype-store 3\n").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
}

#[test]
fn reading_past_the_end_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let committed = store.commit(&MemoryDisk::full_of(noise(6, 1000)), None, &()).unwrap();
    let disk = store.disk(committed.manifest).unwrap();
    disk.read_at(999, &mut [0; 1]).unwrap();
    disk.read_at(1000, &mut []).unwrap();
    for (offset, length) in [(999, 2), (1000, 1), (u64::MAX, 2)] {
        let error = disk.read_at(offset, &mut vec![0; length]).unwrap_err();
        assert_eq!(error.kind(), calotype_disk::ErrorKind::OutOfBounds);
    }
    assert!(disk.extent_at(1000).is_err());
}
