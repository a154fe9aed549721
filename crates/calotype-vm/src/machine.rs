//! A running machine: its control, its power and its disk.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::console::{Console, ConsoleSession};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Layout, Owner};
use crate::freeze::{self, GuardCommand};
use crate::limits::KILL_TIMEOUT;
use crate::process::Process;
use crate::qemu;
use crate::qmp::{Event, Qmp};
use crate::spec::MachineSpec;

mod chain;
mod seal;

pub use seal::{Consistency, Sealed};

/// What all machines of a host have in common.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Whom QEMU's files are given to.
    pub(crate) owner: Option<Owner>,
    /// The process that guards freezes.
    pub(crate) guard: GuardCommand,
}

/// A handle on a running QEMU process. Dropping it never ends the guest.
#[derive(Debug, Clone)]
pub struct Machine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    process: Arc<Process>,
    qmp: Qmp,
    console: Console,
    layout: Layout,
    host: Host,
    spec: Mutex<MachineSpec>,
    /// One change of the block graph at a time.
    graph: tokio::sync::Mutex<()>,
}

/// What QEMU says of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GuestStatus {
    /// The guest runs.
    Running,
    /// Started, but no guest instruction has run.
    Prelaunch,
    /// Stopped by a command.
    Paused,
    /// Stopped because its disk failed, for want of space on the host for example.
    IoError,
    /// The guest powered off, and QEMU is about to end.
    Shutdown,
    /// Something else: a panic, an internal error.
    Broken,
}

/// What the guest did with its disk since QEMU started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskStatistics {
    /// Bytes the guest read.
    pub read_bytes: u64,
    /// Bytes the guest wrote.
    pub written_bytes: u64,
    /// Read requests.
    pub reads: u64,
    /// Write requests.
    pub writes: u64,
    /// Flush requests.
    pub flushes: u64,
    /// Requests that failed.
    pub failed: u64,
}

impl Machine {
    pub(crate) fn new(
        process: Arc<Process>,
        qmp: Qmp,
        console: Console,
        spec: MachineSpec,
        host: Host,
    ) -> Self {
        let layout = Layout::new(&spec.directory);
        let (spec, graph) = (Mutex::new(spec), tokio::sync::Mutex::new(()));
        Self { inner: Arc::new(Inner { process, qmp, console, layout, host, spec, graph }) }
    }

    /// Thaws the guest in the background if it was left frozen.
    pub(crate) fn look_after_a_freeze(&self) {
        freeze::thaw_adopted(self.inner.layout.clone(), Arc::clone(&self.inner.process));
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.inner.process.pid()
    }

    /// The machine as it is now: [`Machine::seal`] and [`Machine::rebase`] change its boot
    /// disk.
    pub fn spec(&self) -> MachineSpec {
        self.locked_spec().clone()
    }

    fn locked_spec(&self) -> MutexGuard<'_, MachineSpec> {
        self.inner.spec.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What QEMU reports from now on: shutdown, reset, disk errors.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.qmp.events()
    }

    /// Presses the ACPI power button; the guest may ignore it.
    pub async fn power_button(&self) -> Result<()> {
        self.inner.qmp.execute("system_powerdown", json!({})).await.map(drop)
    }

    /// Raises a non-maskable interrupt, as the button for a crash dump would.
    pub async fn inject_nmi(&self) -> Result<()> {
        self.inner.qmp.execute("inject-nmi", json!({})).await.map(drop)
    }

    /// Resets the machine as its reset button would.
    pub async fn reset(&self) -> Result<()> {
        self.inner.qmp.execute("system_reset", json!({})).await.map(drop)
    }

    /// Lets the guest run on after its disk failed ([`GuestStatus::IoError`]); the failed request
    /// is tried again.
    pub async fn resume(&self) -> Result<()> {
        self.inner.qmp.execute("cont", json!({})).await.map(drop)
    }

    /// Ends the QEMU process at once; returns when it is gone, also when it was already.
    pub async fn kill(&self) -> Result<()> {
        self.inner.process.kill()?;
        tokio::time::timeout(KILL_TIMEOUT, self.exited()).await.map_err(|_| {
            let (pid, seconds) = (self.pid(), KILL_TIMEOUT.as_secs());
            Error::new(ErrorKind::TimedOut, format!("process {pid} was not gone in {seconds} s"))
        })
    }

    /// Resolves when the QEMU process is gone and its last console output is in the log; at once
    /// when it is so already.
    pub async fn exited(&self) {
        self.inner.process.exited().await;
        self.inner.console.finished().await;
    }

    /// What the guest is doing. `NotRunning` when the process is gone.
    pub async fn guest_status(&self) -> Result<GuestStatus> {
        let answer = self.inner.qmp.execute("query-status", json!({})).await?;
        Ok(match answer["status"].as_str() {
            Some("running") => GuestStatus::Running,
            Some("prelaunch") => GuestStatus::Prelaunch,
            Some("paused" | "suspended") => GuestStatus::Paused,
            Some("io-error") => GuestStatus::IoError,
            Some("shutdown") => GuestStatus::Shutdown,
            _ => GuestStatus::Broken,
        })
    }

    /// The UNIX socket on which QEMU listens for the one peer of network interface `index`.
    /// Frames are a 4-byte big-endian length and an Ethernet frame. After the peer went away QEMU
    /// listens again.
    ///
    /// Send nothing before the guest sent its first frame: QEMU keeps a frame that the guest has no
    /// buffer for and reads nothing more, not even the end of the connection, until it has.
    /// Connecting fails with `WouldBlock` meanwhile; try again later.
    pub fn nic_socket(&self, index: usize) -> PathBuf {
        self.inner.layout.nic_socket(index)
    }

    /// The UNIX socket where the guest's screen is shown by VNC, to whoever may reach the socket.
    pub fn vnc_socket(&self) -> PathBuf {
        self.inner.layout.vnc_socket()
    }

    /// The serial console as a terminal has it: what the guest shows from now on, and a way to type.
    /// Any number may be open at once; what each types goes to the guest.
    pub fn open_console(&self) -> ConsoleSession {
        self.inner.console.open()
    }

    /// The newest output of the serial console, at most [`crate::CONSOLE_LOG_BYTES_MAX`].
    pub fn console_log(&self) -> PathBuf {
        self.inner.layout.console_log()
    }

    /// What the guest did with its disk since QEMU started.
    pub async fn disk_statistics(&self) -> Result<DiskStatistics> {
        let answer = self.inner.qmp.execute("query-blockstats", json!({})).await?;
        let Some(device) = boot_disk_of(&answer) else {
            return Err(Error::new(ErrorKind::Protocol, "QEMU has no statistics of the boot disk"));
        };
        let count = |name: &str| device["stats"][name].as_u64().unwrap_or(0);
        Ok(DiskStatistics {
            read_bytes: count("rd_bytes"),
            written_bytes: count("wr_bytes"),
            reads: count("rd_operations"),
            writes: count("wr_operations"),
            flushes: count("flush_operations"),
            failed: count("failed_rd_operations")
                + count("failed_wr_operations")
                + count("failed_flush_operations"),
        })
    }
}

/// The entry of the boot disk in what `query-block` or `query-blockstats` answers.
fn boot_disk_of(answer: &Value) -> Option<&Value> {
    let is_boot_disk = |device: &&Value| {
        device["qdev"]
            .as_str()
            .is_some_and(|path| path.split('/').any(|part| part == qemu::BOOT_DISK))
    };
    answer.as_array().into_iter().flatten().find(is_boot_disk)
}
