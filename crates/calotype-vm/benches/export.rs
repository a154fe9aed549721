//! Random reads of 4 KiB over the NBD export beside `qemu-nbd` and `nbdkit`, in the same run on the same
//! disk. Prints medians, also of the ratios of each round; asserts nothing about time.
//!
//! `cargo bench -p calotype-vm --bench export`; `-- --json` for a program to read, `-- --quick` for
//! fewer rounds, `-- --only warm` or `cold` for a part, `-- --disk PATH` for the data of a raw disk of your own. Every server is a process of its own, so
//! that processor time and memory are its own too.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use calotype_disk::Disk;
use calotype_disk::raw::Raw;
use calotype_store::{FileSource, ManifestId, Options, Store};
use calotype_vm::BlockServer;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// The disk that is made when none is given: data at its beginning, and a hole.
const DISK_BYTES: u64 = 1536 * MIB;
const DATA_BYTES: u64 = 512 * MIB;

/// Enough for everything that is read.
const CACHE_LARGE: u64 = 2048 * MIB;
/// Enough for the nodes of the manifest: every chunk is read from its pack.
const CACHE_NODES: u64 = 2 * MIB;

/// What there must be, and the package that brings it.
const TOOLS: [(&str, &str); 4] =
    [("fio", "fio"), ("nbdkit", "nbdkit"), ("qemu-nbd", "qemu-utils"), ("qemu-img", "qemu-utils")];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(serve) = arguments.iter().position(|argument| argument == "--serve") {
        serve_until_input_ends(&arguments[serve + 1..]);
        return ExitCode::SUCCESS;
    }
    for (tool, package) in TOOLS {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("{tool} is missing: `apt-get install --no-install-recommends {package}`");
            return ExitCode::FAILURE;
        }
    }
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let rounds = if asked("--quick") { 3 } else { 7 };
    let bench = Bench::prepare(value("--disk").map(PathBuf::from), rounds);
    let report = bench.run(value("--only").as_deref().unwrap_or_default(), asked("--json"));
    if asked("--json") {
        println!("{:#}", json!({ "benchmark": "export", "rounds": rounds, "rows": report }));
    }
    ExitCode::SUCCESS
}

/// The part of a server's process: store, manifest, bytes of cache, socket.
fn serve_until_input_ends(arguments: &[String]) {
    let [store, manifest, cache_bytes, socket] = arguments else {
        panic!("--serve STORE MANIFEST CACHE_BYTES SOCKET")
    };
    let options = Options { cache_bytes: cache_bytes.parse().unwrap(), ..Options::default() };
    let store = Store::open_with(Path::new(store), &options).unwrap();
    let disk = store.disk(manifest.parse::<ManifestId>().unwrap()).unwrap();
    let resolve = move |_: &str| Some(Arc::clone(&disk) as Arc<dyn Disk>);
    let _server = BlockServer::bind(Path::new(socket), Arc::new(resolve)).unwrap();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

struct Bench {
    directory: tempfile::TempDir,
    disk: PathBuf,
    /// The part that is read: its length.
    read_bytes: u64,
    manifest: ManifestId,
    rounds: usize,
    runtime_seconds: u32,
}

impl Bench {
    fn prepare(disk: Option<PathBuf>, rounds: usize) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (disk, read_bytes) = match disk {
            Some(disk) => pack_disk(&disk, &directory.path().join("disk.raw")),
            None => (make_disk(&directory.path().join("disk.raw")), DATA_BYTES),
        };
        let store = Store::open(&directory.path().join("store")).unwrap();
        let raw = Raw::open(Box::new(FileSource::open(&disk).unwrap())).unwrap();
        let manifest = store.commit(&raw, None, &()).unwrap().manifest;
        let bench = Self { directory, disk, read_bytes, manifest, rounds, runtime_seconds: 2 };
        let disk = text(&bench.disk);
        let overlay = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk];
        run("qemu-img", &[&overlay[..], &[&bench.path("overlay.qcow2")]].concat());
        let compress = ["convert", "-c", "-f", "raw", "-O", "qcow2", disk];
        run("qemu-img", &[&compress[..], &[&bench.path("compressed.qcow2")]].concat());
        bench
    }

    fn path(&self, name: &str) -> String {
        text(&self.directory.path().join(name)).to_owned()
    }

    fn run(&self, only: &str, as_json: bool) -> Vec<Value> {
        let mut rows = Vec::new();
        for (heading, cache_bytes, peer, targets) in [
            ("warm", CACHE_LARGE, "overlay.qcow2", [1.2, 1.5]),
            ("cold, compressed", CACHE_NODES, "compressed.qcow2", [2.0, 2.0]),
        ] {
            if !heading.starts_with(only) {
                continue;
            }
            let servers = [self.ours(cache_bytes), self.qemu_nbd(peer), self.nbdkit()];
            for (depth, target) in [1, 32].into_iter().zip(targets) {
                rows.extend(self.measure(heading, &servers, depth, target, as_json));
            }
        }
        rows
    }

    /// Round by round against each server; the first is ours, the second the peer.
    fn measure(
        &self,
        heading: &str,
        servers: &[Server],
        depth: u32,
        target: f64,
        as_json: bool,
    ) -> Vec<Value> {
        let mut results = vec![Vec::new(); servers.len()];
        // The first round fills the caches and does not count.
        for round in 0..=self.rounds {
            for (server, results) in servers.iter().zip(&mut results) {
                let sample = self.sample(server, depth);
                if round > 0 {
                    results.push(sample);
                }
            }
        }
        let peer = &results[1];
        let mut rows = Vec::new();
        for (server, samples) in servers.iter().zip(&results) {
            let iops = middle(samples.iter().map(|sample| sample.iops));
            let cpu = middle(samples.iter().map(|sample| sample.cpu_us));
            let median = middle(samples.iter().map(|sample| sample.latency_us));
            // Of each round by itself: the machine is not the same in all of them.
            let beside = |(ours, peer): (&Sample, &Sample)| ours.iops / peer.iops;
            let (ratio, memory) = (middle(samples.iter().zip(peer).map(beside)), server.peak_mib());
            if !as_json {
                let name = server.name;
                println!(
                    "{heading:17} depth {depth:2}  {name:24} {iops:8.0} IOPS {ratio:5.2}x \
                     {median:7.1} us {cpu:6.1} us cpu {memory:6} MiB",
                );
            }
            rows.push(json!({
                "work": heading, "depth": depth, "server": server.name, "iops": iops,
                "ratio": ratio, "target": target, "mean_latency_us": median,
                "server_cpu_us_per_read": cpu, "server_peak_mib": memory,
                "all_iops": samples.iter().map(|sample| sample.iops).collect::<Vec<_>>(),
            }));
        }
        rows
    }

    fn sample(&self, server: &Server, depth: u32) -> Sample {
        let cpu_us = server.cpu_us();
        let output = Command::new("fio")
            .args(["--name=read", "--ioengine=nbd", "--rw=randread", "--bs=4k", "--time_based"])
            .args(["--output-format=json", "--randrepeat=0"])
            .arg(format!("--uri={}", server.uri()))
            .arg(format!("--iodepth={depth}"))
            .arg(format!("--size={}", self.read_bytes))
            .arg(format!("--runtime={}", self.runtime_seconds))
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        // What the engine says comes first.
        let printed = String::from_utf8(output.stdout).unwrap();
        let report = printed.find('{').map(|begin| &printed[begin..]).unwrap_or_default();
        let report: Value = serde_json::from_str(report).unwrap_or_else(|_| {
            panic!("fio: {printed}{}", String::from_utf8_lossy(&output.stderr));
        });
        let read = &report["jobs"][0]["read"];
        assert_eq!(report["jobs"][0]["error"], 0, "fio failed");
        let reads = read["total_ios"].as_f64().unwrap();
        Sample {
            iops: read["iops"].as_f64().unwrap(),
            latency_us: read["clat_ns"]["mean"].as_f64().unwrap() / 1e3,
            cpu_us: (server.cpu_us() - cpu_us) / reads,
        }
    }

    fn ours(&self, cache_bytes: u64) -> Server {
        let socket = self.path(&format!("ours-{cache_bytes}"));
        let command = Command::new(std::env::current_exe().unwrap());
        let (store, manifest) = (self.path("store"), self.manifest.to_string());
        let cache_bytes = cache_bytes.to_string();
        Server::start("calotype", command, &["--serve", &store, &manifest, &cache_bytes], socket)
    }

    fn qemu_nbd(&self, file: &str) -> Server {
        let (socket, file) = (self.path(&format!("{file}.nbd")), self.path(file));
        let words = ["-r", "-t", "--shared=8", "-f", "qcow2", &file, "-k"];
        Server::start("qemu-nbd", Command::new("qemu-nbd"), &words, socket)
    }

    /// A plain file, uncompressed: what one process that copies from the page cache can reach.
    fn nbdkit(&self) -> Server {
        let socket = self.path("nbdkit");
        let words = ["-f", "-r", "file", text(&self.disk), "-U"];
        Server::start("nbdkit, plain file", Command::new("nbdkit"), &words, socket)
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    iops: f64,
    latency_us: f64,
    /// Of the server, for each read.
    cpu_us: f64,
}

/// A server's process, ended when dropped.
struct Server {
    name: &'static str,
    child: Child,
    socket: String,
}

impl Server {
    /// Returns when its socket is there; the socket is its last argument.
    fn start(name: &'static str, mut command: Command, words: &[&str], socket: String) -> Self {
        let _ = std::fs::remove_file(&socket);
        let child = command.args(words).arg(&socket).stdin(Stdio::piped()).spawn().unwrap();
        let server = Self { name, child, socket };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !Path::new(&server.socket).exists() {
            assert!(Instant::now() < deadline, "{name} did not start");
            thread::sleep(Duration::from_millis(5));
        }
        server
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket)
    }

    /// Of all its threads, system calls included; the kernel counts in hundredths of a second.
    fn cpu_us(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields after the name, which may hold blanks itself: utime and stime are the 12th and 13th.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks as f64 * 10_000.0
    }

    fn peak_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 512 MiB of data at the beginning of 1.5 GiB.
fn make_disk(path: &Path) -> PathBuf {
    let file = File::create(path).unwrap();
    file.set_len(DISK_BYTES).unwrap();
    for piece in 0..DATA_BYTES / MIB {
        file.write_all_at(&data(piece), piece * MIB).unwrap();
    }
    path.to_path_buf()
}

/// The data of another disk without its holes, and its length: a read of a hole measures nothing.
fn pack_disk(disk: &Path, path: &Path) -> (PathBuf, u64) {
    let (mut from, to) = (File::open(disk).unwrap(), File::create(path).unwrap());
    let mut data_bytes = 0;
    let mut piece = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut piece).unwrap();
        if length == 0 {
            break;
        }
        if piece[..length].iter().any(|byte| *byte != 0) {
            to.write_all_at(&piece[..length], data_bytes).unwrap();
            data_bytes += length as u64;
        }
    }
    to.set_len(DISK_BYTES.max(data_bytes.next_multiple_of(MIB))).unwrap();
    (path.to_path_buf(), data_bytes / 4096 * 4096)
}

/// 1 MiB, half noise and half words, different for every seed: compressible about as much as a system is.
fn data(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; MIB as usize];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    for block in bytes.chunks_mut(64) {
        // Letters out of few, in 24 of 64 bytes; the same again in the next 16.
        for byte in &mut block[8..32] {
            *byte = b'a' + *byte % 4;
        }
        block.copy_within(8..24, 48);
    }
    bytes
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(tool: &str, arguments: &[&str]) {
    let status = Command::new(tool).args(arguments).status().unwrap();
    assert!(status.success(), "{tool} {arguments:?}");
}
