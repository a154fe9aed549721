//! Targets 1, 2 and 9: the platform image and its descendants, beside other stores.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Bench;
use crate::disks::tree_bytes;
use crate::measure::{Samples, ours};
use crate::peers::Peer;
use crate::table::{Figure, Peer as Side, Row, Table};

/// What is held against restic, borg and casync for a new disk.
const GOALS: [(Peer, f64); 3] = [(Peer::Restic, 8.0), (Peer::Borg, 5.0), (Peer::Casync, 15.0)];

/// One of the stores that are compared.
#[derive(Debug, Default)]
struct Store {
    /// A new disk, in every round into an empty store.
    new: Samples,
    /// The same disk once more.
    again: Samples,
    /// After the image, and after each descendant.
    bytes: Vec<f64>,
}

pub(crate) fn run(bench: &Bench, table: &mut Table) {
    let Some(disk) = bench.corpus_disk("debian.raw") else { return };
    let descendants: Vec<PathBuf> = ["descendant-1.raw", "descendant-2.raw"]
        .iter()
        .filter_map(|name| bench.corpus_disk(name))
        .collect();
    let speed = bench.wants(1) || bench.wants(2);
    let rounds = match (speed, bench.quick) {
        (true, true) => 2,
        (true, false) => 5,
        (false, _) => 1,
    };
    let peers: Vec<Peer> = Peer::ALL
        .into_iter()
        .filter(|peer| speed || (bench.wants(9) && *peer == Peer::Restic))
        .filter(|peer| peer.is_here())
        .collect();
    let mut calotype = Store::default();
    let mut theirs: Vec<Store> = peers.iter().map(|_| Store::default()).collect();
    let mut new_bytes_again = 0;
    for round in 0..rounds {
        let last = round + 1 == rounds;
        new_bytes_again += round_of_ours(bench, &disk, &descendants, last, &mut calotype);
        for (peer, store) in peers.iter().zip(&mut theirs) {
            round_of_theirs(bench, *peer, &disk, &descendants, last, store);
        }
    }
    for (peer, store) in peers.iter().zip(&theirs) {
        report(bench, table, &calotype, *peer, store, new_bytes_again);
    }
}

/// Answers the bytes that the disk's second ingest stored.
fn round_of_ours(
    bench: &Bench,
    disk: &Path,
    descendants: &[PathBuf],
    last: bool,
    store: &mut Store,
) -> u64 {
    let directory = bench.path("store");
    let _ = fs::remove_dir_all(&directory);
    let text = directory.to_str().unwrap();
    let ingest = |disk: &Path| ours(&["ingest", text, disk.to_str().unwrap()]);
    ours(&["init", text]);
    store.new.push(ingest(disk).0);
    let bytes = tree_bytes(&directory);
    let (again, done) = ingest(disk);
    store.again.push(again);
    if last {
        store.bytes.push(bytes as f64);
        for descendant in descendants {
            ingest(descendant);
            store.bytes.push(tree_bytes(&directory) as f64);
        }
    }
    done["bytes_stored"].as_u64().unwrap()
}

fn round_of_theirs(
    bench: &Bench,
    peer: Peer,
    disk: &Path,
    descendants: &[PathBuf],
    last: bool,
    store: &mut Store,
) {
    let repository = peer.init(&bench.path(peer.name()));
    store.new.push(peer.store(&repository, disk, "new"));
    let bytes = tree_bytes(&repository);
    if peer == Peer::Restic {
        store.again.push(peer.store(&repository, disk, "again"));
    }
    if last && peer == Peer::Restic {
        store.bytes.push(bytes as f64);
        for (number, descendant) in descendants.iter().enumerate() {
            peer.store(&repository, descendant, &format!("descendant-{number}"));
            store.bytes.push(tree_bytes(&repository) as f64);
        }
    }
    fs::remove_dir_all(repository).unwrap();
}

fn report(
    bench: &Bench,
    table: &mut Table,
    calotype: &Store,
    peer: Peer,
    store: &Store,
    new_bytes_again: u64,
) {
    let side = |figure| Side::new(peer.name(), figure);
    if bench.wants(1) {
        let goal = GOALS.iter().find(|(other, _)| *other == peer).unwrap().1;
        let (ours, theirs) = (Figure::of(&calotype.new), side(Figure::of(&store.new)));
        table.push(Row::faster(1, "ingest of a new disk, durable", ours, theirs, goal));
    }
    if peer != Peer::Restic {
        return;
    }
    if bench.wants(2) {
        let (ours, theirs) = (Figure::of(&calotype.again), side(Figure::of(&store.again)));
        let row = Row::faster(2, "ingest of the same disk again", ours, theirs, 10.0);
        table.push(row.note(format!("{new_bytes_again} new bytes stored")));
    }
    if bench.wants(9) {
        let names = ["space of the image", "space of nginx more", "space of git and psql more"];
        let mut before = (0.0, 0.0);
        for ((name, &ours), &theirs) in names.iter().zip(&calotype.bytes).zip(&store.bytes) {
            let figure = |bytes| Figure::megabytes(vec![bytes]);
            let (grown, peers) = (figure(ours - before.0), side(figure(theirs - before.1)));
            table.push(Row::at_most(9, name, grown, peers, 1.1));
            before = (ours, theirs);
        }
    }
}
