//! A running machine: its control, its power and its disk.

use std::path::PathBuf;

use tokio::sync::broadcast;

use crate::error::{Error, ErrorKind, Result};
use crate::qmp::Event;
use crate::spec::{MachineSpec, NbdTarget};

/// A handle on a running QEMU process. Dropping it never ends the guest.
#[derive(Debug, Clone)]
pub struct Machine;

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
    /// Stopped because its disk failed.
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
    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        0
    }

    /// The machine as it is now: [`Machine::rebase`] changes its boot disk.
    pub fn spec(&self) -> MachineSpec {
        unreachable!()
    }

    /// What QEMU reports from now on: shutdown, reset, disk errors.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        broadcast::channel(1).1
    }

    /// Presses the ACPI power button; the guest may ignore it.
    pub async fn power_button(&self) -> Result<()> {
        Err(Error::new(ErrorKind::NotRunning, "not here yet"))
    }

    /// Resets the machine as its reset button would.
    pub async fn reset(&self) -> Result<()> {
        Err(Error::new(ErrorKind::NotRunning, "not here yet"))
    }

    /// Ends the QEMU process at once; returns when it is gone, also when it was already.
    pub async fn kill(&self) -> Result<()> {
        Err(Error::new(ErrorKind::NotRunning, "not here yet"))
    }

    /// Resolves when the QEMU process is gone, at once when it is already.
    pub async fn exited(&self) {}

    /// What the guest is doing. `NotRunning` when the process is gone.
    pub async fn guest_status(&self) -> Result<GuestStatus> {
        Err(Error::new(ErrorKind::NotRunning, "not here yet"))
    }

    /// The UNIX socket on which QEMU listens for the one peer of network interface `index`.
    /// Frames are a 4-byte big-endian length and an Ethernet frame. After the peer went away QEMU
    /// listens again.
    ///
    /// Send nothing before the guest sent its first frame: QEMU keeps a frame that the guest has no
    /// buffer for and reads nothing more, not even the end of the connection, until it has.
    pub fn nic_socket(&self, index: usize) -> PathBuf {
        PathBuf::from(index.to_string())
    }

    /// The newest output of the serial console, at most [`crate::CONSOLE_LOG_BYTES_MAX`].
    pub fn console_log(&self) -> PathBuf {
        PathBuf::new()
    }

    /// Shortens the running guest's chain: keeps the top `layers_kept` layers (at least one) and
    /// hangs them on `base`, which must read exactly as what is dropped. Repeating it is harmless.
    /// The dropped files are closed on return and may be deleted.
    pub async fn rebase(&self, layers_kept: usize, base: NbdTarget) -> Result<()> {
        let _ = (layers_kept, base);
        Err(Error::new(ErrorKind::NotRunning, "not here yet"))
    }

    /// What the guest did with its disk since QEMU started.
    pub async fn disk_statistics(&self) -> Result<DiskStatistics> {
        Err(Error::new(ErrorKind::NotRunning, "not here yet"))
    }
}
