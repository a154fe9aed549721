//! A store in an object store beside one in a directory: `cargo bench -p calotype-store --bench
//! object_storage`. It starts SeaweedFS on this machine, so what it shows is what each request costs
//! here, not a network; it asserts nothing.
//!
//! *ingest*: 512 MiB that neither compress nor repeat, until they are durable. *boot*: 96 MiB in runs
//! of 64 KiB to 512 KiB at random places, as a guest's first boot reads, none of it in memory.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "this is what it is for")]

#[path = "../tests/it/backends/servers.rs"]
#[expect(dead_code, reason = "tests use all of it")]
mod servers;

use std::path::Path;
use std::time::{Duration, Instant};

use calotype_disk::{Disk, Extent, ExtentKind};
use calotype_store::{Location, ManifestId, Options, Store};

use self::servers::SeaweedFs;

const ROUNDS: u64 = 3;
const DISK_BYTES: u64 = 512 << 20;
const BOOT_BYTES: u64 = 96 << 20;
const CHUNK: u64 = 64 << 10;

/// A disk of noise that is made when it is read.
struct Noise {
    seed: u64,
}

fn scramble(state: u64) -> u64 {
    // SplitMix64.
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

impl Disk for Noise {
    fn size_bytes(&self) -> u64 {
        DISK_BYTES
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> calotype_disk::Result<()> {
        assert!(offset.is_multiple_of(8));
        for (word, place) in (offset / 8..).zip(buf.chunks_mut(8)) {
            let noise = scramble(word.wrapping_add(self.seed << 40)).to_le_bytes();
            place.copy_from_slice(&noise[..place.len()]);
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        Ok(Extent { length_bytes: DISK_BYTES - offset, kind: ExtentKind::Data })
    }
}

/// One kind of store.
struct Kind {
    name: &'static str,
    cache_disk_bytes: u64,
    ingest: Vec<Duration>,
    boot_cold: Vec<Duration>,
    boot_warm: Vec<Duration>,
}

impl Kind {
    fn new(name: &'static str, cache_disk_bytes: u64) -> Self {
        let (ingest, boot_cold, boot_warm) = Default::default();
        Self { name, cache_disk_bytes, ingest, boot_cold, boot_warm }
    }

    /// Nothing in memory: what is read comes from where it lies.
    fn open(&self, location: &Location, state: &Path) -> Store {
        let cache_disk_bytes = self.cache_disk_bytes;
        let options = Options { cache_bytes: 1 << 20, cache_disk_bytes, ..Options::default() };
        Store::open_at(location, state, &options).unwrap()
    }

    fn round(&mut self, location: &Location, state: &Path, round: u64) {
        let store = self.open(location, state);
        let begin = Instant::now();
        let id = store.commit(&Noise { seed: round }, None, &()).unwrap().manifest;
        self.ingest.push(begin.elapsed());
        drop(store);
        // As on another host.
        let cache = state.join("cache");
        if cache.exists() {
            std::fs::remove_dir_all(cache).unwrap();
        }
        let store = self.open(location, state);
        self.boot_cold.push(boot(&store, id, round));
        self.boot_warm.push(boot(&store, id, round));
    }
}

fn boot(store: &Store, id: ManifestId, seed: u64) -> Duration {
    let disk = store.disk(id).unwrap();
    let mut buf = vec![0; 512 << 10];
    let (mut read, mut state) = (0, seed + 1);
    let begin = Instant::now();
    while read < BOOT_BYTES {
        state = scramble(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let chunks = 1 + state % 8;
        let place = (state >> 8) % (DISK_BYTES / CHUNK - chunks);
        let buf = &mut buf[..(chunks * CHUNK) as usize];
        disk.read_at(place * CHUNK, buf).unwrap();
        read += buf.len() as u64;
    }
    begin.elapsed()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

fn main() {
    let server = SeaweedFs::start();
    let directory = tempfile::tempdir().unwrap();
    let mut kinds =
        [Kind::new("directory", 0), Kind::new("S3, no cache", 0), Kind::new("S3, cache", 8 << 30)];
    for round in 0..ROUNDS {
        for (number, kind) in kinds.iter_mut().enumerate() {
            let state = directory.path().join(format!("{number}-{round}"));
            let location = match number {
                0 => Location::Directory(state.clone()),
                _ => Location::S3(server.location(&format!("{number}-{round}"))),
            };
            kind.round(&location, &state, round);
        }
    }
    let rate = |bytes: u64, time: Duration| (bytes >> 20) as f64 / time.as_secs_f64();
    println!("{:14} {:>22} {:>22} {:>22}", "", "ingest", "boot, cold", "boot, again");
    for kind in &kinds {
        let columns = [
            (DISK_BYTES, &kind.ingest),
            (BOOT_BYTES, &kind.boot_cold),
            (BOOT_BYTES, &kind.boot_warm),
        ];
        let text = columns.map(|(bytes, times)| {
            let time = median(times);
            format!("{:>8.2} s {:>6.0} MiB/s", time.as_secs_f64(), rate(bytes, time))
        });
        println!("{:14} {:>22} {:>22} {:>22}", kind.name, text[0], text[1], text[2]);
    }
}
