//! A reader that knows only the document reads what the store writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use calotype_store::Store;

use crate::support::{CHUNK, MemoryDisk, noise};

#[test]
fn python_lists_the_chunks_of_a_pack() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut bytes = noise(1, 4 * CHUNK);
    bytes[CHUNK..2 * CHUNK].fill(b'x');
    bytes[2 * CHUNK..3 * CHUNK].fill(0);
    let committed = store.commit(&MemoryDisk::full_of(bytes.clone()), None, &()).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_pack.py");
    let mut packs = fs::read_dir(directory.path().join("packs")).unwrap();
    let pack = packs.next().unwrap().unwrap().path();
    let output = Command::new("python3").arg(&script).arg(&pack).output().unwrap_or_else(|error| {
        panic!("python3: {error}; install it with `apt-get install python3`")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");

    let text = String::from_utf8(output.stdout).unwrap();
    let chunks: BTreeMap<&str, Vec<&str>> = text
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            (words.next().unwrap(), words.collect())
        })
        .collect();
    assert_eq!(chunks.len(), 3, "{text}");
    let pack = fs::read(pack).unwrap();
    for (index, codec) in [(0, "raw"), (1, "zstd"), (3, "raw")] {
        let plain = &bytes[index * CHUNK..(index + 1) * CHUNK];
        let id = blake3::hash(plain).to_hex();
        let chunk = &chunks[id.as_str()];
        assert_eq!((chunk[2], chunk[3]), ("65536", codec), "{text}");
        if codec == "raw" {
            let offset: usize = chunk[0].parse().unwrap();
            assert!(pack[offset..offset + CHUNK] == *plain);
        }
    }
    // The root is the digest of the file that has its name.
    let root = fs::read(directory.path().join(format!("manifests/{}", committed.manifest)));
    let root = root.unwrap();
    assert_eq!(blake3::hash(&root).as_bytes(), committed.manifest.as_bytes());
    // Its children are the chunks, for a disk this small.
    for (slot, child) in root[32..].chunks_exact(32).enumerate() {
        match bytes.get(slot * CHUNK..(slot + 1) * CHUNK) {
            Some(plain) if slot != 2 => assert_eq!(child, blake3::hash(plain).as_bytes()),
            _ => assert_eq!(child, [0; 32]),
        }
    }
}
