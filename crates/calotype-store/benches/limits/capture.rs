//! Target 3: 8 MiB were changed on a disk; its capture costs what was changed, whatever the disk's size.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Bench;
use crate::disks::{
    DATA_BYTES, DIRTY_BYTES, GIB, MIB, dirty_layer, dirty_raw, synthetic, tree_bytes, warm,
};
use crate::measure::{Samples, ours};
use crate::peers::Peer;
use crate::table::{Figure, Goal, Peer as Side, Row, Table};

const SMALL_BYTES: u64 = 3 * GIB / 2;
const LARGE_BYTES: u64 = 20 * GIB;

/// Beside what is read and packed at 500 MiB/s.
const FIXED_MS: f64 = 60.0;

/// A disk that is captured again and again, each time with other changes.
struct Disk {
    size_bytes: u64,
    raw: PathBuf,
    store: PathBuf,
    base: String,
    commits: Vec<Duration>,
    processes: Samples,
    bytes_read: Vec<u64>,
    bytes_stored: Vec<u64>,
}

pub(crate) fn run(bench: &Bench, table: &mut Table) {
    let mut small = Disk::new(bench, "small", SMALL_BYTES);
    let mut large = Disk::new(bench, "large", LARGE_BYTES);
    let restic = Peer::Restic.is_here().then(|| {
        let repository = Peer::Restic.init(&bench.path("capture-restic"));
        Peer::Restic.store(&repository, &small.raw, "base");
        repository
    });
    let mut theirs = Samples::default();
    let rounds: u64 = if bench.quick { 5 } else { 11 };
    for round in 1..=rounds {
        let seed = 1_000_000 * round;
        small.capture(bench, seed);
        large.capture(bench, seed + 500_000);
        if let Some(repository) = &restic {
            dirty_raw(&small.raw, SMALL_BYTES, seed);
            warm(&small.raw);
            theirs.push(Peer::Restic.store(repository, &small.raw, "dirty"));
        }
    }
    report(table, &small, &large, restic.is_some().then_some(&theirs));
    for path in [small.raw, small.store, large.raw, large.store].iter().chain(&restic) {
        let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
    }
}

impl Disk {
    fn new(bench: &Bench, name: &str, size_bytes: u64) -> Self {
        let raw = bench.path(&format!("{name}.raw"));
        synthetic(&raw, size_bytes, DATA_BYTES, 0);
        let store = bench.path(&format!("{name}-store"));
        let (_, done) = ours(&["ingest", text(&store), text(&raw)]);
        let base = done["manifest"].as_str().unwrap().to_owned();
        Self {
            size_bytes,
            raw,
            store,
            base,
            commits: Vec::new(),
            processes: Samples::default(),
            bytes_read: Vec::new(),
            bytes_stored: Vec::new(),
        }
    }

    fn capture(&mut self, bench: &Bench, seed: u64) {
        let layer = bench.path("layer.qcow2");
        dirty_layer(&layer, &self.raw, self.size_bytes, seed);
        let before = tree_bytes(&self.store);
        let (sample, done) = ours(&["capture", text(&self.store), text(&layer), &self.base]);
        self.processes.push(sample);
        self.commits.push(Duration::from_secs_f64(done["commit_seconds"].as_f64().unwrap()));
        self.bytes_read.push(done["bytes_read"].as_u64().unwrap());
        self.bytes_stored.push(tree_bytes(&self.store) - before);
        fs::remove_file(layer).unwrap();
    }

    /// With what the process as a whole takes, its start and the opening of the store included.
    fn figure(&self) -> Figure {
        let process = Figure::of(&self.processes);
        Figure {
            cpu_seconds: process.cpu_seconds,
            peak_mib: process.peak_mib,
            ..Figure::times(&self.commits)
        }
    }

    fn note(&self) -> String {
        let read = self.bytes_read.iter().max().unwrap();
        let process = Figure::of(&self.processes).median;
        let stored = self.bytes_stored.last().unwrap();
        format!("read {read} bytes, stored {stored}; with the process's start {process:.0} ms")
    }
}

fn report(table: &mut Table, small: &Disk, large: &Disk, restic: Option<&Samples>) {
    let bound = FIXED_MS + DIRTY_BYTES as f64 / (500 * MIB) as f64 * 1e3;
    let goal = Some(Goal::AtMost(bound));
    let row = Row::alone(3, "capture, 8 MiB dirty on 1.5 GiB", small.figure(), goal);
    table.push(row.note(small.note()));
    let large_figure = large.figure();
    let small_figure = Side::new("1.5 GiB", small.figure());
    let row = Row::at_most(3, "capture, 8 MiB dirty on 20 GiB", large_figure, small_figure, 1.2);
    table.push(row.note(large.note()));
    let read = *small.bytes_read.iter().chain(&large.bytes_read).max().unwrap();
    let read = Figure::values(vec![read as f64 / DIRTY_BYTES as f64], "x");
    table.push(Row::alone(3, "bytes read by bytes dirty", read, Some(Goal::AtMost(1.0))));
    if let Some(restic) = restic {
        let restic = Side::new("restic", Figure::of(restic));
        table.push(Row::faster(3, "the same disk again by restic", small.figure(), restic, 1.0));
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
