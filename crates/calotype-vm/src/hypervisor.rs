//! Finds QEMU and its firmware, chooses the accelerator, and starts or adopts machines.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tokio::net::UnixStream;

use crate::accelerator::{self, Accelerator, AcceleratorChoice};
use crate::block::{BlockServer, ResolveDisk};
use crate::console::Console;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Layout};
use crate::freeze::GuardCommand;
use crate::launcher::{Launched, Launcher};
use crate::limits::START_TIMEOUT;
use crate::machine::{GuestStatus, Host, Machine};
use crate::process::{self, Identity, Process};
use crate::qemu;
use crate::qmp::Qmp;
use crate::spec::{Firmware, MachineSpec};

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
    /// Command line of a process that does [`crate::run_freeze_guard`]. `None` is this very program
    /// with the argument `freeze-guard`.
    pub freeze_guard: Option<Vec<OsString>>,
}

/// A matching pair of OVMF files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwarePaths {
    /// `OVMF_CODE*.fd`, mapped read-only.
    pub code: PathBuf,
    /// `OVMF_VARS*.fd`, of which each machine gets a copy.
    pub variables: PathBuf,
}

/// Where distributions put OVMF without secure boot: directory, code, variables.
const FIRMWARE_PLACES: [(&str, &str, &str); 4] = [
    ("/usr/share/OVMF", "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF", "OVMF_CODE.fd", "OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf", "OVMF_CODE.fd", "OVMF_VARS.fd"),
    ("/usr/share/edk2/x64", "OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"),
];

impl FirmwarePaths {
    fn find() -> Option<Self> {
        FIRMWARE_PLACES
            .iter()
            .map(|(directory, code, variables)| {
                let directory = Path::new(directory);
                Self { code: directory.join(code), variables: directory.join(variables) }
            })
            .find(|paths| paths.code.is_file() && paths.variables.is_file())
    }
}

/// Starts machines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    launcher: Launcher,
    host: Host,
    version: String,
    accelerator: Accelerator,
    firmware: Option<FirmwarePaths>,
}

impl Hypervisor {
    /// Finds QEMU and decides on the accelerator, which takes up to some seconds.
    ///
    /// # Errors
    /// `QemuUnusable` when there is no QEMU that can be used, or KVM was demanded and does not run
    /// guests.
    pub async fn detect(config: HypervisorConfig) -> Result<Self> {
        let launcher = Launcher::find(config.qemu_binary, config.unprivileged_user)?;
        let version = launcher.version().await?;
        let accelerator = accelerator::choose(config.accelerator, &launcher).await?;
        let firmware = config.firmware.or_else(FirmwarePaths::find);
        let binary = launcher.binary.display();
        tracing::info!(%binary, version, %accelerator, uefi = firmware.is_some(), "found QEMU");
        let guard = config.freeze_guard.map_or_else(GuardCommand::default, GuardCommand);
        let host = Host { owner: launcher.owner, guard };
        Ok(Self { inner: Arc::new(Inner { launcher, host, version, accelerator, firmware }) })
    }

    /// What guests run on, and why.
    pub fn accelerator(&self) -> &Accelerator {
        &self.inner.accelerator
    }

    /// `7.2.22`.
    pub fn qemu_version(&self) -> &str {
        &self.inner.version
    }

    /// Whether [`Firmware::Uefi64`] machines can be started.
    pub fn has_uefi(&self) -> bool {
        self.inner.firmware.is_some()
    }

    /// Starts the machine and lets its guest run. The directory is made when missing; the layers
    /// must exist and the base be served. When this process is root, the layers are given to the
    /// unprivileged user, who must be able to reach the directory and them.
    ///
    /// Dropping the future before it is done ends what was started.
    ///
    /// # Errors
    /// `AlreadyRunning`, `InvalidSpec`, `FirmwareMissing`, `StartFailed` with what QEMU printed.
    pub async fn start(&self, spec: &MachineSpec) -> Result<Machine> {
        qemu::validate(spec)?;
        let firmware = self.inner.firmware.as_ref();
        let code = firmware.map(|paths| paths.code.as_path());
        let words = qemu::command_line(spec, &self.inner.accelerator, code)?;
        let layout = Layout::new(&spec.directory);
        if let Some(running) = find(&spec.name, &layout)? {
            return Err(Error::new(
                ErrorKind::AlreadyRunning,
                format!("machine {} runs as process {}", spec.name, running.pid()),
            ));
        }
        let variables = firmware
            .filter(|_| spec.firmware == Firmware::Uefi64)
            .map(|paths| paths.variables.clone());
        let (prepared, owner) = (spec.clone(), self.inner.launcher.owner);
        tokio::task::spawn_blocking(move || {
            files::prepare(&layout, &prepared, variables.as_deref(), owner)
        })
        .await
        .map_err(|error| Error::because(ErrorKind::Io, "cannot prepare the directory", error))??;
        let mut starting = Starting(Some(self.inner.launcher.launch(&spec.name, &words)?));
        starting.finish(spec, &self.inner.host).await
    }

    /// Finds the machine of this directory that still runs, or `None` when none does. A guest whose
    /// start was interrupted is let run.
    ///
    /// QEMU serves one control connection at a time, so every earlier handle of this machine must be
    /// gone, as it is after a restart of the service.
    ///
    /// A QEMU that does not answer is adopted too, so that it can be killed. A guest that was left
    /// frozen is thawed, in the background.
    pub async fn adopt(&self, directory: &Path) -> Result<Option<Machine>> {
        let layout = Layout::new(directory);
        let Some(mut spec) = files::load_spec(&layout)? else { return Ok(None) };
        // The directory is where it was found, whatever was written when it was made.
        spec.directory = directory.to_path_buf();
        let Some(process) = find(&spec.name, &layout)? else { return Ok(None) };
        let process = Arc::new(process);
        let serial = layout.serial_socket();
        let qmp = Qmp::new(layout.qmp_socket(), Arc::clone(&process));
        let console = Console::spawn(None, serial, layout.console_log(), Arc::clone(&process));
        let host = self.inner.host.clone();
        let machine = Machine::new(Arc::clone(&process), qmp, console, spec, host);
        let status = match machine.guest_status().await {
            Ok(GuestStatus::Prelaunch) => machine.resume().await,
            Ok(_) => machine.top_layer().await.map(drop),
            Err(error) => Err(error),
        };
        if process.is_gone() {
            return Ok(None);
        }
        if let Err(error) = status {
            tracing::warn!(%error, directory = %directory.display(), "an adopted QEMU is odd");
        }
        machine.look_after_a_freeze();
        Ok(Some(machine))
    }

    /// Whether a QEMU of this machine is there, whatever state it is in and whatever else of it can be read.
    ///
    /// # Errors
    /// When that cannot be found out, which means neither.
    pub fn is_running(&self, name: &str, directory: &Path) -> Result<bool> {
        Ok(find(name, &Layout::new(directory))?.is_some())
    }

    /// A [`BlockServer`] whose socket this hypervisor's QEMU processes, and nobody else, can reach.
    /// Their user must be able to reach the directory of the socket.
    pub fn serve_blocks(&self, socket: &Path, resolve: Arc<ResolveDisk>) -> Result<BlockServer> {
        BlockServer::bind_for(socket, self.inner.launcher.owner, resolve)
    }
}

fn find(name: &str, layout: &Layout) -> Result<Option<Process>> {
    process::find(Identity { name, pid_file: &layout.pid_file() })
}

/// A QEMU that nobody has a handle on yet: ended unless its start comes to its end.
struct Starting(Option<Launched>);

impl Starting {
    async fn finish(&mut self, spec: &MachineSpec, host: &Host) -> Result<Machine> {
        let Some(launched) = &mut self.0 else {
            return Err(Error::new(ErrorKind::StartFailed, "started twice"));
        };
        let process = Arc::clone(&launched.process);
        let result = tokio::select! {
            result = bring_up(Arc::clone(&process), spec, host) => result,
            () = process.exited() => Err(Error::new(ErrorKind::NotRunning, "QEMU ended")),
        };
        match result {
            Ok(machine) => {
                self.0 = None;
                Ok(machine)
            }
            Err(_) if process.is_gone() => {
                let (status, printed) = launched.ended().await;
                let status = status.map_or_else(String::new, |status| format!(" ({status})"));
                let context = format!("QEMU did not start{status}: {}", printed.trim());
                Err(Error::new(ErrorKind::StartFailed, context))
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(launched) = &self.0
            && let Err(error) = launched.process.kill()
        {
            tracing::error!(%error, "a QEMU that failed to start may still run");
        }
    }
}

/// Waits for the control sockets, connects the console before the guest can print, and lets it run.
async fn bring_up(process: Arc<Process>, spec: &MachineSpec, host: &Host) -> Result<Machine> {
    let layout = Layout::new(&spec.directory);
    let qmp = Qmp::new(layout.qmp_socket(), Arc::clone(&process));
    // QEMU answers commands when it has opened everything, no sooner.
    qmp.execute_within(START_TIMEOUT, "query-status", json!({})).await?;
    let serial = layout.serial_socket();
    let stream = UnixStream::connect(&serial).await.map_err(Error::io("reach", &serial))?;
    let console = Console::spawn(Some(stream), serial, layout.console_log(), Arc::clone(&process));
    let machine = Machine::new(process, qmp, console, spec.clone(), host.clone());
    machine.resume().await?;
    Ok(machine)
}
