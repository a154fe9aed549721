//! Booting guests from the store: how much is fetched until the guest is up, what a remembered boot order
//! brings, how long it takes beside the same QEMU on a local qcow2 overlay, and what eight guests of
//! one image fetch. Asserts nothing about time.
//!
//! `cargo bench -p calotype-vm --bench boot`; `-- --json` for a program to read, `-- --quick` for fewer
//! rounds, `-- --disk PATH --until TEXT` for a raw disk of your own and what its console says when
//! it is up. Guests run under TCG, so that the numbers are to be had everywhere.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use calotype_disk::raw::Raw;
use calotype_disk::{Disk, Extent, Piece, SharedBytes, qcow2};
use calotype_platform_image::{Recipe, build};
use calotype_store::{BootDisk, BootDisks, BootStatistics, FileSource, ManifestId, Store};
use calotype_vm::BlockServer;
use serde_json::{Value, json};

const BLOCK_BYTES: u64 = 4096;
const MIB: f64 = 1024.0 * 1024.0;
/// A guest that is not up by then never will be.
const PATIENCE: Duration = Duration::from_mins(10);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
const GUESTS_AT_ONCE: usize = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let disk = value("--disk").map_or_else(
        || {
            let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("platform-images");
            build(Recipe::Tiny, &cache, &mut |_, _| ()).unwrap().disk
        },
        PathBuf::from,
    );
    let until = value("--until").unwrap_or_else(|| "tiny: ready".into());
    let bench = Bench::prepare(disk, until);
    let mut report = Report { as_json: asked("--json"), rows: Vec::new() };
    bench.boots(if asked("--quick") { 2 } else { 7 }, &mut report);
    bench.at_once(&mut report);
    if report.as_json {
        println!("{:#}", json!({ "benchmark": "boot", "rows": report.rows }));
    }
}

struct Report {
    as_json: bool,
    rows: Vec<Value>,
}

impl Report {
    fn row(&mut self, what: &str, value: f64, unit: &str, target: &str) {
        if !self.as_json {
            println!("{what:66} {value:9.2} {unit:5} {target}");
        }
        self.rows.push(json!({ "what": what, "value": value, "unit": unit, "target": target }));
    }
}

struct Bench {
    directory: tempfile::TempDir,
    disk: PathBuf,
    until: String,
    manifest: ManifestId,
}

/// What a boot from the store has read.
struct Read {
    time: Duration,
    blocks: u64,
    reads: u64,
    reads_waited: u64,
    boot: BootStatistics,
}

impl Bench {
    fn prepare(disk: PathBuf, until: String) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let commit = |name: &str| {
            let store = Store::open(&directory.path().join(name)).unwrap();
            let raw = Raw::open(Box::new(FileSource::open(&disk).unwrap())).unwrap();
            store.commit(&raw, None, &()).unwrap().manifest
        };
        // A store is open once; one stays warm, the other is opened anew for each boot.
        let manifest = commit("cold");
        commit("warm");
        Self { directory, disk, until, manifest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn serve(&self, store: &str) -> Served {
        let orders = self.path(&format!("{store}-orders"));
        let store_path = self.path(store);
        let begin = Instant::now();
        // The threads of connections that were just closed may have it a moment longer.
        let store = loop {
            match Store::open(&store_path) {
                Ok(store) => break store,
                Err(error) => assert!(begin.elapsed() < PATIENCE, "{error}"),
            }
            thread::sleep(LOOK_AGAIN);
        };
        let boots = Arc::new(BootDisks::open(&store, &orders));
        let blocks = Arc::new(Mutex::default());
        let resolve = {
            let (boots, blocks) = (Arc::clone(&boots), Arc::clone(&blocks));
            move |name: &str| {
                let disk = boots.disk(name.parse().ok()?).unwrap();
                let blocks = Arc::clone(&blocks);
                Some(Arc::new(Counted { disk, blocks }) as Arc<dyn Disk>)
            }
        };
        let socket = store_path.with_extension("sock");
        let server = BlockServer::bind(&socket, Arc::new(resolve)).unwrap();
        Served { server, boots, blocks, socket, order: orders.join(self.manifest.to_string()) }
    }

    /// Boots a guest from a base until it is up. On a busy machine a guest under TCG may find that its
    /// timer does not work; such a boot does not count.
    fn boot(&self, name: &str, base: &str) -> Guest {
        loop {
            if let Some(guest) = self.try_boot(name, base) {
                return guest;
            }
        }
    }

    fn try_boot(&self, name: &str, base: &str) -> Option<Guest> {
        let size_bytes = self.disk.metadata().unwrap().len();
        let (overlay, console) = (self.path(name), self.path(&format!("{name}.log")));
        fs::write(&overlay, qcow2::create_layer(size_bytes).unwrap()).unwrap();
        let _ = fs::remove_file(&console);
        let drive = format!(
            "driver=qcow2,node-name=disk,file.driver=file,file.filename={},backing.driver=raw,{base}",
            overlay.display()
        );
        let begin = Instant::now();
        let process = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "std"])
            .args(["-machine", "q35,sata=off", "-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", "1", "-m", "512", "-blockdev", &drive])
            .args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"])
            .args(["-device", "virtio-rng-pci", "-serial"])
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut guest = Guest { process, time: Duration::ZERO };
        loop {
            let said = fs::read(&console).unwrap_or_default();
            if contains(&said, "Kernel panic") {
                return None;
            }
            if contains(&said, &self.until) {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{name} does not come up");
            assert!(guest.process.try_wait().unwrap().is_none(), "QEMU has ended");
            thread::sleep(LOOK_AGAIN);
        }
        guest.time = begin.elapsed();
        Some(guest)
    }

    fn boot_file(&self) -> Duration {
        let base =
            format!("backing.file.driver=file,backing.file.filename={}", self.disk.display());
        self.boot("plain", &base).time
    }

    fn boot_served(&self, served: &Served) -> Read {
        let before = served.server.statistics().into_values().next().unwrap_or_default();
        served.blocks.lock().unwrap().clear();
        let guest = self.boot("served", &self.base(served));
        let after = served.server.statistics().into_values().next().unwrap();
        Read {
            time: guest.time,
            blocks: served.blocks.lock().unwrap().len() as u64,
            reads: after.reads - before.reads,
            reads_waited: after.reads_waited - before.reads_waited,
            boot: served.boots.statistics(self.manifest).unwrap(),
        }
    }

    fn base(&self, served: &Served) -> String {
        let socket = served.socket.display();
        format!(
            "backing.file.driver=nbd,backing.file.server.type=unix,\
             backing.file.server.path={socket},backing.file.export={}",
            self.manifest
        )
    }

    fn boots(&self, rounds: usize, report: &mut Report) {
        let warm = self.serve("warm");
        self.boot_file();
        self.boot_served(&warm);
        let (mut local, mut warmed, mut first, mut second) = (vec![], vec![], vec![], vec![]);
        for _ in 0..rounds {
            local.push(self.boot_file());
            warmed.push(self.boot_served(&warm).time);
            let _ = fs::remove_dir_all(self.path("cold-orders"));
            let cold = self.serve("cold");
            first.push(self.boot_served(&cold));
            until(|| cold.order.exists());
            drop(cold);
            second.push(self.boot_served(&self.serve("cold")));
        }
        let fetched = |read: &Read| read.boot.disk.fetched_bytes as f64;
        let read_set = |read: &Read| (read.blocks * BLOCK_BYTES) as f64;
        report.row(
            "5  read set of 4 KiB blocks",
            median(first.iter().map(read_set)) / MIB,
            "MiB",
            "",
        );
        report.row("5  fetched until up", median(first.iter().map(fetched)) / MIB, "MiB", "");
        let share = median(first.iter().map(|read| fetched(read) / read_set(read)));
        report.row("5  fetched for each byte of the read set", share, "x", "<= 1.35");
        let there = |read: &Read| 100.0 * (1.0 - read.reads_waited as f64 / read.reads as f64);
        report.row("5  first boot: reads already there", median(first.iter().map(there)), "%", "");
        let share = median(second.iter().map(there));
        report.row("5  second boot: reads already there", share, "%", ">= 95");
        let found =
            |read: &Read| 100.0 * read.boot.found_chunks as f64 / read.boot.read_chunks as f64;
        let share = median(second.iter().map(found));
        report.row("5  second boot: chunks already there", share, "%", "");
        let seconds = |time: &Duration| time.as_secs_f64();
        let plain = median(local.iter().map(seconds));
        report.row("6  local qcow2 overlay, until up", plain, "s", "");
        let times = |reads: &[Read]| reads.iter().map(|read| read.time).collect();
        for (name, times, target) in [
            ("warm cache", warmed, "<= 1.03"),
            ("empty cache", times(&first), "<= 1.10"),
            ("empty cache, boot order known", times(&second), ""),
        ] {
            report.row(&format!("6  {name}, until up"), median(times.iter().map(seconds)), "s", "");
            // Of each round by itself: the machine is not the same in all of them.
            let ratio = median(
                times.iter().zip(&local).map(|(ours, local)| seconds(ours) / seconds(local)),
            );
            report.row(&format!("6  {name}, beside the local overlay"), ratio, "x", target);
        }
    }

    /// Guests of one image that start together, with nothing in memory and no order known.
    fn at_once(&self, report: &mut Report) {
        let alone = {
            let _ = fs::remove_dir_all(self.path("cold-orders"));
            self.boot_served(&self.serve("cold")).boot.disk.fetched_bytes
        };
        let _ = fs::remove_dir_all(self.path("cold-orders"));
        let served = self.serve("cold");
        let before = memory_mib();
        let begin = Instant::now();
        let guests: Vec<_> = thread::scope(|scope| {
            let boot = |guest| {
                let base = self.base(&served);
                scope.spawn(move || self.boot(&format!("guest-{guest}"), &base))
            };
            let booting: Vec<_> = (0..GUESTS_AT_ONCE).map(boot).collect();
            booting.into_iter().map(|guest| guest.join().unwrap()).collect()
        });
        let time = begin.elapsed().as_secs_f64();
        let together = served.boots.statistics(self.manifest).unwrap().disk.fetched_bytes;
        drop(guests);
        report.row("7  one guest: fetched until up", alone as f64 / MIB, "MiB", "");
        report.row("7  eight at once: fetched until up", together as f64 / MIB, "MiB", "");
        let ratio = together as f64 / alone as f64;
        report.row("7  eight at once, beside one", ratio, "x", "<= 1.1");
        report.row("7  eight at once: until all are up", time, "s", "");
        let grown = memory_mib() - before;
        report.row("7  eight at once: memory of the server has grown by", grown, "MiB", "");
    }
}

struct Served {
    server: BlockServer,
    boots: Arc<BootDisks>,
    /// Distinct blocks that guests have read, holes left out.
    blocks: Arc<Mutex<HashSet<u64>>>,
    socket: PathBuf,
    order: PathBuf,
}

/// Counts what is asked for and is no hole.
struct Counted {
    disk: Arc<BootDisk>,
    blocks: Arc<Mutex<HashSet<u64>>>,
}

impl Disk for Counted {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> calotype_disk::Result<()> {
        self.disk.read_at(offset, buf)
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        self.disk.extent_at(offset)
    }

    fn piece_at(&self, offset: u64, length_max: u64) -> calotype_disk::Result<Piece> {
        let piece = self.disk.piece_at(offset, length_max)?;
        let length = match &piece {
            Piece::Zeros(_) => return Ok(piece),
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Unread(length) => *length,
        };
        let blocks = offset / BLOCK_BYTES..(offset + length).div_ceil(BLOCK_BYTES);
        self.blocks.lock().unwrap().extend(blocks);
        Ok(piece)
    }

    fn read_piece(&self, offset: u64, length: usize) -> calotype_disk::Result<SharedBytes> {
        self.disk.read_piece(offset, length)
    }
}

/// A guest's process, ended when dropped.
struct Guest {
    process: Child,
    time: Duration,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn contains(said: &[u8], text: &str) -> bool {
    said.windows(text.len()).any(|window| window == text.as_bytes())
}

fn until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain");
        thread::sleep(LOOK_AGAIN);
    }
}

fn memory_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
