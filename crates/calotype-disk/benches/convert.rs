//! Converting a disk to every format and back beside `qemu-img convert`, in the same run on the same
//! disk. Prints medians, also of the ratios of each round; asserts nothing about time.
//!
//! `cargo bench -p calotype-disk --bench convert -- --disk PATH` with a raw disk of your own, else one is
//! made; `--quick` for fewer rounds, `--json` for a program to read, `--only WORDS` for the rows whose
//! names have them. Every conversion is a process of its own, so that its memory is its own too.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use calotype_disk::{
    Body, Disk, Export, OpenLimits, Result, Source, open, qcow2, raw, vdi, vhd, vmdk,
};
use rustix::fs::{SeekFrom, seek};
use wait4::Wait4 as _;

const MIB: u64 = 1 << 20;
/// Of the disk that shows that memory does not grow with the size.
const LARGE_BYTES: u64 = 100 << 30;
/// The disk that is made when none is given: data at its beginning that deflates to a half, and a hole.
const MADE_BYTES: u64 = 1024 * MIB;
const MADE_DATA_BYTES: u64 = 256 * MIB;

/// A kind of file: its name here, what plans it, and QEMU's options for the same.
type Kind = (&'static str, fn(&dyn Disk) -> Result<Box<dyn Export>>, &'static [&'static str]);

const KINDS: &[Kind] = &[
    ("qcow2-compressed", qcow2::plan_compressed, &["-c", "-O", "qcow2"]),
    ("qcow2-sparse", qcow2::plan_sparse, &["-O", "qcow2"]),
    ("vmdk-stream", vmdk::plan_stream, &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
    ("vmdk-sparse", vmdk::plan_sparse, &["-O", "vmdk", "-o", "subformat=monolithicSparse"]),
    ("vdi", vdi::plan, &["-O", "vdi"]),
    ("vhd-dynamic", vhd::plan_dynamic, &["-O", "vpc", "-o", "force_size=on"]),
    ("vhd-fixed", vhd::plan_fixed, &["-O", "vpc", "-o", "subformat=fixed,force_size=on"]),
    ("raw", raw::plan, &["-O", "raw"]),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(convert) = arguments.iter().position(|argument| argument == "--convert") {
        convert_file(&arguments[convert + 1..]);
        return ExitCode::SUCCESS;
    }
    if Command::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("qemu-img is missing: `apt-get install --no-install-recommends qemu-utils`");
        return ExitCode::FAILURE;
    }
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        disk: value("--disk").map_or_else(|| make_disk(folder.path()), PathBuf::from),
        folder: folder.path().to_owned(),
        rounds: if asked("--quick") { 1 } else { 5 },
        only: value("--only").unwrap_or_default(),
        is_json: asked("--json"),
    };
    let rows = bench.run();
    if bench.is_json {
        println!("{{\"benchmark\":\"convert\",\"rounds\":{},\"rows\":[", bench.rounds);
        println!("{}\n]}}", rows.join(",\n"));
    }
    ExitCode::SUCCESS
}

/// The part of a process: kind, file of any format, file to write.
fn convert_file(arguments: &[String]) {
    let [kind, from, to] = arguments else { panic!("--convert KIND FROM TO") };
    let plan = KINDS.iter().find(|(name, ..)| name == kind).unwrap().1;
    let limits = OpenLimits { virtual_size_bytes_max: u64::MAX, file_size_bytes_max: u64::MAX };
    let source = Box::new(SparseFile(File::open(from).unwrap()));
    let disk = open(source, None, &limits).unwrap().1;
    let export = plan(disk.as_ref()).unwrap();
    let file = File::create(to).unwrap();
    let mut body = FileBody { file: &file, position: export.head_bytes() };
    let head = export.write(disk.as_ref(), &mut body).unwrap();
    file.write_all_at(&head, 0).unwrap();
    file.set_len(body.position).unwrap();
}

struct SparseFile(File);

impl Source for SparseFile {
    fn length_bytes(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> std::io::Result<(u64, bool)> {
        let data = seek(&self.0, SeekFrom::Data(offset)).unwrap_or(self.length_bytes());
        if data > offset {
            return Ok((data - offset, false));
        }
        Ok((seek(&self.0, SeekFrom::Hole(offset))? - offset, true))
    }
}

/// A file with holes for zeros, as `qemu-img` makes it.
struct FileBody<'a> {
    file: &'a File,
    position: u64,
}

impl Body for FileBody<'_> {
    fn append(&mut self, bytes: Vec<u8>) -> std::io::Result<()> {
        self.append_slice(&bytes)
    }

    fn append_slice(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn append_zeros(&mut self, length_bytes: u64) -> std::io::Result<()> {
        self.position += length_bytes;
        Ok(())
    }
}

struct Bench {
    disk: PathBuf,
    folder: PathBuf,
    rounds: usize,
    only: String,
    is_json: bool,
}

/// What one process took.
struct Took {
    seconds: f64,
    memory_bytes: u64,
    file_bytes: u64,
}

impl Bench {
    fn run(&self) -> Vec<String> {
        if !self.is_json {
            println!(
                "{:<26} {:>8} {:>8} {:>7} {:>9} {:>9} {:>8} {:>8}",
                "work", "ours s", "qemu s", "ratio", "ours MB", "qemu MB", "ours MiB", "qemu MiB"
            );
        }
        let mut rows = Vec::new();
        for &(kind, _, options) in KINDS {
            rows.extend(self.row(&format!("write {kind}"), &self.disk, kind, options));
        }
        for &(kind, _, options) in KINDS {
            let name = format!("read {kind}");
            if kind != "raw" && name.contains(&self.only) {
                let from = self.folder.join("from");
                qemu_img(&self.disk, &from, "raw", options);
                rows.extend(self.row(&name, &from, "raw", &["-O", "raw"]));
            }
        }
        let large = self.folder.join("large");
        ours(&self.disk, &large, "raw");
        File::options().write(true).open(&large).unwrap().set_len(LARGE_BYTES).unwrap();
        for &(kind, _, options) in KINDS {
            rows.extend(self.row(&format!("100 GiB {kind}"), &large, kind, options));
        }
        rows
    }

    /// Rounds of ours and QEMU's, by turns.
    fn row(&self, name: &str, from: &Path, kind: &str, options: &[&str]) -> Option<String> {
        if !name.contains(&self.only) {
            return None;
        }
        let to = self.folder.join("to");
        let format = if name.starts_with("read") { format_of(name) } else { "raw" };
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            let own = ours(from, &to, kind);
            rounds.push((own, qemu_img(from, &to, format, options)));
        }
        let median_of = |of: fn(&(Took, Took)) -> f64| median(rounds.iter().map(of).collect());
        let figures = [
            median_of(|(own, _)| own.seconds),
            median_of(|(_, peer)| peer.seconds),
            median_of(|(own, peer)| peer.seconds / own.seconds),
            median_of(|(own, _)| own.file_bytes as f64 / 1e6),
            median_of(|(_, peer)| peer.file_bytes as f64 / 1e6),
            median_of(|(own, _)| own.memory_bytes as f64 / MIB as f64),
            median_of(|(_, peer)| peer.memory_bytes as f64 / MIB as f64),
        ];
        let [own, peer, ratio, own_file, peer_file, own_memory, peer_memory] = figures;
        if !self.is_json {
            println!(
                "{name:<26} {own:>8.2} {peer:>8.2} {ratio:>6.1}x {own_file:>9.1} {peer_file:>9.1} \
                 {own_memory:>8.1} {peer_memory:>8.1}"
            );
        }
        Some(format!(
            "{{\"work\":\"{name}\",\"seconds\":{own:.3},\"qemu_seconds\":{peer:.3},\
             \"ratio\":{ratio:.2},\"file_mb\":{own_file:.1},\"qemu_file_mb\":{peer_file:.1},\
             \"memory_mib\":{own_memory:.1},\"qemu_memory_mib\":{peer_memory:.1}}}"
        ))
    }
}

fn ours(from: &Path, to: &Path, kind: &str) -> Took {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--convert", kind]).args([from, to]);
    measured(command, to)
}

fn qemu_img(from: &Path, to: &Path, format: &str, options: &[&str]) -> Took {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", format]).args(options).args([from, to]);
    measured(command, to)
}

/// QEMU's name of the format of a row's file.
fn format_of(name: &str) -> &'static str {
    ["qcow2", "vmdk", "vdi"].into_iter().find(|format| name.contains(format)).unwrap_or("vpc")
}

fn measured(mut command: Command, to: &Path) -> Took {
    let _ = std::fs::remove_file(to);
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let ended = child.wait4().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!(ended.status.success(), "{command:?}");
    let file_bytes = std::os::unix::fs::MetadataExt::blocks(&to.metadata().unwrap()) * 512;
    Took { seconds, memory_bytes: ended.rusage.maxrss, file_bytes }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Half of every piece does not deflate, the other half does.
fn make_disk(folder: &Path) -> PathBuf {
    let path = folder.join("disk");
    let file = File::create(&path).unwrap();
    file.set_len(MADE_BYTES).unwrap();
    let mut state = 1_u64;
    for offset in (0..MADE_DATA_BYTES).step_by(4096) {
        let mut piece = [0; 4096];
        for word in piece[..2048].as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_le_bytes();
        }
        piece[2048..].fill(offset as u8 | 1);
        file.write_all_at(&piece, offset).unwrap();
    }
    path
}
