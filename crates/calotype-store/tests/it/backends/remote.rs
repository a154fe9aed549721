//! A remote backend against servers that fail, lose, or are somebody else's.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use calotype_store::backend::{Backend, Folder, Key, Owner, Remote};
use calotype_store::{ErrorKind, PackId, S3Location};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::flaky::{Faults, Flaky};
use super::servers::{Parrot, Simple};

fn put(backend: &dyn Backend, key: Key, bytes: &[u8]) -> calotype_store::Result<()> {
    let mut upload = backend.create(key)?;
    upload.append(bytes)?;
    upload.finish()
}

fn owner() -> Owner {
    Owner::here("0190163d-8694-739b-aea5-966c26f8ad91".parse().unwrap())
}

fn other_owner() -> Owner {
    Owner { host: "elsewhere".to_owned(), ..Owner::here(uuid::Uuid::new_v4()) }
}

fn text_of(error: &calotype_store::Error) -> String {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {source} {error:?}")
}

fn refused(location: &S3Location) -> calotype_store::Error {
    let error = Remote::open_s3(location).unwrap_err();
    let secret = &location.credentials.as_ref().unwrap().secret_access_key;
    let text = text_of(&error);
    assert!(!text.contains(secret), "{text}");
    error
}

#[test]
fn a_wrong_secret_says_to_check_the_credentials_and_is_not_shown() {
    let server = Simple::start();
    let mut location = server.location("a");
    location.credentials.as_mut().unwrap().secret_access_key = "not-the-secret-here".into();
    let error = refused(&location);
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("credentials"), "{}", text_of(&error));
}

#[test]
fn a_missing_bucket_says_so() {
    let server = Parrot::start("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>");
    let error = refused(&server.location());
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("bucket"), "{}", text_of(&error));
}

#[test]
fn a_server_that_repeats_secrets_is_not_repeated() {
    let secret = Simple::start().location("a").credentials.unwrap().secret_access_key;
    let body = format!("<Error><Code>InvalidToken</Code><Token>{secret}</Token></Error>");
    let error = refused(&Parrot::start("403 Forbidden", &body).location());
    assert!(text_of(&error).contains("InvalidToken"), "{}", text_of(&error));
    assert!(error.to_string().contains("credentials"), "{}", text_of(&error));
}

#[test]
fn a_store_of_another_version_is_refused() {
    let server = Simple::start();
    let location = server.location("a");
    drop(Remote::open_s3(&location).unwrap());
    std::fs::write(server.file("a/format"), "calotype-store 99\n").unwrap();
    assert_eq!(refused(&location).kind(), ErrorKind::UnsupportedVersion);
}

#[test]
fn other_objects_are_left_alone() {
    let objects = Arc::new(InMemory::new());
    let put_object = |path: &str| {
        let put = async { objects.put(&path.into(), "foreign".into()).await };
        futures_executor(put).unwrap();
    };
    let pack = PackId::fresh();
    put_object("p/packs/README");
    put_object(&format!("p/packs/below/{pack}.pack"));
    put_object(&format!("p/packs-of-another/{pack}.pack"));
    put_object(&format!("{pack}.pack"));
    let backend = Remote::open(objects.clone(), "p", "memory").unwrap();
    for folder in Folder::ALL {
        assert_eq!(backend.list(folder).unwrap(), []);
    }
    put(&backend, Key::Pack(pack), b"ours").unwrap();
    assert_eq!(backend.list(Folder::Packs).unwrap(), [(Key::Pack(pack), 4)]);
}

/// What needs no runtime.
fn futures_executor<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

#[test]
fn a_put_that_was_acknowledged_and_lost_is_found() {
    let objects = Flaky::new(1, Faults::default());
    let backend = Remote::open(objects.clone(), "p", "memory").unwrap();
    objects.set_faults(Faults { lost: 1000, ..Faults::default() });
    let key = Key::Pack(PackId::fresh());
    let error = put(&backend, key, b"bytes").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("acknowledged"), "{error}");
    assert_eq!(backend.list(Folder::Packs).unwrap(), []);
}

#[test]
fn what_was_written_without_an_error_is_there_whatever_failed_before() {
    let faults = Faults { before: 100, after: 100, slow: 100, lost: 0 };
    let (mut written, mut failed) = (0, 0);
    for seed in 0..20 {
        let objects = Flaky::new(seed, Faults::default());
        let backend = Remote::open(objects.clone(), "", "memory").unwrap();
        objects.set_faults(faults);
        let long = vec![seed as u8; 20 << 20];
        let mut sound = Vec::new();
        for length in [0, 5, 8 << 20, (8 << 20) + 1, 20 << 20] {
            let key = Key::Pack(PackId::fresh());
            match put(&backend, key, &long[..length]) {
                Ok(()) => sound.push((key, length)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Io);
                    failed += 1;
                }
            }
        }
        objects.set_faults(Faults::default());
        let listed = backend.list(Folder::Packs).unwrap();
        for (key, length) in sound {
            assert!(listed.contains(&(key, length as u64)));
            let mut bytes = vec![0; length];
            backend.read(key, 0, &mut bytes).unwrap();
            assert!(bytes == long[..length]);
            written += 1;
        }
        // And what is visible is whole.
        for (_, length) in listed {
            assert!([0, 5, 8 << 20, (8 << 20) + 1, 20 << 20].contains(&(length as usize)));
        }
        assert_eq!(objects.conditional_puts.load(Ordering::SeqCst), 0);
    }
    assert!(written > 20 && failed > 10, "{written} {failed}");
}

#[test]
fn another_owner_keeps_a_store_locked_until_it_is_taken_over() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let open = || Remote::open(objects.clone(), "p", "s3://images/p").unwrap();
    let first = open().owned_by(&owner(), false).unwrap();
    let error = open().owned_by(&other_owner(), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("s3://images/p"), "{error}");
    assert!(error.to_string().contains("--take-over"), "{error}");
    assert!(error.to_string().contains(" since 20"), "{error}");

    let pack = Key::Pack(PackId::fresh());
    put(&first, pack, b"bytes").unwrap();
    let second = open().owned_by(&other_owner(), true).unwrap();
    let error = first.delete(&[pack]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("elsewhere"), "{error}");
    // For good, and without asking again.
    assert_eq!(first.delete(&[pack]).unwrap_err().kind(), ErrorKind::Locked);
    let manifest = Key::Manifest("ab".repeat(32).parse().unwrap());
    assert_eq!(put(&first, manifest, b"root").unwrap_err().kind(), ErrorKind::Locked);
    drop(first);
    // Which is still the second's.
    put(&second, manifest, b"root").unwrap();
    second.delete(&[pack]).unwrap();
}

#[test]
fn the_same_state_directory_opens_a_store_again_after_a_crash() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let open = || Remote::open(objects.clone(), "p", "memory").unwrap();
    // A process that is killed removes no mark.
    std::mem::forget(open().owned_by(&owner(), false).unwrap());
    let again = open().owned_by(&owner(), false).unwrap();
    again.delete(&[Key::Pack(PackId::fresh())]).unwrap();
    drop(again);
    // One that is closed does.
    let other = open().owned_by(&other_owner(), false).unwrap();
    // And whoever has a copy of a state directory is found, too.
    let copy = open().owned_by(&owner(), true).unwrap();
    let copy_of_copy = open().owned_by(&owner(), false).unwrap();
    for lost in [other, copy] {
        let error = lost.delete(&[Key::Pack(PackId::fresh())]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
    }
    copy_of_copy.delete(&[Key::Pack(PackId::fresh())]).unwrap();
}

#[test]
fn a_mark_that_is_not_understood_locks_a_store() {
    let objects = Arc::new(InMemory::new());
    let mark = vec![b'x'; 100_000];
    futures_executor(async { objects.put(&"p/owner".into(), mark.into()).await }).unwrap();
    let open = || Remote::open(objects.clone(), "p", "memory").unwrap();
    assert_eq!(open().owned_by(&owner(), false).unwrap_err().kind(), ErrorKind::Locked);
    open().owned_by(&owner(), true).unwrap();
}
