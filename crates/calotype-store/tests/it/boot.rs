//! Disks that guests boot from: remembered orders, prefetching, and one read for many guests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use calotype_disk::Disk as _;
use calotype_store::{BootDisk, BootDisks, BootStatistics, ManifestId, Options, Store};

use crate::support::{CHUNK, MemoryDisk, noise};

const CHUNKS: usize = 96;

struct Stage {
    directory: tempfile::TempDir,
    id: ManifestId,
    bytes: Vec<u8>,
    cache_bytes: usize,
}

/// A disk of noise, with a hole from chunk 10 to 20.
fn stage(cache_bytes: usize) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = noise(7, CHUNKS * CHUNK);
    bytes[10 * CHUNK..20 * CHUNK].fill(0);
    let store = Store::open(&directory.path().join("store")).unwrap();
    let id = store.commit(&MemoryDisk::full_of(bytes.clone()), None, &()).unwrap().manifest;
    Stage { directory, id, bytes, cache_bytes }
}

impl Stage {
    /// The store, opened anew: nothing is in memory.
    fn open(&self) -> BootDisks {
        let options = Options { cache_bytes: self.cache_bytes, ..Options::default() };
        let store = Store::open_with(&self.directory.path().join("store"), &options).unwrap();
        BootDisks::open(&store, &self.orders())
    }

    fn orders(&self) -> PathBuf {
        self.directory.path().join("boot-orders")
    }

    fn order(&self) -> PathBuf {
        self.orders().join(self.id.to_string())
    }

    /// Reads a little of each chunk.
    fn boot(&self, disk: &BootDisk, chunks: impl IntoIterator<Item = usize>) {
        for chunk in chunks {
            let mut buf = [0; 4096];
            disk.read_at((chunk * CHUNK + 4096) as u64, &mut buf).unwrap();
            assert!(buf == self.bytes[chunk * CHUNK + 4096..][..4096], "chunk {chunk}");
        }
    }

    /// Boots once and waits for the order to be written down.
    fn boot_first(&self, chunks: impl IntoIterator<Item = usize>) {
        let boots = self.open();
        self.boot(&boots.disk(self.id).unwrap(), chunks);
        until(|| self.order().exists());
    }
}

fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "this never happens");
        std::thread::yield_now();
    }
}

fn prefetched(disk: &Arc<BootDisk>) -> BootStatistics {
    until(|| disk.statistics().prefetched_chunks == disk.statistics().known_chunks);
    disk.statistics()
}

#[test]
fn the_second_boot_finds_what_the_first_has_read() {
    let stage = stage(64 << 20);
    // In no order; some twice; one of the hole, which is not to be remembered.
    let order = || (0..CHUNKS).step_by(7).rev().chain([3, 4, 15, 3]);
    stage.boot_first(order());
    let boots = stage.open();
    let disk = boots.disk(stage.id).unwrap();
    let ahead = prefetched(&disk);
    assert_eq!((ahead.read_chunks, ahead.disk.fetched_chunks), (0, ahead.known_chunks));
    stage.boot(&disk, order());
    let after = disk.statistics();
    assert_eq!((after.read_chunks, after.found_chunks), (ahead.known_chunks, ahead.known_chunks));
    assert_eq!(after.disk, ahead.disk);
}

#[test]
fn a_boot_that_reads_more_is_remembered_too() {
    let stage = stage(64 << 20);
    stage.boot_first([30, 31]);
    let boots = stage.open();
    let disk = boots.disk(stage.id).unwrap();
    stage.boot(&disk, [31, 50, 51, 52]);
    drop(disk);
    let length = |order: &Path| std::fs::metadata(order).unwrap().len();
    until(|| length(&stage.order()) == 16 + 4 * 5 + 32);
    drop(boots);
    let boots = stage.open();
    let disk = boots.disk(stage.id).unwrap();
    assert_eq!(prefetched(&disk).known_chunks, 5);
}

#[test]
fn guests_of_one_image_share_a_disk_that_reads_each_chunk_once() {
    let stage = stage(64 << 20);
    let boots = stage.open();
    let disks: Vec<_> = (0..8).map(|_| boots.disk(stage.id).unwrap()).collect();
    std::thread::scope(|scope| {
        for (guest, disk) in disks.iter().enumerate() {
            // Each in its own order.
            let chunks = (0..CHUNKS).map(move |chunk| (chunk * 5 + guest * 13) % CHUNKS);
            scope.spawn(|| stage.boot(disk, chunks));
        }
    });
    let data_chunks = CHUNKS as u64 - 10;
    assert_eq!(boots.statistics(stage.id).unwrap().disk.fetched_chunks, data_chunks);
    drop(disks);
    until(|| boots.statistics(stage.id).is_none());
}

#[test]
fn is_never_further_ahead_of_the_guests_than_a_part_of_the_cache() {
    let stage = stage(4 << 20);
    stage.boot_first(20..CHUNKS);
    let boots = stage.open();
    let disk = boots.disk(stage.id).unwrap();
    let window = 4 << 20 >> 17;
    until(|| disk.statistics().prefetched_chunks == window);
    stage.boot(&disk, 20..36);
    until(|| disk.statistics().prefetched_chunks == window + 16);
    assert!(disk.statistics().known_chunks > window + 16);
    // A cache as small as this has no room for every choice of so many.
    assert!(disk.statistics().found_chunks > 0);
}

#[test]
fn without_a_cache_nothing_is_prefetched() {
    let stage = stage(0);
    stage.boot_first(20..30);
    let boots = stage.open();
    let disk = boots.disk(stage.id).unwrap();
    stage.boot(&disk, 20..60);
    assert_eq!(disk.statistics().prefetched_chunks, 0);
}

#[test]
fn a_damaged_order_is_replaced() {
    let stage = stage(64 << 20);
    stage.boot_first(20..30);
    let mut bytes = std::fs::read(stage.order()).unwrap();
    bytes[20] ^= 1;
    for damaged in [bytes.as_slice(), &bytes[..9], b""] {
        std::fs::write(stage.order(), damaged).unwrap();
        let boots = stage.open();
        let disk = boots.disk(stage.id).unwrap();
        assert_eq!(disk.statistics().known_chunks, 0);
        stage.boot(&disk, 40..50);
        drop(disk);
        until(|| std::fs::read(stage.order()).unwrap() != damaged);
    }
}

#[test]
fn an_order_of_chunks_that_are_not_there_is_harmless() {
    let stage = stage(64 << 20);
    stage.boot_first(20..22);
    // Version, count; beyond the end; in the hole; twice.
    let numbers = [1, 5, u32::MAX, CHUNKS as u32, 15, 40, 40];
    let mut bytes = b"CALOBOOT".to_vec();
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes.extend(blake3::hash(&bytes).as_bytes());
    std::fs::write(stage.order(), bytes).unwrap();
    let boots = stage.open();
    let disk = boots.disk(stage.id).unwrap();
    assert_eq!(prefetched(&disk).known_chunks, 3);
    assert_eq!(disk.statistics().disk.fetched_chunks, 1);
    stage.boot(&disk, 0..CHUNKS);
}

#[test]
fn damage_that_is_prefetched_reaches_no_guest() {
    let stage = stage(64 << 20);
    stage.boot_first(20..CHUNKS);
    let packs = stage.directory.path().join("store").join("packs");
    let pack = std::fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    flip_payloads(&pack);
    let boots = stage.open();
    let disk = boots.disk(stage.id).unwrap();
    prefetched(&disk);
    let mut damaged = 0;
    for chunk in 20..CHUNKS {
        let mut buf = vec![0; CHUNK];
        match disk.read_at((chunk * CHUNK) as u64, &mut buf) {
            Ok(()) => assert!(buf == stage.bytes[chunk * CHUNK..][..CHUNK]),
            Err(error) => {
                assert_eq!(error.kind(), calotype_disk::ErrorKind::Corrupt);
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
}

#[test]
fn guests_boot_where_no_order_can_be_kept() {
    let stage = stage(64 << 20);
    std::fs::write(stage.orders(), "a file, and no folder").unwrap();
    let boots = stage.open();
    stage.boot(&boots.disk(stage.id).unwrap(), 0..CHUNKS);
    assert!(stage.orders().is_file());
}

/// Flips a bit in every 300,000th byte of the first half, where data is.
fn flip_payloads(pack: &Path) {
    let mut bytes = std::fs::read(pack).unwrap();
    for place in (1000..bytes.len() / 2).step_by(300_000) {
        bytes[place] ^= 4;
    }
    std::fs::write(pack, bytes).unwrap();
}
