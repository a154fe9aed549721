//! Target 10: everything is read and hashed again, as fast as the disk reads or two processors hash,
//! whichever takes longer.

use std::fs::{self, File};
use std::time::Duration;

use crate::Bench;
use crate::disks::{chill, each_data_run, read_tree};
use crate::measure::{middle, ours, timed};
use crate::table::{Figure, Peer, Row, Table};

/// Of the limit's speed.
const SHARE: f64 = 0.8;

const CHUNK_BYTES: u64 = 64 << 10;

/// One round.
struct Round {
    /// To read all files of the store, from the disk.
    read: Duration,
    /// To hash the bytes of all chunks on two processors: half of what one needs.
    hash: Duration,
    /// To scrub, from the disk and from the page cache.
    cold: Duration,
    warm: Duration,
}

pub(crate) fn run(bench: &Bench, table: &mut Table) {
    let Some(disk) = bench.corpus_disk("debian.raw") else { return };
    let store = bench.path("scrub-store");
    let store_text = store.to_str().unwrap();
    let (_, done) = ours(&["ingest", store_text, disk.to_str().unwrap()]);
    let plain_bytes = done["chunks_new"].as_u64().unwrap() * CHUNK_BYTES;
    let scrub = || {
        let (_, done) = ours(&["scrub", store_text]);
        Duration::from_secs_f64(done["seconds"].as_f64().unwrap())
    };
    let mut stored_bytes = 0;
    let round = |_| {
        chill(&store);
        let read = timed(|| stored_bytes = read_tree(&store));
        let hash = hash(&File::open(&disk).unwrap(), plain_bytes) / 2;
        chill(&store);
        Round { read, hash, cold: scrub(), warm: scrub() }
    };
    let rounds: Vec<Round> = (0..if bench.quick { 3 } else { 9 }).map(round).collect();
    let times = |of: fn(&Round) -> Duration| rounds.iter().map(of).collect::<Vec<_>>();
    let (reads, hashes) = (times(|round| round.read), times(|round| round.hash));
    let (name, limit) = if middle(reads.clone()) > middle(hashes.clone()) {
        ("the disk reads", &reads)
    } else {
        ("2 x BLAKE3", &hashes)
    };
    let note = format!(
        "{} MB stored, {} MB plain; disk reads in {:.0} ms, 2 x BLAKE3 in {:.0} ms; scrub from the page cache in {:.0} ms",
        stored_bytes / 1_000_000,
        plain_bytes / 1_000_000,
        Figure::times(&reads).median,
        Figure::times(&hashes).median,
        Figure::times(&times(|round| round.warm)).median,
    );
    let cold = Figure::times(&times(|round| round.cold));
    let limit = Peer::new(name, Figure::times(limit));
    table.push(Row::faster(10, "scrub, from the disk", cold, limit, SHARE).note(note));
    fs::remove_dir_all(store).unwrap();
}

/// What one processor needs to hash `total_bytes` of a disk's chunks.
fn hash(disk: &File, total_bytes: u64) -> Duration {
    let (mut time, mut bytes) = (Duration::ZERO, 0);
    each_data_run(disk, |run| {
        for chunk in run.chunks(CHUNK_BYTES as usize) {
            time += timed(|| {
                std::hint::black_box(blake3::hash(chunk));
            });
            bytes += chunk.len();
        }
    });
    time.mul_f64(total_bytes as f64 / bytes as f64)
}
