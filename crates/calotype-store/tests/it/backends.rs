//! Every backend keeps the promises of the trait, whatever is below it, and a store on any of them
//! keeps its own.

mod flaky;
mod remote;
mod servers;
mod stores;

use std::path::Path;
use std::sync::Arc;

use calotype_store::backend::{Backend, Cached, Local, Remote, conformance};
use object_store::memory::InMemory;

use self::servers::{SeaweedFs, Simple};

/// The backend by itself, and with caches of these sizes before it.
fn check(make: impl Fn(&str) -> Box<dyn Backend>, cache_sizes: &[u64]) {
    conformance::check(make("plain").as_ref());
    for &bytes_max in cache_sizes {
        let directory = tempfile::tempdir().unwrap();
        let below = make(&format!("cached-{bytes_max}"));
        let cached = Cached::open(below, directory.path(), bytes_max).unwrap();
        conformance::check(&cached);
        assert!(size_bytes(directory.path()) <= bytes_max);
    }
}

/// With room for all, for little, and for less than one block.
const CACHES: [u64; 3] = [1 << 30, 5 << 20, 1000];

#[test]
fn a_cache_that_cannot_be_written_is_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("cache");
    let below = Remote::open(Arc::new(InMemory::new()), "", "memory").unwrap();
    let cached = Cached::open(Box::new(below), &place, 1 << 30).unwrap();
    std::fs::remove_dir(&place).unwrap();
    conformance::check(&cached);
}

fn size_bytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn a_local_directory_is_a_backend() {
    let directory = tempfile::tempdir().unwrap();
    check(|name| Box::new(Local::open(&directory.path().join(name)).unwrap()), &CACHES);
}

#[test]
fn an_object_store_in_memory_is_a_backend() {
    let open = |name: &str| Remote::open(Arc::new(InMemory::new()), "a/prefix", name).unwrap();
    check(|name| Box::new(open(name)), &CACHES);
}

#[test]
fn an_s3_server_in_process_is_a_backend() {
    let server = Simple::start();
    check(|name| Box::new(Remote::open_s3(&server.location(name)).unwrap()), &[5 << 20]);
}

#[test]
fn seaweedfs_is_a_backend() {
    let server = SeaweedFs::start();
    check(|name| Box::new(Remote::open_s3(&server.location(name)).unwrap()), &CACHES);
}

#[test]
fn a_remote_backend_can_be_used_from_any_thread() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let open = || Remote::open(Arc::new(InMemory::new()), "", "memory").unwrap();
    // As the service does it, and as nobody should.
    let checking = runtime.spawn_blocking(move || conformance::check(&open()));
    runtime.block_on(checking).unwrap();
    runtime.block_on(async move { conformance::check(&open()) });
}
