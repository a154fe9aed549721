//! Virtual machines: QEMU processes, their control sockets and the disks served to them.
//!
//! A guest outlives the service. Every machine is one QEMU process in its own session, everything
//! it needs lies in its own directory, and nothing about it is remembered only in our memory, so
//! that [`Hypervisor::adopt`] finds it again after the service was killed:
//!
//! ```text
//!   directory/                  owned by the service
//!     machine.json              the MachineSpec, as last made durable
//!     console.log               the serial console's newest output, bounded
//!     firmware-vars.fd          UEFI variables (UEFI machines only)
//!     freeze                    not empty while the guest's filesystems may be frozen
//!     run/                      owned by QEMU's user, emptied at every start
//!       qemu.pid  qmp.sock  serial.sock  agent.sock  nic0.sock …
//! ```
//!
//! The boot disk is a chain of qcow2 layers of which only the top is written, over a read-only
//! NBD export that a [`BlockServer`] of this process serves. QEMU connects to the export again when
//! the service restarts, and the guest's reads wait meanwhile.
//!
//! This crate knows disks and processes. It knows nothing of images, instances, users or the wire.

mod accelerator;
mod agent;
mod block;
mod console;
mod error;
mod files;
mod freeze;
mod freeze_guard;
mod hypervisor;
mod launcher;
mod limits;
mod machine;
mod process;
mod qemu;
mod qmp;
mod spec;

pub use accelerator::{Accelerator, AcceleratorChoice};
pub use block::{BlockServer, ExportStatistics, ResolveDisk};
pub use console::ConsoleSession;
pub use error::{Error, ErrorKind, Result};
pub use files::CONSOLE_LOG;
pub use freeze_guard::run as run_freeze_guard;
pub use hypervisor::{FirmwarePaths, Hypervisor, HypervisorConfig};
pub use limits::{CONSOLE_LOG_BYTES_MAX, FREEZE_MAX, LAYERS_MAX, NICS_MAX, SOCKET_PATH_BYTES_MAX};
pub use machine::{Consistency, DiskStatistics, GuestStatus, Machine, Sealed};
pub use qmp::Event;
pub use spec::{BootDisk, DiskBus, Firmware, MachineSpec, NbdTarget, Nic, NicModel};
