//! Decides between KVM and TCG by running guest code, never by what `/dev/kvm` promises.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::fchown;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, ErrorKind, Result};
use crate::files::Owner;
use crate::launcher::Launcher;
use crate::limits::PROBE_TIMEOUT;
use crate::qemu;

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceleratorChoice {
    /// KVM where a guest really runs on it, TCG otherwise.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// QEMU's own translator, even where KVM works.
    Tcg,
}

/// What guests run on, and why; `Display` is one line for logs and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accelerator {
    /// The processor's own virtualisation.
    Kvm {
        /// How it was chosen.
        reason: String,
    },
    /// QEMU's translator: slower, never a different result.
    Tcg {
        /// Why not KVM.
        reason: String,
    },
}

impl Accelerator {
    /// `KVM` or `TCG`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kvm { .. } => "KVM",
            Self::Tcg { .. } => "TCG",
        }
    }

    /// Why this one.
    pub fn reason(&self) -> &str {
        match self {
            Self::Kvm { reason } | Self::Tcg { reason } => reason,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name(), self.reason())
    }
}

/// A boot sector that does what operating systems do first, and then ends QEMU with
/// [`PROBE_EXIT_CODE`]; its source is beside it.
const PROBE_SECTOR: &[u8; 512] = include_bytes!("accelerator/probe.bin");
/// `isa-debug-exit` makes twice the value, plus one, of what the sector writes.
const PROBE_EXIT_CODE: i32 = 0x2a * 2 + 1;
/// SeaBIOS does not boot from a disk of one sector.
const PROBE_DISK_BYTES: u64 = 1 << 20;

/// Chooses by running the probe on KVM. `Err` holds why KVM, which was demanded, is not there.
pub(crate) async fn choose(choice: AcceleratorChoice, launcher: &Launcher) -> Result<Accelerator> {
    if choice == AcceleratorChoice::Tcg {
        return Ok(Accelerator::Tcg { reason: "chosen by configuration".into() });
    }
    let kvm = Accelerator::Kvm { reason: "a guest ran on it when the service started".into() };
    match (probe(&kvm, launcher).await?, choice) {
        (Ok(()), _) => Ok(kvm),
        (Err(reason), AcceleratorChoice::Kvm) => Err(Error::new(
            ErrorKind::QemuUnusable,
            format!("KVM was demanded and runs no guest: {reason}"),
        )),
        (Err(reason), _) => Ok(Accelerator::Tcg { reason: format!("KVM runs no guest: {reason}") }),
    }
}

/// Runs the probe sector as the machines are run: same user, same confinement, same processor. The
/// inner result says whether the guest's code had its effect, or what was seen instead.
async fn probe(accelerator: &Accelerator, launcher: &Launcher) -> Result<Result<(), String>> {
    if matches!(accelerator, Accelerator::Kvm { .. }) && !Path::new("/dev/kvm").exists() {
        return Ok(Err("there is no /dev/kvm".into()));
    }
    let disk = probe_disk(launcher.owner)?;
    let words = qemu::probe_command_line(accelerator, disk.path())?;
    let mut guest = launcher.launch("accelerator-probe", &words)?;
    let ended = tokio::time::timeout(PROBE_TIMEOUT, guest.process.exited()).await;
    if ended.is_err() {
        guest.process.kill()?;
    }
    let (status, printed) = guest.ended().await;
    let first_line = printed.lines().find(|line| !line.trim().is_empty());
    let detail = first_line.map_or_else(String::new, |line| format!(" ({})", line.trim()));
    Ok(match status.and_then(|status| status.code()) {
        _ if ended.is_err() => {
            Err(format!("a boot sector did not finish in {} s{detail}", PROBE_TIMEOUT.as_secs()))
        }
        Some(PROBE_EXIT_CODE) => Ok(()),
        _ => Err(format!("QEMU ended before the guest did{detail}")),
    })
}

fn probe_disk(owner: Option<Owner>) -> Result<NamedTempFile> {
    let directory = std::env::temp_dir();
    let make = || {
        let mut file = tempfile::Builder::new().prefix("calotype-probe-").tempfile()?;
        file.write_all(PROBE_SECTOR)?;
        file.as_file().set_len(PROBE_DISK_BYTES)?;
        if let Some((user, group)) = owner {
            fchown(&file, Some(user), Some(group))?;
        }
        Ok::<_, std::io::Error>(file)
    };
    make().map_err(Error::io("make the accelerator probe in", &directory))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_probe_is_what_its_source_says() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/accelerator/probe.s");
        let directory = tempfile::tempdir().unwrap();
        let (object, binary) = (directory.path().join("probe.o"), directory.path().join("probe"));
        let assembled = Command::new("as").args(["--64", "-o"]).arg(&object).arg(source).status();
        let Ok(status) = assembled else {
            eprintln!("skipped: no assembler");
            return;
        };
        assert!(status.success());
        let copied = Command::new("objcopy")
            .args(["-O", "binary", "-j", ".text"])
            .args([&object, &binary])
            .status();
        assert!(copied.unwrap().success());
        assert_eq!(std::fs::read(binary).unwrap(), PROBE_SECTOR);
    }

    #[tokio::test]
    async fn the_probe_tells_a_working_accelerator_from_a_broken_one() {
        let launcher = Launcher::find(None, None).unwrap();
        let tcg = Accelerator::Tcg { reason: String::new() };
        assert_eq!(probe(&tcg, &launcher).await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_demand_for_tcg_is_not_probed() {
        let launcher = Launcher::find(None, None).unwrap();
        let chosen = choose(AcceleratorChoice::Tcg, &launcher).await.unwrap();
        assert_eq!(chosen.to_string(), "TCG (chosen by configuration)");
    }

    #[tokio::test]
    async fn what_auto_chooses_is_what_a_demand_for_kvm_gets() {
        let launcher = Launcher::find(None, None).unwrap();
        let chosen = choose(AcceleratorChoice::Auto, &launcher).await.unwrap();
        let demanded = choose(AcceleratorChoice::Kvm, &launcher).await;
        assert_eq!(demanded.is_ok(), matches!(chosen, Accelerator::Kvm { .. }), "{chosen}");
    }
}
