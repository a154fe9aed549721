//! Target 11: a collection costs what died and one pass over the index, however much lives on.

use std::fs;
use std::time::Duration;

use crate::Bench;
use crate::disks::{MIB, synthetic};
use crate::measure::ours;
use crate::table::{Figure, Peer, Row, Table};

/// Every image has a disk of its own.
const IMAGE_BYTES: u64 = 64 * MIB;

pub(crate) fn run(bench: &Bench, table: &mut Table) {
    let (few, many) = (2, if bench.quick { 16 } else { 48 });
    let rounds = if bench.quick { 3 } else { 7 };
    let (mut at_few, mut at_many) = (Vec::new(), Vec::new());
    let mut freed_bytes = 0;
    let mut rewritten = 0;
    for round in 0..rounds {
        for (images, times) in [(few, &mut at_few), (many, &mut at_many)] {
            let done = delete_one(bench, images, round);
            times.push(Duration::from_secs_f64(done["seconds"].as_f64().unwrap()));
            assert_eq!(done["manifests_removed"], 1);
            freed_bytes = done["bytes_freed"].as_u64().unwrap();
            rewritten = done["packs_rewritten"].as_u64().unwrap();
        }
    }
    let peer = Peer::new(&format!("of {few}"), Figure::times(&at_few));
    let name = format!("collect one image's 64 MiB, of {many}");
    // What died is the same; the index, which is looked through once, has grown with the images.
    let index_has_grown = many as f64 / few as f64;
    let row = Row::at_most(11, &name, Figure::times(&at_many), peer, index_has_grown);
    table.push(row.note(format!("{freed_bytes} bytes freed, {rewritten} packs rewritten")));
}

/// A store of so many images, one of which dies; the store is kept for the next round.
fn delete_one(bench: &Bench, images: u64, round: u64) -> serde_json::Value {
    let store = bench.path(&format!("collect-{images}"));
    let disk = bench.path("collect.raw");
    let text = store.to_str().unwrap();
    let missing = if round == 0 { 0..images } else { 0..1 };
    for number in missing {
        synthetic(&disk, IMAGE_BYTES, IMAGE_BYTES, (round * 1000 + images * 100 + number) * 1000);
        ours(&["ingest", text, disk.to_str().unwrap()]);
    }
    fs::remove_file(disk).unwrap();
    ours(&["collect", text, "1"]).1
}
