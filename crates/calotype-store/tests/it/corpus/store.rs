//! A directory of the store from anywhere: one pack and the root of one manifest.
//!
//! Digests protect nearly every byte, so a changed byte would be found by its digest and get no further. The
//! first byte of the input therefore says which digests are made right again before the store sees them.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use calotype_disk::Disk;
use calotype_store::{ManifestId, Options, Store};

/// Of the first byte: chunks are named, and named in nodes and root, by what they hold.
pub(crate) const RENAME: u8 = 1;
/// Of the first byte: the footer's checksum is right.
pub(crate) const CHECKSUM: u8 = 2;
/// The part of a root that the input has: its header and eight of its children; the rest are holes.
pub(crate) const ROOT_HEAD_BYTES: usize = 32 + 8 * ID_BYTES;

const ROOT_BYTES: usize = 8224;
const NODE_BYTES: usize = 8192;
const CHUNK_BYTES: usize = 65_536;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 64;
const RECORD_BYTES: usize = 64;
const TRAILER_BYTES: usize = 64;
const ID_BYTES: usize = 32;
/// Runs of a disk that are looked at.
const RUNS_MAX: usize = 64;

type Id = [u8; ID_BYTES];

pub(crate) fn run(data: &[u8]) {
    let Some((&flags, data)) = data.split_first() else { return };
    let Some((root, pack)) = data.split_at_checked(ROOT_HEAD_BYTES) else { return };
    let (mut root, mut pack) = (root.to_vec(), pack.to_vec());
    if flags & RENAME != 0 {
        rename(&mut pack, &mut root);
    }
    if flags & CHECKSUM != 0 {
        let _ = correct_checksum(&mut pack);
    }
    root.resize(ROOT_BYTES, 0);
    let id = blake3::hash(&root).to_hex();

    let directory = tempfile::tempdir().unwrap();
    for folder in ["packs", "manifests"] {
        fs::create_dir(directory.path().join(folder)).unwrap();
    }
    fs::write(directory.path().join("format"), "calotype-store 2\n").unwrap();
    fs::write(directory.path().join("packs/00000000000000000000000000000001.pack"), pack).unwrap();
    fs::write(directory.path().join(format!("manifests/{id}")), root).unwrap();
    check(directory.path(), id.parse().unwrap());
}

/// What verifies can be read, before and after a collection, and by whoever opens the store next.
fn check(directory: &Path, id: ManifestId) {
    let options = Options { cache_bytes: 1 << 20, ..Options::default() };
    let Ok(store) = Store::open_with(directory, &options) else { return };
    assert!(store.contains(id));
    let before = read(&store, id);
    let verified = store.verify(id);
    let collected = store.collect(&BTreeSet::from([id]));
    if let Ok(verified) = &verified {
        assert!(before.is_some(), "what verifies cannot be read");
        assert!(collected.is_ok(), "{collected:?}");
        assert_eq!(store.stored_bytes(id).ok(), Some(verified.stored_bytes));
    }
    drop(store);
    let store = Store::open_with(directory, &options).unwrap();
    if let Ok(verified) = verified {
        assert_eq!(store.verify(id).ok(), Some(verified), "a collection did harm");
        assert_eq!(read(&store, id), before, "a collection changed a disk");
    }
}

/// The digest of both ends of a disk's runs, or none if one of them cannot be read.
fn read(store: &Store, id: ManifestId) -> Option<blake3::Hash> {
    let disk = store.disk(id).ok()?;
    let mut hasher = blake3::Hasher::new();
    let mut whole = true;
    let mut offset = 0;
    for _ in 0..RUNS_MAX {
        if offset >= disk.size_bytes() {
            break;
        }
        let Ok(extent) = disk.extent_at(offset) else {
            whole = false;
            offset += CHUNK_BYTES as u64;
            continue;
        };
        assert!(extent.length_bytes > 0 && extent.length_bytes <= disk.size_bytes() - offset);
        let mut bytes = vec![0; extent.length_bytes.min(100) as usize];
        for start in [offset, offset + extent.length_bytes - bytes.len() as u64] {
            whole &= disk.read_at(start, &mut bytes).is_ok();
            hasher.update(&bytes);
        }
        offset += extent.length_bytes;
    }
    whole.then(|| hasher.finalize())
}

/// Names every chunk by what it holds, children before their parents, as they lie in a pack.
fn rename(pack: &mut [u8], root: &mut [u8]) {
    let mut names: HashMap<Id, Id> = HashMap::new();
    let mut offset = HEADER_BYTES;
    while let Some(entry) = pack.get(offset..offset + ENTRY_BYTES)
        && entry.starts_with(b"CHNK")
    {
        let id: Id = entry[16..48].try_into().unwrap();
        let (stored, codec) = (number(&entry[4..8]), entry[12]);
        let start = offset + ENTRY_BYTES;
        let Some(payload) = pack.get_mut(start..start + stored) else { break };
        let plain = if codec == 0 {
            if stored == NODE_BYTES {
                rename_children(payload, &names);
            }
            payload.to_vec()
        } else {
            zstd::bulk::decompress(payload, CHUNK_BYTES).unwrap_or_default()
        };
        let name = *blake3::hash(&plain).as_bytes();
        names.insert(id, name);
        pack[offset + 16..offset + 48].copy_from_slice(&name);
        offset = start + stored;
    }
    let end = pack.len().saturating_sub(TRAILER_BYTES);
    for record in pack.get_mut(offset..end).unwrap_or_default().chunks_exact_mut(RECORD_BYTES) {
        rename_children(&mut record[..ID_BYTES], &names);
    }
    rename_children(&mut root[32..], &names);
}

fn rename_children(ids: &mut [u8], names: &HashMap<Id, Id>) {
    for id in ids.as_chunks_mut().0 {
        *id = names.get(id).copied().unwrap_or(*id);
    }
}

fn correct_checksum(pack: &mut [u8]) -> Option<()> {
    let start = pack.len().checked_sub(TRAILER_BYTES)?;
    let (records, trailer) = pack.split_at_mut(start);
    let records = records.get(number(&trailer[..4])..)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(records);
    hasher.update(&trailer[..16]);
    trailer[16..48].copy_from_slice(hasher.finalize().as_bytes());
    Some(())
}

/// A number of four bytes.
fn number(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes.try_into().unwrap()) as usize
}
