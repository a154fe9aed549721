//! Capture and attach beside `qemu-img`, in the same run on the same files. Prints medians and ratios;
//! asserts nothing about time.
//!
//! `cargo bench -p calotype-store --bench capture`, with `--quick` for fewer rounds.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use calotype_disk::Disk;
use calotype_disk::qcow2::{Qcow2, create_layer};
use calotype_disk::raw::Raw;
use calotype_store::{FileSource, ManifestId, Store};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Data in a disk, spread over it: like a small system on a large disk.
const DATA_BYTES: u64 = 512 * MIB;
const DIRTY_BYTES: u64 = 8 * MIB;

struct Bench {
    directory: tempfile::TempDir,
    rounds: usize,
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let bench = Bench {
        directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        rounds: if quick { 5 } else { 15 },
    };
    println!("{:44} {:>12} {:>12} {:>8}", "", "calotype", "qemu-img", "ratio");
    bench.import();
    for size_bytes in [3 * GIB / 2, 20 * GIB] {
        bench.capture(size_bytes);
    }
    for size_bytes in [GIB, 100 * GIB] {
        bench.attach(size_bytes);
    }
    bench.read();
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A raw disk with `DATA_BYTES` of half compressible data in pieces of 1 MiB, evenly spread.
    fn disk(&self, size_bytes: u64) -> PathBuf {
        let path = self.path("disk.raw");
        let file = File::create(&path).unwrap();
        file.set_len(size_bytes).unwrap();
        let pieces = DATA_BYTES / MIB;
        for piece in 0..pieces {
            let offset = piece * (size_bytes / pieces) / MIB * MIB;
            file.write_all_at(&data(piece, MIB as usize), offset).unwrap();
        }
        file.sync_all().unwrap();
        path
    }

    /// Throughput of a first commit.
    fn import(&self) {
        let disk = self.disk(3 * GIB / 2);
        let rounds = self.rounds.min(5);
        let ours = median(rounds, || {
            let directory = self.path("import-store");
            let store = Store::open(&directory).unwrap();
            let time = timed(|| {
                black_box(commit_raw(&store, &disk));
            });
            drop(store);
            fs::remove_dir_all(directory).unwrap();
            time
        });
        let theirs = median(rounds, || self.convert(&["-f", "raw", disk.to_str().unwrap()], false));
        report("import, 512 MiB of data on 1.5 GiB", ours, theirs);
        let theirs = median(rounds, || self.convert(&["-f", "raw", disk.to_str().unwrap()], true));
        report("  beside qemu-img, then fsync", ours, theirs);
    }

    /// A disk of 8 MiB of changes, in pieces of 64 KiB all over it.
    fn capture(&self, size_bytes: u64) {
        let disk = self.disk(size_bytes);
        let store = Store::open(&self.path("store")).unwrap();
        let base = commit_raw(&store, &disk);
        let layer = self.path("layer.qcow2");
        let mut round = 0;
        let mut stored = 0;
        let times: Vec<_> = (0..self.rounds)
            .map(|_| {
                round += 1;
                self.dirty_layer(&layer, &disk, size_bytes, round);
                let ours = timed(|| {
                    let source = FileSource::open(&layer).unwrap();
                    let layer = Qcow2::open_layer(Box::new(source)).unwrap();
                    stored = store.commit(&layer, Some(base), &()).unwrap().bytes_stored;
                });
                let options = chain(&layer, &disk);
                let theirs = self.convert(&["--image-opts", &options], false);
                let synced = self.convert(&["--image-opts", &options], true);
                (ours, theirs, synced)
            })
            .collect();
        let pick = |part: fn(&(Duration, Duration, Duration)) -> Duration| {
            middle(times.iter().map(part).collect())
        };
        let name = format!("capture, 8 MiB dirty on {:.1} GiB", size_bytes as f64 / GIB as f64);
        report(&name, pick(|times| times.0), pick(|times| times.1));
        report("  beside qemu-img, then fsync", pick(|times| times.0), pick(|times| times.2));
        println!("  stored: {:.1} MiB", stored as f64 / MIB as f64);
        drop(store);
        fs::remove_dir_all(self.path("store")).unwrap();
    }

    /// A new empty layer over an image.
    fn attach(&self, size_bytes: u64) {
        let disk = self.disk(size_bytes);
        let store = Store::open(&self.path("store")).unwrap();
        let base = commit_raw(&store, &disk);
        let (ours, theirs) = (self.path("ours.qcow2"), self.path("theirs.qcow2"));
        let ours = median(self.rounds * 3, || {
            // To write over a file costs more than to make one.
            let _ = fs::remove_file(&ours);
            timed(|| {
                let disk = store.disk(base).unwrap();
                fs::write(&ours, create_layer(disk.size_bytes()).unwrap()).unwrap();
            })
        });
        let theirs = median(self.rounds * 3, || {
            let _ = fs::remove_file(&theirs);
            timed(|| {
                let arguments = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"];
                qemu("qemu-img", &[&arguments[..], &[text(&disk), text(&theirs)]].concat());
            })
        });
        report(&format!("attach, {} GiB", size_bytes / GIB), ours, theirs);
        drop(store);
        fs::remove_dir_all(self.path("store")).unwrap();
    }

    /// Reading a stored disk, by nobody's side.
    fn read(&self) {
        let disk = self.disk(3 * GIB / 2);
        let store = Store::open(&self.path("store")).unwrap();
        let base = commit_raw(&store, &disk);
        let verify = median(3, || {
            timed(|| {
                black_box(store.verify(base).unwrap());
            })
        });
        println!("{:44} {:>9.2} ms", "verify, 512 MiB of data", ms(verify));
        let disk = store.disk(base).unwrap();
        let mut buf = vec![0; MIB as usize];
        let sequential = median(3, || {
            timed(|| {
                for piece in 0..disk.size_bytes() / MIB {
                    disk.read_at(piece * MIB, &mut buf).unwrap();
                }
            })
        });
        println!("{:44} {:>9.2} ms", "read once through, 512 MiB of data", ms(sequential));
        let mut small = [0; 4096];
        let cold = median(200, || {
            let offset = next_offset(disk.size_bytes());
            timed(|| disk.read_at(offset, &mut small).unwrap())
        });
        let warm = median(200, || timed(|| disk.read_at(0, &mut small).unwrap()));
        println!("{:44} {:>9.4} ms", "read 4 KiB somewhere", ms(cold));
        println!("{:44} {:>9.4} ms", "read 4 KiB again", ms(warm));
        let open = median(5, || {
            timed(|| {
                black_box(store.stored_bytes(base).unwrap());
            })
        });
        println!("{:44} {:>9.2} ms", "stored bytes of an image", ms(open));
    }

    fn convert(&self, source: &[&str], sync: bool) -> Duration {
        let target = self.path("converted.qcow2");
        let time = timed(|| {
            qemu("qemu-img", &[&["convert", "-O", "qcow2"], source, &[text(&target)]].concat());
            if sync {
                File::open(&target).unwrap().sync_all().unwrap();
            }
        });
        fs::remove_file(target).unwrap();
        time
    }

    fn dirty_layer(&self, layer: &Path, disk: &Path, size_bytes: u64, round: u64) {
        fs::write(layer, create_layer(size_bytes).unwrap()).unwrap();
        let pieces = DIRTY_BYTES / 65_536;
        let source = |piece| self.path(&format!("piece-{piece}"));
        let mut arguments = vec!["--image-opts".to_owned(), chain(layer, disk)];
        for piece in 0..pieces {
            let bytes = data(1_000_000 + round * pieces + piece, 65_536);
            fs::write(source(piece), bytes).unwrap();
            let offset = piece * (size_bytes / pieces) / 65_536 * 65_536;
            let source = source(piece);
            arguments.push("-c".into());
            arguments.push(format!("write -q -s {} {offset} 65536", text(&source)));
        }
        qemu("qemu-io", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        for piece in 0..pieces {
            fs::remove_file(source(piece)).unwrap();
        }
    }
}

fn commit_raw(store: &Store, disk: &Path) -> ManifestId {
    let disk = Raw::open(Box::new(FileSource::open(disk).unwrap())).unwrap();
    store.commit(&disk, None, &()).unwrap().manifest
}

fn chain(layer: &Path, disk: &Path) -> String {
    format!(
        "driver=qcow2,file.driver=file,file.filename={},\
         backing.driver=raw,backing.file.driver=file,backing.file.filename={}",
        layer.display(),
        disk.display()
    )
}

/// Half noise, half repetition, different for every seed.
fn data(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![seed as u8; length];
    for (index, block) in bytes.chunks_mut(4096).enumerate() {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes());
        let half = block.len() / 2;
        hasher.finalize_xof().fill(&mut block[..half]);
    }
    bytes
}

/// An offset of a piece of data, another one every time.
fn next_offset(size_bytes: u64) -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * 7919;
    let pieces = DATA_BYTES / MIB;
    number % pieces * (size_bytes / pieces) / MIB * MIB + number % 256 * 4096
}

fn timed(action: impl FnOnce()) -> Duration {
    let start = Instant::now();
    action();
    start.elapsed()
}

fn median(rounds: usize, mut action: impl FnMut() -> Duration) -> Duration {
    middle((0..rounds).map(|_| action()).collect())
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn report(name: &str, ours: Duration, theirs: Duration) {
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("{name:44} {:>9.2} ms {:>9.2} ms {ratio:>7.1}x", ms(ours), ms(theirs));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn qemu(tool: &str, arguments: &[&str]) {
    let status = Command::new(tool).args(arguments).status().unwrap_or_else(|error| {
        panic!("{tool}: {error}; `apt-get install --no-install-recommends qemu-utils`")
    });
    assert!(status.success(), "{tool} {arguments:?}");
}
