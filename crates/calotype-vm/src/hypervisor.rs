//! Finds QEMU and its firmware, chooses the accelerator, and starts or adopts machines.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use calotype_disk::Disk;

use crate::accelerator::{Accelerator, AcceleratorChoice};
use crate::block::BlockServer;
use crate::error::{Error, ErrorKind, Result};
use crate::machine::Machine;
use crate::spec::MachineSpec;

/// What a [`Hypervisor`] is made from; the default finds everything by itself.
#[derive(Debug, Clone, Default)]
pub struct HypervisorConfig {
    /// KVM, TCG, or whichever works.
    pub accelerator: AcceleratorChoice,
    /// QEMU's binary; by default `qemu-system-x86_64` in `PATH`.
    pub qemu_binary: Option<PathBuf>,
    /// UEFI firmware; by default what Debian, Fedora and Arch install.
    pub firmware: Option<FirmwarePaths>,
    /// User and group id that QEMU runs as when this process is root; give `kvm`'s group for KVM.
    /// `None` runs QEMU as this process's user.
    pub unprivileged_user: Option<(u32, u32)>,
}

/// A matching pair of OVMF files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwarePaths {
    /// `OVMF_CODE*.fd`, mapped read-only.
    pub code: PathBuf,
    /// `OVMF_VARS*.fd`, of which each machine gets a copy.
    pub variables: PathBuf,
}

/// Starts machines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    accelerator: Arc<Accelerator>,
}

impl Hypervisor {
    /// Finds QEMU and decides on the accelerator, which takes up to some seconds.
    ///
    /// # Errors
    /// `QemuUnusable` when there is no QEMU that can be used, or KVM was demanded and does not run
    /// guests.
    pub async fn detect(config: HypervisorConfig) -> Result<Self> {
        let _ = config;
        Err(Error::new(ErrorKind::QemuUnusable, "not here yet"))
    }

    /// What guests run on, and why.
    pub fn accelerator(&self) -> &Accelerator {
        &self.accelerator
    }

    /// `7.2.22`.
    pub fn qemu_version(&self) -> &str {
        ""
    }

    /// Whether [`crate::Firmware::Uefi64`] machines can be started.
    pub fn has_uefi(&self) -> bool {
        false
    }

    /// Starts the machine and lets its guest run. The directory is made when missing; the layers
    /// must exist and the base be served. When this process is root, the layers are given to the
    /// unprivileged user.
    ///
    /// # Errors
    /// `AlreadyRunning`, `InvalidSpec`, `FirmwareMissing`, `StartFailed` with what QEMU printed.
    pub async fn start(&self, spec: &MachineSpec) -> Result<Machine> {
        let _ = spec;
        Err(Error::new(ErrorKind::StartFailed, "not here yet"))
    }

    /// Finds the machine of this directory that still runs, or `None` when none does. A guest whose
    /// start was interrupted is let run.
    pub async fn adopt(&self, directory: &Path) -> Result<Option<Machine>> {
        let _ = directory;
        Ok(None)
    }

    /// A [`BlockServer`] whose socket this hypervisor's QEMU processes, and nobody else, can reach.
    pub fn serve_blocks(
        &self,
        socket: &Path,
        resolve: Arc<dyn Fn(&str) -> Option<Arc<dyn Disk>> + Send + Sync>,
    ) -> Result<BlockServer> {
        BlockServer::bind(socket, resolve)
    }
}
