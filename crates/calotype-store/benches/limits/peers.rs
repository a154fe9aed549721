//! The peers, each as its users call it. Making an empty repository is not part of any time.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{Sample, process};

/// Another program that stores disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Restic,
    Borg,
    Casync,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Restic, Self::Borg, Self::Casync];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Restic => "restic",
            Self::Borg => "borg",
            Self::Casync => "casync",
        }
    }

    /// Of Debian.
    fn package(self) -> &'static str {
        match self {
            Self::Restic => "restic",
            Self::Borg => "borgbackup",
            Self::Casync => "casync",
        }
    }

    /// Whether it is installed; says how to get it if not.
    pub(crate) fn is_here(self) -> bool {
        let here = Command::new(self.name()).arg("--version").output().is_ok()
            || Command::new(self.name()).arg("version").output().is_ok();
        if !here {
            eprintln!(
                "{} is missing: `apt-get install --no-install-recommends {}`",
                self.name(),
                self.package()
            );
        }
        here
    }

    fn command(self, repository: &Path) -> Command {
        let mut command = Command::new(self.name());
        command
            .env("RESTIC_PASSWORD", "benchmark")
            .env("RESTIC_CACHE_DIR", repository.with_extension("cache"))
            .env("BORG_BASE_DIR", repository.with_extension("base"))
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command
    }

    /// An empty repository.
    pub(crate) fn init(self, repository: &Path) -> PathBuf {
        let mut command = self.command(repository);
        match self {
            Self::Restic => command.args(["init", "-q", "--repository-version", "2", "-r"]),
            Self::Borg => command.args(["init", "--encryption", "none"]),
            Self::Casync => {
                std::fs::create_dir_all(repository.join("store")).unwrap();
                return repository.to_path_buf();
            }
        };
        process(command.arg(repository), None);
        repository.to_path_buf()
    }

    /// Stores `disk`, whatever it knows of that file already; durable when it returns.
    pub(crate) fn store(self, repository: &Path, disk: &Path, name: &str) -> Sample {
        let mut command = self.command(repository);
        match self {
            Self::Restic => {
                command.args(["backup", "-q", "--force", "-r"]).arg(repository).arg(disk);
            }
            Self::Borg => {
                // Without its cache of files: as with `--force`, the bytes decide.
                command.args(["create", "--files-cache", "disabled"]);
                command.arg(format!("{}::{name}", repository.display())).arg(disk);
            }
            Self::Casync => {
                command.arg("make").arg(format!("--store={}", repository.join("store").display()));
                command.arg(repository.join(format!("{name}.caibx"))).arg(disk);
            }
        }
        process(&mut command, Some(repository))
    }
}

/// An empty qcow2 file over a raw disk, by QEMU's own tool, which syncs it.
pub(crate) fn qemu_overlay(disk: &Path, overlay: &Path) -> Sample {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(disk).arg(overlay);
    process(&mut command, None)
}
