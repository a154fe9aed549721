//! Space: what disks share, and what deleting one frees, beside what a collection really frees.

use std::collections::BTreeSet;

use calotype_store::{ManifestId, Space, Store};

use crate::support::{CHUNK, MemoryDisk, noise, open};

const ROOT: u64 = 8224;

fn commit(store: &Store, chunks: &[u64]) -> ManifestId {
    let chunk = |&seed: &u64| if seed == 0 { vec![0; CHUNK] } else { noise(seed, CHUNK) };
    let bytes = chunks.iter().flat_map(chunk).collect();
    store.commit(&MemoryDisk::full_of(bytes), None, &()).unwrap().manifest
}

fn space(store: &Store, id: ManifestId) -> Space {
    store.space(&store.manifests()).unwrap().disks[&id]
}

#[test]
fn tells_holes_repetition_and_sharing_apart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let chunk = CHUNK as u64;
    let first = commit(&store, &[1, 2, 0, 3, 3]);
    let alone = Space {
        logical_bytes: 5 * chunk,
        data_bytes: 4 * chunk,
        stored_bytes: 3 * chunk + ROOT,
        unique_bytes: 3 * chunk + ROOT,
    };
    assert_eq!(space(&store, first), alone);
    let second = commit(&store, &[0, 0, 3, 4]);
    assert_eq!(space(&store, first), Space { unique_bytes: 2 * chunk + ROOT, ..alone });
    let space_of_second = space(&store, second);
    assert_eq!(space_of_second.shared_bytes(), chunk);
    assert_eq!(space_of_second.unique_bytes, chunk + ROOT);
    assert_eq!(space_of_second.stored_bytes, store.stored_bytes(second).unwrap());
    let of_all = store.space(&store.manifests()).unwrap();
    assert_eq!(of_all.stored_bytes, 4 * chunk + 2 * ROOT);
    // Of one disk alone, all of it is its own.
    assert_eq!(store.space(&[first].into()).unwrap().disks[&first], alone);
}

#[test]
fn unique_bytes_are_what_a_collection_frees() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    // Trees with nodes, which are shared or not.
    let base: Vec<u64> = (1..=600).collect();
    let mut changed = base.clone();
    changed[300] = 9000;
    let mut more = base.clone();
    more.extend(5000..5010);
    let ids = [&base, &changed, &more].map(|chunks| commit(&store, chunks));
    for gone in ids {
        let copy = tempfile::tempdir().unwrap();
        let copied = open(copy.path());
        for chunks in [&base, &changed, &more] {
            commit(&copied, chunks);
        }
        let all = copied.manifests();
        let of_all = copied.space(&all).unwrap();
        let rest: BTreeSet<_> = all.into_iter().filter(|&id| id != gone).collect();
        let expected = of_all.stored_bytes - copied.space(&rest).unwrap().stored_bytes;
        assert_eq!(of_all.disks[&gone].unique_bytes, expected);
        let before = copied.usage().chunks;
        let collected = copied.collect(&rest).unwrap();
        assert_eq!(before - copied.usage().chunks, collected.chunks_removed);
        for id in rest {
            copied.verify(id).unwrap();
        }
    }
}

#[test]
fn a_damaged_disk_is_said_to_be_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = commit(&store, &[1, 2]);
    let other = commit(&store, &[2, 3]);
    std::fs::write(directory.path().join(format!("manifests/{id}")), b"x").unwrap();
    let of_all = store.space(&store.manifests()).unwrap();
    assert_eq!(of_all.unknown, [id].into());
    assert_eq!(of_all.disks[&other].stored_bytes, 2 * CHUNK as u64 + ROOT);
}
