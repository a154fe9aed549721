//! Target 4: what the store has to do for a launch, beside the empty overlay that QEMU's own tool lays.

use std::fs;
use std::time::Duration;

use crate::Bench;
use crate::disks::{GIB, MIB, synthetic};
use crate::measure::{Samples, ours};
use crate::peers::qemu_overlay;
use crate::table::{Figure, Goal, Peer, Row, Table};

/// Of data on either disk.
const DATA_BYTES: u64 = 64 * MIB;

const LAUNCHES: &str = "100";

pub(crate) fn run(bench: &Bench, table: &mut Table) {
    for size_bytes in [GIB, 100 * GIB] {
        size(bench, table, size_bytes);
    }
}

fn size(bench: &Bench, table: &mut Table, size_bytes: u64) {
    let (disk, store) = (bench.path("launch.raw"), bench.path("launch-store"));
    let overlays = bench.path("overlays");
    synthetic(&disk, size_bytes, DATA_BYTES, 0);
    fs::create_dir(&overlays).unwrap();
    let (store_text, disk_text) = (store.to_str().unwrap(), disk.to_str().unwrap());
    let (_, done) = ours(&["ingest", store_text, disk_text]);
    let manifest = done["manifest"].as_str().unwrap();
    let mut singles = Vec::new();
    let mut hundreds = Vec::new();
    let mut written_bytes = 0;
    let mut theirs = Samples::default();
    for _ in 0..if bench.quick { 3 } else { 9 } {
        let words = ["launch", store_text, manifest, overlays.to_str().unwrap(), LAUNCHES];
        let (_, done) = ours(&words);
        let times: Vec<f64> = serde_json::from_value(done["seconds"].clone()).unwrap();
        hundreds.push(Duration::from_secs_f64(times.iter().sum()));
        singles.extend(times.into_iter().map(Duration::from_secs_f64));
        written_bytes = done["written_bytes"].as_u64().unwrap();
        for _ in 0..20 {
            theirs.push(qemu_overlay(&disk, &overlays.join("qemu.qcow2")));
            fs::remove_file(overlays.join("qemu.qcow2")).unwrap();
        }
    }
    let name = format!("disk ready for launch, {} GiB", size_bytes / GIB);
    let peer = Peer::new("qemu-img create -b", Figure::times(&theirs.walls()));
    let row = Row::at_most(4, &name, Figure::times(&singles), peer, 1.0);
    table.push(row.note(format!("an overlay of {written_bytes} bytes, synced; 0 of the disk's")));
    let name = format!("100 launches' store work, {} GiB", size_bytes / GIB);
    table.push(Row::alone(4, &name, Figure::times(&hundreds), Some(Goal::AtMost(800.0))));
    for path in [store, overlays] {
        fs::remove_dir_all(path).unwrap();
    }
    fs::remove_file(disk).unwrap();
}
