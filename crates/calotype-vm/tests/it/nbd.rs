//! The block server with the clients that matter: QEMU's own tools.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use calotype_disk::Disk;
use calotype_vm::BlockServer;
use tempfile::TempDir;

use crate::guest::MemoryDisk;

const SIZE_BYTES: u64 = (40 << 20) + 512;

struct Served {
    directory: TempDir,
    disk: Arc<MemoryDisk>,
    server: BlockServer,
}

/// Data in the first MiB with a hole in its middle, zeros after it, and an odd size.
fn served() -> Served {
    let mut bytes: Vec<u8> =
        (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    bytes[256 << 10..512 << 10].fill(0);
    let disk = Arc::new(MemoryDisk::new(bytes, SIZE_BYTES));
    let directory = tempfile::tempdir().unwrap();
    let found = Arc::clone(&disk);
    let resolve = move |name: &str| (name == "disk").then(|| Arc::clone(&found) as Arc<dyn Disk>);
    let server = BlockServer::bind(&directory.path().join("nbd.sock"), Arc::new(resolve)).unwrap();
    Served { directory, disk, server }
}

impl Served {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().into()
    }

    fn url(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.path("nbd.sock"))
    }

    fn content(&self) -> Vec<u8> {
        let mut content = vec![0; usize::try_from(SIZE_BYTES).unwrap()];
        self.disk.read_at(0, &mut content).unwrap();
        content
    }
}

fn run(program: &str, words: &[&str]) -> Output {
    Command::new(program).args(words).output().unwrap()
}

fn succeeds(program: &str, words: &[&str]) -> String {
    let output = run(program, words);
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words:?}: {shown}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn qemu_img_copies_every_byte() {
    let served = served();
    let copy = served.path("copy.raw");
    // QEMU rounds the size up to a sector at most, and ours is one.
    succeeds("qemu-img", &["convert", "-f", "raw", "-O", "raw", &served.url("disk"), &copy]);
    assert!(std::fs::read(Path::new(&copy)).unwrap() == served.content());
    let statistics = served.server.statistics()["disk"];
    assert!(statistics.read_bytes < 2 << 20, "holes are not read: {statistics:?}");
}

#[test]
fn qemu_img_sees_the_holes() {
    let served = served();
    let map = succeeds("qemu-img", &["map", "--output=json", "-f", "raw", &served.url("disk")]);
    let map: serde_json::Value = serde_json::from_str(&map).unwrap();
    let runs: Vec<(u64, u64, bool)> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            let number = |name: &str| run[name].as_u64().unwrap();
            (number("start"), number("length"), run["zero"].as_bool().unwrap())
        })
        .collect();
    let kib = 1 << 10;
    let expected = [
        (0, 256 * kib, false),
        (256 * kib, 256 * kib, true),
        (512 * kib, 512 * kib, false),
        (1 << 20, SIZE_BYTES - (1 << 20), true),
    ];
    assert_eq!(runs, expected);
}

#[test]
fn qemu_io_reads_across_holes_and_cannot_write() {
    let served = served();
    let url = served.url("disk");
    let read = |command: &str| succeeds("qemu-io", &["-r", "-f", "raw", "-c", command, &url]);
    assert!(read("read -P 0 256k 256k").contains("262144/262144"));
    assert!(read("read 100 1000000").contains("1000000/1000000"));
    assert!(read("read 0 32M").contains("33554432/33554432"));
    let refused = run("qemu-io", &["-f", "raw", "-c", "write 0 512", &url]);
    assert!(!refused.status.success());
}

#[test]
fn an_unknown_export_is_refused_by_name() {
    let served = served();
    let output = run("qemu-img", &["info", &served.url("other")]);
    assert!(!output.status.success());
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("no such export"), "{shown}");
}

#[test]
fn a_damaged_disk_is_an_input_output_error() {
    let served = served();
    served.disk.broken.store(true, Ordering::SeqCst);
    let output = run("qemu-io", &["-r", "-f", "raw", "-c", "read 0 64k", &served.url("disk")]);
    let shown = [output.stdout, output.stderr].concat();
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("Input/output error"), "{shown}");
    assert!(served.server.statistics()["disk"].failed > 0);
}

#[test]
fn many_clients_read_at_the_same_time() {
    let served = served();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let served = &served;
            scope.spawn(move || {
                let copy = served.path(&format!("copy-{number}"));
                succeeds(
                    "qemu-img",
                    &["convert", "-O", "raw", "-f", "raw", &served.url("disk"), &copy],
                );
                assert!(std::fs::read(copy).unwrap() == served.content());
            });
        }
    });
}

#[test]
fn a_server_that_was_dropped_holds_no_disk() {
    let Served { directory, disk, server } = served();
    let socket = directory.path().join("nbd.sock");
    let mut client = UnixStream::connect(&socket).unwrap();
    // The server greets: its thread for this connection runs.
    client.read_exact(&mut [0; 18]).unwrap();
    let url = format!("nbd+unix:///disk?socket={}", socket.display());
    succeeds("qemu-io", &["-r", "-f", "raw", "-c", "read 0 32M", &url]);
    drop(server);
    assert_eq!(Arc::strong_count(&disk), 1, "somebody still holds the disk");
}

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_server() {
    use std::os::unix::fs::PermissionsExt as _;
    let served = served();
    let socket = served.path("nbd.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // A successor binds the same path first, as after a crash: its socket must stay.
    let successor = BlockServer::bind(Path::new(&socket), Arc::new(|_: &str| None)).unwrap();
    drop(served.server);
    assert!(Path::new(&socket).exists());
    drop(successor);
    assert!(!Path::new(&socket).exists());
}
