//! Freezing a guest's filesystems for a moment, with a thaw that comes whatever dies.
//!
//! Who freezes is a process of its own, the guard ([`crate::run_freeze_guard`]): it holds the agent's
//! channel, freezes, and thaws on the first of: the word to do so, the end of the service (its
//! standard input closes), a deadline of its own, a signal. It goes on until the agent confirms.
//!
//! | what dies while the guest is frozen | who thaws |
//! |---|---|
//! | the service | the guard, at once |
//! | the guard | the service, at once |
//! | both | the service when it adopts the machine: the mark says so |
//! | QEMU | nobody: a new guest begins unfrozen |
//!
//! The mark is a file of the machine that is not empty while filesystems may be frozen. Who talks
//! with the agent holds its lock, so that nobody thaws under another's hands.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::agent::{read_line, thaw_for_certain};
use crate::error::{Error, ErrorKind, Result};
use crate::files::Layout;
use crate::limits::{
    FREEZE_MAX, GUARD_LINE_BYTES_MAX, GUARD_TIMEOUT, THAW_RETRY_DELAY, THAW_WAIT_MAX,
};
use crate::process::Process;

/// What the guard is told first, as a line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The agent's channel.
    pub(crate) socket: PathBuf,
    /// The mark that it sets.
    pub(crate) mark: PathBuf,
    /// From the order to freeze to the order to thaw, at most.
    pub(crate) frozen_max_ms: u64,
}

/// What the guard says, a line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The guest is not frozen, and why; the last word.
    Refused { agent_answers: bool, why: String },
    /// The filesystems are frozen, so long after the order to freeze them.
    Frozen { filesystems: u64, after_ms: u64 },
    /// Thawed, confirmed; the last word. `in_time`: because of [`THAW`] and nothing else.
    Thawed { in_time: bool },
}

/// What the guard is told when the guest shall go on.
pub(crate) const THAW: &str = "thaw";

/// How the guard is started.
#[derive(Debug, Clone)]
pub(crate) struct GuardCommand(pub(crate) Vec<OsString>);

impl Default for GuardCommand {
    /// This program, also when its file was replaced meanwhile, with the argument that makes it one.
    fn default() -> Self {
        Self(vec!["/proc/self/exe".into(), "freeze-guard".into()])
    }
}

/// What stands in a mark that is set; of one length, since one is written over the other.
const FREEZING: &[u8] = b"freezing\n";
const FROZEN: &[u8] = b"frozen  \n";

/// The file that says whether a guest may be frozen.
#[derive(Debug)]
pub(crate) struct Mark(File);

impl Mark {
    /// Whether the mark is set, now.
    pub(crate) fn is_set(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
    }

    /// `None` while somebody else has it. Freed when dropped, or when the process ends.
    pub(crate) fn take(path: &Path) -> Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(Error::io("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Error::io("lock", path)(error)),
        }
    }

    /// Before anything is frozen: from here on it may be. A crash of the host ends the guest, too, so
    /// nothing is synced.
    pub(crate) fn set(&self) -> std::io::Result<()> {
        self.0.write_all_at(FREEZING, 0)
    }

    /// When all of it is frozen: for people, and programs that look on.
    pub(crate) fn set_frozen(&self) {
        // The other text does as well.
        let _ = self.0.write_all_at(FROZEN, 0);
    }

    /// After the thaw was confirmed.
    pub(crate) fn clear(&self) {
        if let Err(error) = self.0.set_len(0) {
            tracing::warn!(%error, "a guest stays marked as frozen");
        }
    }
}

/// A guest whose filesystems are frozen. Dropping this thaws it, since the guard's input ends.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// When the agent was told to freeze, as far as can be known from here.
    pub(crate) since: Instant,
    guard: Guard,
    layout: Layout,
}

#[derive(Debug)]
struct Guard {
    child: Child,
    input: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Frozen {
    /// Freezes the guest's filesystems for [`FREEZE_MAX`] at most.
    ///
    /// # Errors
    /// `AgentMissing` and `NotFrozen`; the guest is not frozen then, or is being thawed.
    pub(crate) async fn begin(command: &GuardCommand, layout: &Layout) -> Result<Self> {
        let mut guard = Guard::start(command)?;
        let order = Order {
            socket: layout.agent_socket(),
            mark: layout.freeze_mark(),
            frozen_max_ms: u64::try_from(FREEZE_MAX.as_millis()).unwrap_or(u64::MAX),
        };
        let order = serde_json::to_string(&order).map_err(broken)?;
        let first = async {
            guard.tell(&order).await?;
            guard.report().await
        };
        match tokio::time::timeout(GUARD_TIMEOUT + FREEZE_MAX, first).await {
            Ok(Ok(Report::Frozen { filesystems, after_ms })) => {
                tracing::debug!(filesystems, after_ms, "the guest is frozen");
                let now = Instant::now();
                let since = now.checked_sub(Duration::from_millis(after_ms)).unwrap_or(now);
                Ok(Self { since, guard, layout: layout.clone() })
            }
            Ok(Ok(Report::Refused { agent_answers: true, why })) => {
                Err(Error::new(ErrorKind::NotFrozen, why))
            }
            Ok(Ok(Report::Refused { agent_answers: false, why })) => {
                Err(Error::new(ErrorKind::AgentMissing, why))
            }
            Ok(Ok(Report::Thawed { .. })) => Err(broken("it thaws what it did not freeze")),
            Ok(Err(error)) => {
                // It may have died after it froze.
                thaw_in_its_place(layout).await;
                Err(error)
            }
            Err(_) => Err(broken("it did not answer in time")),
        }
    }

    /// Lets the guest go on; returns when it does.
    ///
    /// # Errors
    /// `ThawedEarly` when it went on before. It is thawed in any case.
    pub(crate) async fn thaw(mut self) -> Result<()> {
        let told = async {
            self.guard.tell(THAW).await?;
            self.guard.report().await
        };
        let Ok(report) = tokio::time::timeout(THAW_WAIT_MAX, told).await else {
            let context =
                "the agent in the guest does not confirm the thaw; its guard goes on asking";
            return Err(Error::new(ErrorKind::TimedOut, context));
        };
        match report {
            Ok(Report::Thawed { in_time: true }) => Ok(()),
            Ok(_) => {
                let seconds = FREEZE_MAX.as_secs();
                let context = format!("its {seconds} seconds were over before its disk was sealed");
                Err(Error::new(ErrorKind::ThawedEarly, context))
            }
            Err(error) => {
                tracing::warn!(%error, "the guard of a freeze is gone: thawing in its place");
                let was_frozen = Mark::is_set(&self.layout.freeze_mark());
                thaw_in_its_place(&self.layout).await;
                // While the mark stood nobody had thawed.
                if was_frozen {
                    return Ok(());
                }
                let context = "its guard ended before its disk was sealed";
                Err(Error::because(ErrorKind::ThawedEarly, context, error))
            }
        }
    }
}

impl Guard {
    fn start(command: &GuardCommand) -> Result<Self> {
        let [program, arguments @ ..] = command.0.as_slice() else {
            return Err(broken("there is no command for it"));
        };
        let mut guard = Command::new(program);
        guard.args(arguments).current_dir("/").env_clear();
        guard.envs(
            std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "LD_LIBRARY_PATH"),
        );
        guard.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = guard.spawn().map_err(broken)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(broken("it has no pipes"));
        };
        Ok(Self { child, input, reports: BufReader::new(output) })
    }

    async fn tell(&mut self, line: &str) -> Result<()> {
        match self.input.write_all(format!("{line}\n").as_bytes()).await {
            // It has ended, before or after it read this: its report says what is to be known.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            told => told.map_err(broken),
        }
    }

    async fn report(&mut self) -> Result<Report> {
        loop {
            let line = read_line(&mut self.reports, GUARD_LINE_BYTES_MAX).await?;
            // Whatever else a program prints is not for us.
            if let Ok(report) = serde_json::from_slice(&line) {
                return Ok(report);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        tracing::trace!(pid = self.child.id(), "the guard of a freeze is let go of");
    }
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::because(ErrorKind::Io, "the process that guards a freeze does not work", cause)
}

/// Thaws a guest that nobody guards any more; at once when it is not frozen. Where a guard is left,
/// waits for it.
async fn thaw_what_was_left(layout: Layout) {
    while Mark::is_set(&layout.freeze_mark()) {
        match Mark::take(&layout.freeze_mark()) {
            Ok(Some(mark)) => {
                if Mark::is_set(&layout.freeze_mark()) {
                    thaw_for_certain(&layout.agent_socket(), None).await;
                    mark.clear();
                }
                return;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot look after a guest that may be frozen"),
        }
        tokio::time::sleep(THAW_RETRY_DELAY).await;
    }
}

/// For a guard that died. Goes on when nobody waits any more.
async fn thaw_in_its_place(layout: &Layout) {
    let thawing = tokio::spawn(thaw_what_was_left(layout.clone()));
    if tokio::time::timeout(THAW_WAIT_MAX, thawing).await.is_err() {
        tracing::warn!("the agent in the guest does not confirm the thaw; asking on");
    }
}

/// Sees to it that an adopted guest does not stay frozen.
pub(crate) fn thaw_adopted(layout: Layout, process: std::sync::Arc<Process>) {
    if !Mark::is_set(&layout.freeze_mark()) {
        return;
    }
    tracing::warn!(directory = %layout.directory.display(), "a guest may have been left frozen");
    tokio::spawn(async move {
        tokio::select! {
            () = thaw_what_was_left(layout) => tracing::info!("the guest is thawed"),
            () = process.exited() => {}
        }
    });
}

#[cfg(test)]
mod tests;
