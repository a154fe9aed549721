//! Our side of the race, as processes of their own. All that this benchmark asks of the store is here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use calotype_disk::Disk;
use calotype_disk::qcow2::{Qcow2, create_layer};
use calotype_disk::raw::Raw;
use calotype_store::{Committed, FileSource, ManifestId, ScrubOptions, Store};
use serde_json::{Value, json};

/// `ACTION STORE [ARGUMENT...]`; answers what is to be printed.
pub(crate) fn run(arguments: &[String]) -> Value {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let store = || {
        let start = Instant::now();
        let store = Store::open(Path::new(words[1])).unwrap();
        (store, start.elapsed())
    };
    match words[0] {
        "init" => drop(store()),
        "ingest" => return ingest(&store().0, Path::new(words[2])),
        "capture" => return capture(store(), Path::new(words[2]), id(words[3])),
        "launch" => return launch(&store().0, id(words[2]), Path::new(words[3]), count(words[4])),
        "scrub" => return scrub(&store().0),
        "collect" => return collect(&store().0, words[2].parse().unwrap()),
        other => panic!("no action {other}"),
    }
    Value::Null
}

fn id(text: &str) -> ManifestId {
    text.parse().unwrap()
}

fn count(text: &str) -> u32 {
    text.parse().unwrap()
}

fn ingest(store: &Store, disk: &Path) -> Value {
    let disk = Raw::open(Box::new(FileSource::open(disk).unwrap())).unwrap();
    committed(&store.commit(&disk, None, &()).unwrap())
}

fn committed(done: &Committed) -> Value {
    json!({
        "manifest": done.manifest.to_string(),
        "bytes_read": done.bytes_read,
        "bytes_stored": done.bytes_stored,
        "chunks_new": done.chunks_new,
        "chunks_reused": done.chunks_reused,
    })
}

/// A running service has its store open, so its opening is told apart.
fn capture((store, open): (Store, Duration), layer: &Path, base: ManifestId) -> Value {
    let start = Instant::now();
    let source = FileSource::open(layer).unwrap();
    let layer = Qcow2::open_layer(Box::new(source)).unwrap();
    let done = store.commit(&layer, Some(base), &()).unwrap();
    let commit = start.elapsed();
    let mut value = committed(&done);
    value["open_seconds"] = open.as_secs_f64().into();
    value["commit_seconds"] = commit.as_secs_f64().into();
    value
}

/// The store's part of launches: the disk is there to be served, an empty overlay over it is durable.
fn launch(store: &Store, manifest: ManifestId, directory: &Path, launches: u32) -> Value {
    let mut written_bytes = 0;
    let mut times = Vec::new();
    for number in 0..launches {
        let overlay = directory.join(format!("{number}.qcow2"));
        let start = Instant::now();
        let disk = store.disk(manifest).unwrap();
        let layer = create_layer(disk.size_bytes()).unwrap();
        fs::write(&overlay, &layer).unwrap();
        File::open(&overlay).unwrap().sync_all().unwrap();
        File::open(directory).unwrap().sync_all().unwrap();
        times.push(start.elapsed().as_secs_f64());
        written_bytes += layer.len();
        drop(disk);
    }
    for number in 0..launches {
        fs::remove_file(directory.join(format!("{number}.qcow2"))).unwrap();
    }
    json!({ "seconds": times, "written_bytes": written_bytes / launches as usize })
}

fn scrub(store: &Store) -> Value {
    let start = Instant::now();
    let scrubbed = store.scrub(&ScrubOptions::default(), &()).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!(scrubbed.is_whole(), "{scrubbed:?}");
    json!({ "seconds": seconds, "chunks": scrubbed.chunks, "bytes": scrubbed.bytes })
}

/// Collects with all manifests but `dead` of them as roots.
fn collect(store: &Store, dead: usize) -> Value {
    let roots: BTreeSet<_> = store.manifests().into_iter().skip(dead).collect();
    let start = Instant::now();
    let collected = store.collect(&roots).unwrap();
    json!({
        "seconds": start.elapsed().as_secs_f64(),
        "manifests_removed": collected.manifests_removed,
        "chunks_removed": collected.chunks_removed,
        "packs_deleted": collected.packs_deleted,
        "packs_rewritten": collected.packs_rewritten,
        "bytes_freed": collected.bytes_freed,
    })
}
