//! The heartbeat of a guest: a boot sector that prints a line a hundred times a second, seen from its
//! serial console's file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::peer::until;

/// Assembled from `heartbeat.s`, which says what it does.
pub const SECTOR: &[u8; 512] = include_bytes!("heartbeat.bin");

const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Holds the sector against its source, where there is an assembler.
pub fn check_source(directory: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instances/heartbeat.s");
    let (object, binary) = (directory.join("heartbeat.o"), directory.join("heartbeat.bin"));
    let assembled = Command::new("as").args(["--32", "-o"]).arg(&object).arg(source).status();
    if !assembled.is_ok_and(|status| status.success()) {
        return;
    }
    let linked = Command::new("ld")
        .args(["-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o"])
        .args([&binary, &object])
        .status();
    assert!(linked.unwrap().success());
    assert_eq!(std::fs::read(binary).unwrap(), SECTOR, "heartbeat.bin is not heartbeat.s");
}

/// Bytes that a console has shown so far.
pub fn length(console: &Path) -> u64 {
    std::fs::metadata(console).map_or(0, |metadata| metadata.len())
}

/// Waits until a console has shown more than so many bytes.
pub fn beyond(console: &Path, bytes: u64) {
    until("the guest's next beat", || (length(console) > bytes).then_some(()));
}

/// Watches the beats of a guest on a thread of its own.
pub struct Watch {
    done: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Watch {
    pub fn new(console: PathBuf) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let thread = std::thread::spawn(move || longest_silence(&console, &stop));
        Self { done, thread }
    }

    /// The longest time between two beats since then.
    pub fn longest_silence(self) -> Duration {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn longest_silence(console: &Path, stop: &AtomicBool) -> Duration {
    let (mut bytes, mut last, mut longest) = (length(console), Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let now = length(console);
        if now > bytes {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        // A full log forgets its older half.
        bytes = now;
        std::thread::sleep(LOOK_AGAIN);
    }
    longest
}
