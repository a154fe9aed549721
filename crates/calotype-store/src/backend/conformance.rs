//! What every backend must pass, whatever it keeps its files in.

use super::{Backend, Folder, Key};
use crate::error::{ErrorKind, Result};
use crate::id::ManifestId;
use crate::pack::PackId;
use crate::partial::PartialId;

/// Checks an empty backend against the promises of [`Backend`], and leaves it empty.
///
/// # Panics
///
/// With what is wrong.
pub fn check(backend: &dyn Backend) {
    for folder in Folder::ALL {
        assert_eq!(list(backend, folder), [], "not empty");
    }
    an_upload_is_visible_when_it_is_finished(backend);
    an_upload_that_is_dropped_leaves_nothing(backend);
    reads_are_exact(backend);
    a_file_is_replaced_whole(backend);
    deletes_are_final(backend);
    many_uploads_at_once(backend);
}

fn keys() -> [Key; 3] {
    [
        Key::Pack(PackId::fresh()),
        Key::Manifest(ManifestId::of(b"conformance")),
        Key::Partial(PartialId::of(b"conformance")),
    ]
}

fn put(backend: &dyn Backend, key: Key, parts: &[&[u8]]) -> Result<()> {
    let mut upload = backend.create(key)?;
    for part in parts {
        upload.append(part)?;
    }
    upload.finish()
}

fn list(backend: &dyn Backend, folder: Folder) -> Vec<(Key, u64)> {
    let mut files = backend.list(folder).expect("listing");
    files.sort_unstable();
    files
}

fn get(backend: &dyn Backend, key: Key, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    backend.read(key, offset, &mut bytes)?;
    Ok(bytes)
}

fn error(backend: &dyn Backend, key: Key, offset: u64, length: usize) -> ErrorKind {
    get(backend, key, offset, length).expect_err("nothing to read there").kind()
}

fn an_upload_is_visible_when_it_is_finished(backend: &dyn Backend) {
    for key in keys() {
        let mut upload = backend.create(key).expect("creating");
        upload.append(b"first ").expect("appending");
        assert_eq!(list(backend, key.folder()), [], "visible before it is finished");
        assert_eq!(error(backend, key, 0, 1), ErrorKind::NotFound);
        upload.append(b"second").expect("appending");
        upload.finish().expect("finishing");
        assert_eq!(list(backend, key.folder()), [(key, 12)]);
        assert_eq!(get(backend, key, 0, 12).expect("reading"), b"first second");
        backend.delete(&[key]).expect("deleting");
    }
}

fn an_upload_that_is_dropped_leaves_nothing(backend: &dyn Backend) {
    for key in keys() {
        let mut upload = backend.create(key).expect("creating");
        upload.append(&vec![7; 1 << 20]).expect("appending");
        drop(upload);
        assert_eq!(list(backend, key.folder()), []);
        assert_eq!(error(backend, key, 0, 1), ErrorKind::NotFound);
    }
}

fn reads_are_exact(backend: &dyn Backend) {
    let key = Key::Pack(PackId::fresh());
    // Longer than any part of an upload that a backend may make of it.
    let bytes: Vec<u8> = (0..20_u32 << 20).map(|index| (index % 251) as u8).collect();
    let parts: Vec<_> = bytes.chunks(1_000_003).collect();
    put(backend, key, &parts).expect("writing");
    assert_eq!(list(backend, Folder::Packs), [(key, bytes.len() as u64)]);
    for (offset, length) in
        [(0, bytes.len()), (0, 0), (bytes.len(), 0), (8_388_600, 16), (1, 1), (7 << 20, 3 << 20)]
    {
        let read = get(backend, key, offset as u64, length).expect("reading");
        assert!(read == bytes[offset..offset + length], "wrong bytes at {offset}");
        let mut again = vec![0; length];
        backend.read_again(key, offset as u64, &mut again).expect("reading again");
        assert!(read == again, "other bytes at {offset} past the caches");
    }
    let past = backend.read_again(key, bytes.len() as u64 - 5, &mut [0; 6]);
    assert_eq!(past.expect_err("nothing to read there").kind(), ErrorKind::Corrupt);
    assert_eq!(error(backend, key, bytes.len() as u64 - 5, 6), ErrorKind::Corrupt);
    assert_eq!(error(backend, key, bytes.len() as u64 + 5, 6), ErrorKind::Corrupt);
    backend.delete(&[key]).expect("deleting");
}

fn a_file_is_replaced_whole(backend: &dyn Backend) {
    let key = Key::Partial(PartialId::of(b"replaced"));
    put(backend, key, &[b"the first, which is longer"]).expect("writing");
    put(backend, key, &[b"the second"]).expect("replacing");
    assert_eq!(list(backend, Folder::Partials), [(key, 10)]);
    assert_eq!(get(backend, key, 0, 10).expect("reading"), b"the second");
    assert_eq!(error(backend, key, 0, 11), ErrorKind::Corrupt);
    backend.delete(&[key]).expect("deleting");
}

fn deletes_are_final(backend: &dyn Backend) {
    let keys = keys();
    for key in keys {
        put(backend, key, &[b"bytes"]).expect("writing");
        get(backend, key, 0, 5).expect("reading");
    }
    backend.delete(&keys).expect("deleting");
    for key in keys {
        assert_eq!(list(backend, key.folder()), []);
        assert_eq!(error(backend, key, 0, 5), ErrorKind::NotFound);
    }
    backend.delete(&keys).expect("deleting what is gone");
    backend.delete(&[]).expect("deleting nothing");
    for key in keys {
        put(backend, key, &[b"again"]).expect("writing");
        assert_eq!(get(backend, key, 0, 5).expect("reading"), b"again");
    }
    backend.delete(&keys).expect("deleting");
}

/// More files than one page of any listing has.
fn many_uploads_at_once(backend: &dyn Backend) {
    const THREADS: usize = 4;
    const EACH: usize = 260;
    let keys: Vec<_> = (0..THREADS * EACH).map(|_| Key::Pack(PackId::fresh())).collect();
    std::thread::scope(|scope| {
        for keys in keys.chunks(EACH) {
            scope.spawn(move || {
                for &key in keys {
                    put(backend, key, &[key.name().as_bytes()]).expect("writing");
                }
            });
        }
    });
    let listed: Vec<_> = list(backend, Folder::Packs).into_iter().map(|(key, _)| key).collect();
    let mut expected = keys.clone();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for &key in &keys {
        let name = key.name();
        assert_eq!(get(backend, key, 0, name.len()).expect("reading"), name.as_bytes());
    }
    backend.delete(&keys).expect("deleting");
    assert_eq!(list(backend, Folder::Packs), []);
}
