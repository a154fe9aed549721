//! Imports and exports through a region, beside what a person would do without one: `qemu-img convert`, and for an
//! import `restic backup` of what it wrote, so that both sides end with a disk whose every block is stored once.
//! Prints medians; asserts nothing about time.
//!
//! `cargo bench -p calotype-server --bench transfer -- --disk PATH` with a raw disk; `--json` for a program to
//! read, `--quick` for fewer rounds.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]
#![expect(unreachable_pub, reason = "a program, in modules")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use calotype_api::images::ExportFormat;
use calotype_confined::{ConfinedDisk, Expected};
use calotype_disk::FormatName;

mod instances {
    #[expect(dead_code, reason = "another benchmark uses the rest of it")]
    pub mod report;
    #[expect(dead_code, reason = "another benchmark uses the rest of it")]
    pub mod stage;
}

use instances::report::Report;
use instances::stage::Stage;

/// What is imported, and how QEMU makes it.
const IMPORTS: [(&str, FormatName, &[&str]); 2] = [
    ("qcow2, zlib", FormatName::Qcow2, &["-c", "-O", "qcow2"]),
    ("vmdk, streamOptimized", FormatName::Vmdk, &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
];

/// What is exported, and how QEMU makes the same.
const EXPORTS: [(&str, ExportFormat, &[&str]); 5] = [
    ("qcow2, compressed", ExportFormat::Qcow2, &["-c", "-O", "qcow2"]),
    (
        "vmdk, streamOptimized",
        ExportFormat::Vmdk,
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
    ),
    ("vdi", ExportFormat::Vdi, &["-O", "vdi"]),
    ("vhd", ExportFormat::Vhd, &["-O", "vpc"]),
    ("raw", ExportFormat::Raw, &["-O", "raw"]),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if asked("disk-reader") {
        // The region starts its own program to read a foreign file: this one, here.
        return if calotype_confined::run().is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let disk = arguments.iter().skip_while(|word| *word != "--disk").nth(1).map(PathBuf::from);
    let Some(disk) = disk.filter(|disk| disk.is_file()) else {
        eprintln!("--disk PATH: a raw disk; `scripts/bench-corpus` makes one");
        return ExitCode::FAILURE;
    };
    let rounds = if asked("--quick") { 2 } else { 5 };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(&disk, rounds, asked("--json")));
    ExitCode::SUCCESS
}

async fn measure(disk: &Path, rounds: usize, as_json: bool) {
    let first = Stage::open().await;
    let mut report = Report::new(first.region.guests.hypervisor(), as_json);
    for (name, format, options) in IMPORTS {
        let heading = format!("import of a {name} disk");
        report.heading(&heading);
        let file = first.scratch().join("file");
        convert(disk, &file, options);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(import(&file, format).await);
            theirs.push(import_by_hand(&file, format));
        }
        let peer = "qemu-img convert, restic backup";
        report.row(&heading, "request to AVAILABLE, durable", ours, [(peer, theirs)]);
    }
    let stage = Stage::open().await;
    let file = stage.scratch().join("file");
    convert(disk, &file, &["-O", "qcow2"]);
    let object = stage.put("disk", &file).await;
    let image = stage.import(&object, Expected::Disk(FormatName::Qcow2)).await;
    for (name, format, options) in EXPORTS {
        let heading = format!("export as {name}");
        report.heading(&heading);
        let (mut ours, mut theirs, mut first_bytes) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let begin = Instant::now();
            first_bytes.extend(stage.export(&image, &format!("{name}-{round}"), format).await);
            ours.push(begin.elapsed());
            let target = first.scratch().join("exported");
            let begin = Instant::now();
            convert(disk, &target, options);
            theirs.push(begin.elapsed());
            std::fs::remove_file(&target).unwrap();
        }
        let peer = "qemu-img convert, fsync";
        report.row(&heading, "request to the object, durable", ours, [(peer, theirs)]);
        if !first_bytes.is_empty() {
            report.row(&heading, "until the first byte is written", first_bytes, []);
        }
    }
    verdicts(&first.scratch(), &mut report);
    report.finish();
}

/// How soon a file is refused, the start of the process that looks at it included.
fn verdicts(scratch: &Path, report: &mut Report) {
    let heading = "a hostile file";
    report.heading(heading);
    let file = scratch.join("hostile");
    let backing = ["create", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow"];
    run(Command::new("qemu-img").args(backing).arg(&file).arg("300G"));
    let verdict = || {
        let begin = Instant::now();
        let opened = ConfinedDisk::open(calotype_confined::Request {
            reader: vec![std::env::current_exe().unwrap().into(), "disk-reader".into()],
            source: Box::new(calotype_store::FileSource::open(&file).unwrap()),
            expected: Expected::Disk(FormatName::Qcow2),
            virtual_size_bytes_max: 400 << 30,
            file_size_bytes_max: 400 << 30,
            cancelled: Box::new(|| false),
        });
        assert!(matches!(opened, Err(calotype_confined::Error::Refused(_))));
        begin.elapsed()
    };
    let times = (0..50).map(|_| verdict()).collect();
    report.row(heading, "a backing file: until it is refused", times, []);
}

/// Into an empty region: what is stored already would not be stored again.
async fn import(file: &Path, format: FormatName) -> Duration {
    let stage = Stage::open().await;
    let object = stage.put("disk", file).await;
    let begin = Instant::now();
    stage.import(&object, Expected::Disk(format)).await;
    begin.elapsed()
}

fn import_by_hand(file: &Path, format: FormatName) -> Duration {
    let directory = tempfile::tempdir_in(file.parent().unwrap()).unwrap();
    let (raw, store) = (directory.path().join("raw"), directory.path().join("store"));
    let restic = |words: &[&str]| {
        run(Command::new("restic")
            .args(["--no-cache", "--repo", store.to_str().unwrap()])
            .args(words)
            .env("RESTIC_PASSWORD", "bench"));
    };
    restic(&["init"]);
    let begin = Instant::now();
    let from = format.as_str().to_lowercase();
    run(Command::new("qemu-img").args(["convert", "-f", &from, "-O", "raw"]).arg(file).arg(&raw));
    restic(&["backup", raw.to_str().unwrap()]);
    begin.elapsed()
}

fn convert(from: &Path, to: &Path, options: &[&str]) {
    run(Command::new("qemu-img").args(["convert", "-f", "raw"]).args(options).arg(from).arg(to));
    std::fs::File::open(to).unwrap().sync_all().unwrap();
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
