//! A QEMU process by its pidfd: a number that was given to another process is never mistaken for it.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, ErrorKind, Result};

const PID_FILE_BYTES_MAX: u64 = 32;

/// A process that ran when this was made; the pidfd refers to it for ever.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
}

/// What the command line of a machine's QEMU holds, and no other process's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    /// The argument of `-name`.
    pub(crate) name: &'a str,
    /// The argument of `-pidfile`.
    pub(crate) pid_file: &'a Path,
}

impl Process {
    /// `None` when there is no such process.
    pub(crate) fn open(pid: u32) -> Result<Option<Self>> {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let failed = |error: std::io::Error| {
            Error::because(ErrorKind::Io, format!("cannot watch process {pid}"), error)
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        #[expect(deprecated, reason = "its successor is unsafe, and needless for an `OwnedFd`")]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE).map_err(failed)?;
        Ok(Some(Self { pid, pidfd }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Resolves when the process has ended, whether or not its parent knows already.
    pub(crate) async fn exited(&self) {
        if self.pidfd.readable().await.is_err() {
            // The runtime is shutting down, and this future with it.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut watched, Some(&at_once)), Ok(1..))
    }

    /// SIGKILL; no error when the process is gone.
    pub(crate) fn kill(&self) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::because(
                ErrorKind::Io,
                format!("cannot kill process {}", self.pid),
                std::io::Error::from(error),
            )),
        }
    }
}

/// Finds the machine's QEMU: by its pid file, or, when it had no time to write one, by looking at
/// every process.
pub(crate) fn find(identity: Identity<'_>) -> Result<Option<Process>> {
    match read_pid_file(identity.pid_file) {
        Some(pid) => open_if_it_is(pid, identity),
        None => find_among_all(identity),
    }
}

/// QEMU's user owns the file's directory: whatever stands there must not hold us up.
fn read_pid_file(path: &Path) -> Option<u32> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    let mut text = String::new();
    file.take(PID_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn find_among_all(identity: Identity<'_>) -> Result<Option<Process>> {
    let proc = Path::new("/proc");
    for entry in proc.read_dir().map_err(Error::io("list", proc))? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Looked at twice: cheaply, and again once the pidfd holds the process fast.
        if is_it(pid, identity)
            && let Some(process) = open_if_it_is(pid, identity)?
        {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

fn open_if_it_is(pid: u32, identity: Identity<'_>) -> Result<Option<Process>> {
    let Some(process) = Process::open(pid)? else { return Ok(None) };
    let same = is_it(pid, identity) && !process.is_gone();
    Ok(same.then_some(process))
}

/// A process that has ended has an empty command line.
fn is_it(pid: u32, identity: Identity<'_>) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let follows = |option: &str, value: &[u8]| {
        arguments.windows(2).any(|pair| pair == [option.as_bytes(), value])
    };
    follows("-name", identity.name.as_bytes())
        && follows("-pidfile", identity.pid_file.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(arguments: &[&str]) -> std::process::Child {
        std::process::Command::new("sh")
            .args(["-c", "read line"])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[tokio::test]
    async fn finds_a_process_by_its_command_line_alone() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("qemu.pid");
        let path = pid_file.to_str().unwrap();
        let mut child = sleeper(&["-name", "one", "-pidfile", path]);
        let identity = Identity { name: "one", pid_file: &pid_file };
        // Between fork and exec the command line is still ours.
        let process = loop {
            if let Some(process) = find(identity).unwrap() {
                break process;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(process.pid(), child.id());
        assert!(!process.is_gone());
        process.kill().unwrap();
        process.exited().await;
        assert!(process.is_gone());
        assert!(find(identity).unwrap().is_none(), "a zombie is gone");
        child.wait().unwrap();
        process.kill().unwrap();
    }

    #[tokio::test]
    async fn a_pid_file_that_names_another_process_finds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("qemu.pid");
        std::fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
        assert!(find(Identity { name: "one", pid_file: &pid_file }).unwrap().is_none());
    }
}
