//! Launch, capture and downtime of instances beside QEMU's own tools, in the same run on the same
//! disks. Prints medians and ratios; asserts nothing about time.
//!
//! `cargo bench -p calotype-server --bench instances`; `-- --json` for a program to read, `-- --quick`
//! for fewer rounds. `docs/benchmarks.md` says what each number means.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]
#![expect(unreachable_pub, reason = "a program, in modules")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use calotype_api::Ocid;

mod instances {
    pub mod beats;
    pub mod peer;
    pub mod report;
    #[expect(dead_code, reason = "another benchmark uses the rest of it")]
    pub mod stage;
}

use instances::beats::{self, Watch};
use instances::peer::{self, Plain, text};
use instances::report::Report;
use instances::stage::Stage;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const CHUNK: u64 = 65_536;

/// Data in a disk, spread over it: like a small system on a large disk.
const DATA_BYTES: u64 = 512 * MIB;
/// What an instance has changed when it is captured.
const DIRTY_BYTES: u64 = 8 * MIB;
/// How long a guest lives between two downtimes.
const LIFE_BEATS: u64 = 50;
/// Bytes of a beat on the console.
const BEAT_BYTES: u64 = 9;

#[tokio::main]
async fn main() -> ExitCode {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    if let Err(missing) = peer::check_tools() {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    let rounds = if asked("--quick") { 2 } else { 7 };
    let measures = async {
        let mut bench = Bench::new(rounds, asked("--json")).await;
        bench.launch(GIB).await;
        bench.launch(100 * GIB).await;
        bench.capture(3 * GIB / 2).await;
        bench.capture(20 * GIB).await;
        bench.downtime(3 * GIB / 2).await;
        bench.report.finish();
    };
    tokio::select! {
        () = measures => ExitCode::SUCCESS,
        // The region is dropped, and its guests with it.
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
    }
}

struct Bench {
    stage: Stage,
    report: Report,
    rounds: usize,
    /// No two rounds write the same bytes: the store would know them.
    seed: u64,
}

impl Bench {
    async fn new(rounds: usize, as_json: bool) -> Self {
        let stage = Stage::open().await;
        beats::check_source(&stage.scratch());
        let report = Report::new(stage.region.guests.hypervisor(), as_json);
        Self { stage, report, rounds, seed: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stage.scratch().join(name)
    }

    /// Guests of QEMU alone that are like this one of the region.
    fn plain(&self, id: &Ocid) -> Plain {
        let machine = self.stage.region.guests.machine(id).unwrap();
        let accelerator = self.stage.region.guests.hypervisor().accelerator();
        Plain::like(&machine, accelerator, self.stage.scratch())
    }

    /// From the request to a running guest, and to the guest's first sign of life.
    async fn launch(&mut self, size_bytes: u64) {
        let heading = format!("launch from an image of {} GiB", size_bytes / GIB);
        self.report.heading(&heading);
        let name = format!("launch-{}", size_bytes / GIB);
        let disk = self.stage.disk(&name);
        write_disk(&disk, size_bytes);
        let image = self.stage.register(&name).await;
        let overlay = self.path("plain.qcow2");
        let (mut ours, mut created, mut plain) = (Phases::default(), Vec::new(), Phases::default());
        for _ in 0..self.rounds {
            let begin = Instant::now();
            let id = self.stage.launch(&image).await;
            ours.running.push(begin.elapsed());
            beats::beyond(&self.stage.console(&id).await, 0);
            ours.beating.push(begin.elapsed());
            let plainly = self.plain(&id);
            self.stage.terminate(&id).await;

            let _ = fs::remove_file(&overlay);
            let beaten = beats::length(&plainly.console());
            let begin = Instant::now();
            peer::create_overlay(&overlay, &disk, "raw");
            created.push(begin.elapsed());
            let guest = plainly.start(&overlay);
            plain.running.push(begin.elapsed());
            beats::beyond(&plainly.console(), beaten);
            plain.beating.push(begin.elapsed());
            drop(guest);
        }
        fs::remove_file(disk).unwrap();
        self.report.row(
            &heading,
            "request to work request SUCCEEDED",
            ours.running,
            [
                ("qemu-img create -b, no guest", created),
                ("qemu-img create -b, QEMU running", plain.running),
            ],
        );
        self.report.row(
            &heading,
            "request to the guest's first sign of life",
            ours.beating,
            [("qemu-img create -b, QEMU, first sign of life", plain.beating)],
        );
    }

    /// From `CreateImage` of a stopped instance to the image AVAILABLE.
    async fn capture(&mut self, size_bytes: u64) {
        let size = size_bytes as f64 / GIB as f64;
        let heading = format!("capture of a stopped instance, 8 MiB dirty on {size:.1} GiB");
        self.report.heading(&heading);
        let name = format!("capture-{}", size_bytes / MIB);
        let disk = self.stage.disk(&name);
        write_disk(&disk, size_bytes);
        let image = self.stage.register(&name).await;
        let id = self.stage.launch(&image).await;
        self.stage.stop(&id).await;
        let (copy, target) = (self.path("copy.qcow2"), self.path("converted.qcow2"));
        let (mut ours, mut converted, mut synced) = (Vec::new(), Vec::new(), Vec::new());
        let mut committed = String::new();
        for _ in 0..self.rounds {
            let overlay = self.stage.overlay(&id).await;
            self.dirty(&overlay, &disk, size_bytes);
            fs::copy(&overlay, &copy).unwrap();
            sync(&copy);

            let begin = Instant::now();
            let capturing = self.stage.submit_capture(&id).await;
            committed = self.stage.available(&capturing).await;
            ours.push(begin.elapsed());

            for (times, durable) in [(&mut converted, false), (&mut synced, true)] {
                let begin = Instant::now();
                peer::convert(&peer::chain(&copy, &disk), &target);
                if durable {
                    sync(&target);
                }
                times.push(begin.elapsed());
                fs::remove_file(&target).unwrap();
            }
        }
        self.stage.terminate(&id).await;
        fs::remove_file(disk).unwrap();
        self.report.row(
            &heading,
            "request to AVAILABLE, durable",
            ours,
            [("qemu-img convert", converted), ("qemu-img convert, fsync", synced)],
        );
        self.report.remark(&committed);
    }

    /// How long a running instance is away while it is captured.
    async fn downtime(&mut self, size_bytes: u64) {
        let size = size_bytes as f64 / GIB as f64;
        let heading = format!("capture of a running instance, 8 MiB dirty on {size:.1} GiB");
        self.report.heading(&heading);
        let disk = self.stage.disk("downtime");
        write_disk(&disk, size_bytes);
        let image = self.stage.register("downtime").await;
        let id = self.stage.launch(&image).await;
        let plain = self.plain(&id);
        let (mut ours, mut whole, mut sealed) =
            (Downtimes::default(), Downtimes::default(), Downtimes::default());
        for _ in 0..self.rounds {
            self.stage.stop(&id).await;
            let overlay = self.stage.overlay(&id).await;
            self.dirty(&overlay, &disk, size_bytes);
            let copies = ["whole.qcow2", "sealed.qcow2"].map(|name| self.path(name));
            for copy in &copies {
                fs::copy(&overlay, copy).unwrap();
                rebase(copy, &disk);
            }
            self.captured(&id, &mut ours).await;
            self.stage.stop(&id).await;
            self.converted(&plain, &copies[0], &mut whole);
            self.laid_over(&plain, &copies[1], &mut sealed);
            self.stage.start(&id).await;
        }
        self.stage.terminate(&id).await;
        fs::remove_file(disk).unwrap();
        let (convert, seal) = ("qemu-img convert between", "qemu-img create -b between, no image");
        let report = &mut self.report;
        report.row(
            &heading,
            "request to RUNNING again",
            ours.running,
            [(convert, whole.running), (seal, sealed.running)],
        );
        report.row(
            &heading,
            "the same without the guest's shutdown",
            ours.without_shutdown,
            [(convert, whole.without_shutdown), (seal, sealed.without_shutdown)],
        );
        report.row(
            &heading,
            "longest silence of the guest",
            ours.silence,
            [(convert, whole.silence), (seal, sealed.silence)],
        );
        report.row(
            &heading,
            "request to AVAILABLE, durable",
            ours.available,
            [("shut down, qemu-img convert, fsync", whole.available)],
        );
    }

    /// The region's way: the guest is back while the commit goes on.
    async fn captured(&self, id: &Ocid, times: &mut Downtimes) {
        let console = self.stage.console(id).await;
        let before = beats::length(&console);
        self.stage.start(id).await;
        beats::beyond(&console, before + LIFE_BEATS * BEAT_BYTES);
        let machine = self.stage.region.guests.machine(id).unwrap();
        let watch = Watch::new(console.clone());

        let begin = Instant::now();
        let capturing = self.stage.submit_capture(id).await;
        machine.exited().await;
        let gone = begin.elapsed();
        let beaten = beats::length(&console);
        self.stage.running(id).await;
        let running = begin.elapsed();
        let back = tokio::task::spawn_blocking({
            let console = console.clone();
            move || beats::beyond(&console, beaten + LIFE_BEATS * BEAT_BYTES)
        });
        self.stage.available(&capturing).await;
        times.available.push(begin.elapsed());
        back.await.unwrap();
        times.add(running, gone, watch.longest_silence());
    }

    /// By hand: off, copied whole, on.
    fn converted(&self, plain: &Plain, overlay: &Path, times: &mut Downtimes) {
        let target = self.path("converted.qcow2");
        by_hand(plain, overlay, times, |begin, times| {
            run_convert(overlay, &target);
            sync(&target);
            times.available.push(begin.elapsed());
            overlay.to_owned()
        });
        fs::remove_file(target).unwrap();
    }

    /// By hand, as the region does it: off, a new overlay over the old, on. No image comes of it.
    fn laid_over(&self, plain: &Plain, overlay: &Path, times: &mut Downtimes) {
        let top = self.path("top.qcow2");
        let _ = fs::remove_file(&top);
        by_hand(plain, overlay, times, |_, _| {
            peer::create_overlay(&top, overlay, "qcow2");
            top.clone()
        });
    }

    /// Changes 8 MiB of a disk that no guest runs on, in chunks all over it but for its boot sector.
    fn dirty(&mut self, overlay: &Path, disk: &Path, size_bytes: u64) {
        let chunks = DIRTY_BYTES / CHUNK;
        let source = self.path("chunk");
        fs::create_dir_all(&source).unwrap();
        let mut arguments = vec!["--image-opts".to_owned(), peer::chain(overlay, disk)];
        for chunk in 0..chunks {
            self.seed += 1;
            let file = source.join(chunk.to_string());
            fs::write(&file, data(u64::MAX - self.seed, CHUNK as usize)).unwrap();
            let offset = MIB + chunk * (size_bytes / chunks) / CHUNK * CHUNK;
            arguments.push("-c".into());
            arguments.push(format!("write -q -s {} {offset} {CHUNK}", text(&file)));
        }
        peer::run("qemu-io", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        fs::remove_dir_all(source).unwrap();
        sync(overlay);
    }
}

/// A plain guest that is shut down and started again with something `between`.
fn by_hand(
    plain: &Plain,
    overlay: &Path,
    times: &mut Downtimes,
    between: impl FnOnce(Instant, &mut Downtimes) -> PathBuf,
) {
    let console = plain.console();
    let before = beats::length(&console);
    let guest = plain.start(overlay);
    beats::beyond(&console, before + LIFE_BEATS * BEAT_BYTES);
    let watch = Watch::new(console.clone());

    let begin = Instant::now();
    guest.power_off();
    let gone = begin.elapsed();
    let beaten = beats::length(&console);
    let next = between(begin, times);
    let guest = plain.start(&next);
    let running = begin.elapsed();
    beats::beyond(&console, beaten + LIFE_BEATS * BEAT_BYTES);
    times.add(running, gone, watch.longest_silence());
    drop(guest);
}

#[derive(Default)]
struct Phases {
    running: Vec<Duration>,
    beating: Vec<Duration>,
}

#[derive(Default)]
struct Downtimes {
    running: Vec<Duration>,
    without_shutdown: Vec<Duration>,
    silence: Vec<Duration>,
    available: Vec<Duration>,
}

impl Downtimes {
    fn add(&mut self, running: Duration, gone: Duration, silence: Duration) {
        self.running.push(running);
        self.without_shutdown.push(running.saturating_sub(gone));
        self.silence.push(silence);
    }
}

/// Writes the disk that is over, by the name that the overlay has for it, into the overlay.
fn rebase(overlay: &Path, disk: &Path) {
    peer::run("qemu-img", &["rebase", "-u", "-F", "raw", "-b", text(disk), text(overlay)]);
    sync(overlay);
}

fn run_convert(overlay: &Path, target: &Path) {
    peer::run("qemu-img", &["convert", "-O", "qcow2", text(overlay), text(target)]);
}

fn sync(file: &Path) {
    File::open(file).unwrap().sync_all().unwrap();
}

/// A raw disk that the heartbeat boots from, with `DATA_BYTES` in pieces evenly spread over it.
fn write_disk(disk: &Path, size_bytes: u64) {
    let file = File::create(disk).unwrap();
    file.set_len(size_bytes).unwrap();
    let pieces = DATA_BYTES / MIB;
    for piece in 0..pieces {
        let offset = piece * (size_bytes / pieces) / MIB * MIB;
        file.write_all_at(&data(piece, MIB as usize), offset).unwrap();
    }
    file.write_all_at(beats::SECTOR, 0).unwrap();
    file.sync_all().unwrap();
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
