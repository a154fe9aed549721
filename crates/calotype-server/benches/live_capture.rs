//! How long a guest's writes wait while its disk is captured under it: a loop in a guest of Tiny Linux
//! writes the time to a filesystem that is mounted `sync`, so that each write is on the disk when
//! it returns, and tells the longest pause of each second on its console. Prints medians; asserts
//! nothing about time.
//!
//! `cargo bench -p calotype-server --bench live_capture`; `-- --json` for a program to read, `-- --quick`
//! for fewer rounds. `docs/live-capture.md` says what each number means.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(unreachable_pub, reason = "a program, in modules")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use calotype_platform_image::{Recipe, build};
use serde_json::json;

mod instances {
    #[expect(dead_code, reason = "another benchmark uses the rest of it")]
    pub mod report;
    #[expect(dead_code, reason = "another benchmark uses the rest of it")]
    pub mod stage;
}

use instances::report::Report;
use instances::stage::Stage;

/// The guest's loop, over and over the same file. The clock is read when a write is on the disk, and never while the console is
/// written to.
const LOOP: &str = r#"#!/bin/bash
dd if=/dev/zero of=/var/beats bs=1M count=1
sync
mount -o remount,sync /
exec 4>/dev/console
while :; do
	exec 3<>/var/beats
	longest=0 writes=0
	begin=${EPOCHREALTIME/./}
	last=$begin
	while ((last < begin + 1000000)); do
		echo $last >&3
		now=${EPOCHREALTIME/./}
		((writes += 1, now - last > longest)) && longest=$((now - last))
		last=$now
	done
	echo "pause $longest of $writes" >&4
done
"#;

/// Seconds until the guest's journal has gone round: from then on its writes need nothing of the image.
const SETTLING_SECONDS: usize = 10;
/// Seconds without a capture before each, to compare with.
const QUIET_SECONDS: usize = 3;
/// A guest that says nothing for so long never will.
const PATIENCE: Duration = Duration::from_mins(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() -> ExitCode {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    if asked("freeze-guard") {
        // The region starts its own program as the guard of a freeze: this one, here.
        let guarded = calotype_vm::run_freeze_guard().await;
        return if guarded.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let rounds = if asked("--quick") { 3 } else { 9 };
    tokio::select! {
        () = measure(rounds, asked("--json")) => ExitCode::SUCCESS,
        // The region is dropped, and its guest with it.
        _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
    }
}

async fn measure(rounds: usize, as_json: bool) {
    let stage = Stage::open().await;
    let mut report = Report::new(stage.region.guests.hypervisor(), as_json);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("platform-images");
    let built = build(Recipe::Tiny, &cache, &mut |_, _| ()).unwrap();
    std::fs::copy(built.disk, stage.disk("tiny")).unwrap();
    let image = stage.register("tiny").await;
    let user_data = data_encoding::BASE64.encode(LOOP.as_bytes());
    let id = stage.launch_with(&image, &json!({ "user_data": user_data })).await;
    let guest = Guest { console: stage.console(&id).await };
    guest.pauses_after(0, SETTLING_SECONDS).await;

    let ways = ["crash-consistent", "quiesced"];
    let mut measured: [Measured; 2] = Default::default();
    for _ in 0..rounds {
        for (way, measured) in ways.iter().zip(&mut measured) {
            let quiet = guest.pauses_after(guest.shown(), QUIET_SECONDS).await;
            let (begin, shown) = (Instant::now(), guest.shown());
            let capturing = stage.submit_capture_tagged(&id, way).await;
            let log = stage.log_of(&capturing).await;
            measured.available.push(begin.elapsed());
            // The second in which the capture ended is not over yet.
            let pauses = guest.pauses_after(shown, 1).await;
            measured.pauses.push(pauses.into_iter().max().unwrap());
            measured.quiet.push(quiet.into_iter().max().unwrap());
            measured.told.push(told(&log));
        }
    }
    stage.terminate(&id).await;
    for (way, measured) in ways.iter().zip(measured) {
        let heading = format!("{way} capture of an instance that runs and writes");
        report.heading(&heading);
        let quiet = format!("the {QUIET_SECONDS} s before");
        report.row(
            &heading,
            "longest pause between two durable writes",
            measured.pauses,
            [(quiet.as_str(), measured.quiet)],
        );
        let what = if *way == "quiesced" { "frozen, as the host sees it" } else { "QEMU's switch" };
        report.row(&heading, what, measured.told, []);
        report.row(&heading, "request to AVAILABLE, durable", measured.available, []);
    }
    report.finish();
}

#[derive(Default)]
struct Measured {
    pauses: Vec<Duration>,
    quiet: Vec<Duration>,
    told: Vec<Duration>,
    available: Vec<Duration>,
}

/// What the work request tells of the seal: `… for 12 ms`.
fn told(log: &[String]) -> Duration {
    let line = log.iter().find(|line| line.contains("disk sealed while it ran")).unwrap();
    let number = line.rsplit(' ').nth(1).unwrap();
    Duration::from_millis(number.parse().unwrap())
}

/// The guest, as its console shows it.
struct Guest {
    console: PathBuf,
}

impl Guest {
    /// Bytes that the console has shown.
    fn shown(&self) -> usize {
        std::fs::read(&self.console).map_or(0, |bytes| bytes.len())
    }

    /// The longest pauses of the seconds that end after so many bytes, at least `count` of them.
    async fn pauses_after(&self, shown: usize, count: usize) -> Vec<Duration> {
        let begin = Instant::now();
        loop {
            let log = std::fs::read(&self.console).unwrap_or_default();
            let new = String::from_utf8_lossy(log.get(shown..).unwrap_or_default()).into_owned();
            let whole = new.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let pause = |line: &str| {
                let (pause, _) = line.trim().strip_prefix("pause ")?.split_once(" of ")?;
                pause.parse().ok().map(Duration::from_micros)
            };
            let pauses: Vec<_> = whole.lines().filter_map(pause).collect();
            if pauses.len() >= count {
                return pauses;
            }
            assert!(begin.elapsed() < PATIENCE, "the guest does not write: {new}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
