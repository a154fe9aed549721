//! One store, several processes: only one has it, and when that one is killed the next one gets it whole.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use calotype_store::{ErrorKind, ManifestId, Store};

use crate::support::{CHUNK, MemoryDisk, noise, open, read_all};

const DIRECTORY: &str = "CALOTYPE_TEST_STORE";

/// Another process, which is this program again and runs one of the tests below.
fn other(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("processes::{test}"), "--ignored", "--nocapture"]);
    command.env(DIRECTORY, directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn bytes() -> Vec<u8> {
    noise(3, 5 * CHUNK)
}

/// Reads up to the line with the id.
fn committed_by(child: &mut Child) -> ManifestId {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ids = lines.filter_map(|line| line.unwrap().strip_prefix("committed ")?.parse().ok());
    ids.next().unwrap()
}

#[test]
fn a_second_process_cannot_open_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let status = other("finds_it_locked", directory.path()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    // It has changed nothing, and the store goes on.
    let committed = store.commit(&MemoryDisk::full_of(bytes()), None, &()).unwrap();
    store.verify(committed.manifest).unwrap();
}

#[test]
fn a_process_that_is_killed_leaves_the_store_to_the_next_with_all_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = other("commits_and_stays", directory.path()).spawn().unwrap();
    let id = committed_by(&mut child);
    let error = Store::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    child.kill().unwrap();
    child.wait().unwrap();
    let store = open(directory.path());
    store.verify(id).unwrap();
    assert!(read_all(&store, id) == bytes());
}

#[test]
#[ignore = "the other process of a test"]
fn finds_it_locked() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let error = Store::open(Path::new(&directory)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
}

#[test]
#[ignore = "the other process of a test"]
fn commits_and_stays() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = open(Path::new(&directory));
    let committed = store.commit(&MemoryDisk::full_of(bytes()), None, &()).unwrap();
    println!("\ncommitted {}", committed.manifest);
    std::io::stdout().flush().unwrap();
    // Until it is killed, or nobody is there to do so.
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(store);
}
