//! One process measured: how long, how much processor, how much memory. And what many of them amount to.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use wait4::Wait4;

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    /// Of the process and of all it started, system calls included.
    pub(crate) cpu: Duration,
    /// The most memory that was in use at once.
    pub(crate) peak_bytes: u64,
}

/// Several runs of the same work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(crate) fn walls(&self) -> Vec<Duration> {
        self.0.iter().map(|sample| sample.wall).collect()
    }

    pub(crate) fn cpu(&self) -> Duration {
        middle(self.0.iter().map(|sample| sample.cpu).collect())
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        middle(self.0.iter().map(|sample| sample.peak_bytes).collect())
    }
}

/// Runs a program to its end. With `durable`, the time until the file system it wrote to is synced counts
/// too.
pub(crate) fn process(command: &mut Command, durable: Option<&Path>) -> Sample {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let used = child.wait4().unwrap();
    if let Some(directory) = durable {
        sync_file_system(directory);
    }
    let wall = start.elapsed();
    assert!(used.status.success(), "{command:?}: {}", used.status);
    eprintln!("{:9.0} ms  {}", wall.as_secs_f64() * 1e3, command.get_program().display());
    Sample { wall, cpu: used.rusage.utime + used.rusage.stime, peak_bytes: used.rusage.maxrss }
}

/// Runs one of [`crate::child`]'s actions; answers what it printed as well.
pub(crate) fn ours(arguments: &[&str]) -> (Sample, Value) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--child").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let printed = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    let used = child.wait4().unwrap();
    let wall = start.elapsed();
    assert!(used.status.success(), "{arguments:?}: {}", used.status);
    let sample =
        Sample { wall, cpu: used.rusage.utime + used.rusage.stime, peak_bytes: used.rusage.maxrss };
    (sample, serde_json::from_str(&printed).unwrap())
}

/// Everything that was written there is on the disk afterwards.
pub(crate) fn sync_file_system(directory: &Path) {
    let directory = std::fs::File::open(directory).unwrap();
    rustix::fs::syncfs(&directory).unwrap();
}

pub(crate) fn timed(action: impl FnOnce()) -> Duration {
    let start = Instant::now();
    action();
    start.elapsed()
}

pub(crate) fn middle<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable_by(|one, other| one.partial_cmp(other).unwrap());
    values[values.len() / 2]
}
