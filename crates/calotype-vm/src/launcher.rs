//! Starts QEMU so that it does not depend on us: in its own session, with nothing of ours open.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::files::Owner;
use crate::limits::{QEMU_VERSION_MIN, STDERR_BYTES_MAX};
use crate::process::Process;

const BINARY: &str = "qemu-system-x86_64";
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How QEMU is started on this host.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    pub(crate) binary: PathBuf,
    /// Begins a session and becomes QEMU, process id included. Part of util-linux.
    setsid: PathBuf,
    /// Whom QEMU runs as; `None` for our own user.
    pub(crate) owner: Option<Owner>,
}

/// A QEMU that was started.
pub(crate) struct Launched {
    pub(crate) process: Arc<Process>,
    reaper: JoinHandle<(Option<ExitStatus>, String)>,
}

impl Launcher {
    pub(crate) fn find(binary: Option<PathBuf>, owner: Option<Owner>) -> Result<Self> {
        let binary = match binary {
            // QEMU is started in another directory than ours.
            Some(binary) => std::path::absolute(&binary).map_err(Error::io("find", &binary))?,
            None => in_path(BINARY.as_ref())
                .ok_or_else(|| unusable(format!("{BINARY} is not installed")))?,
        };
        let setsid = in_path("setsid".as_ref())
            .ok_or_else(|| unusable("setsid (of util-linux) is not installed".into()))?;
        let owner = owner.filter(|_| rustix::process::geteuid().is_root());
        Ok(Self { binary, setsid, owner })
    }

    /// QEMU's version, `7.2.22`.
    ///
    /// # Errors
    /// `QemuUnusable` when it cannot be run or is too old.
    pub(crate) async fn version(&self) -> Result<String> {
        let output = Command::new(&self.binary).arg("-version").kill_on_drop(true).output();
        let shown = self.binary.display();
        let output = tokio::time::timeout(VERSION_TIMEOUT, output)
            .await
            .map_err(|_| unusable(format!("{shown} -version did not end")))?
            .map_err(|error| {
                let context = format!("cannot run {shown}");
                Error::because(ErrorKind::QemuUnusable, context, error)
            })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (version, numbers) = parse_version(&text)
            .ok_or_else(|| unusable(format!("{shown} -version does not tell a version")))?;
        if numbers < QEMU_VERSION_MIN {
            let (major, minor) = QEMU_VERSION_MIN;
            return Err(unusable(format!(
                "{shown} is version {version}; {major}.{minor} or newer is needed"
            )));
        }
        Ok(version)
    }

    /// Starts QEMU. Must be called within a runtime, which reaps it and logs what it prints.
    pub(crate) fn launch(&self, machine: &str, words: &[String]) -> Result<Launched> {
        let mut command = Command::new(&self.setsid);
        command.arg(&self.binary).args(words).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // The service's environment may hold secrets, and QEMU needs none of it.
        command.env_clear().envs(
            std::env::vars_os()
                .filter(|(name, _)| name == "PATH" || name == "LD_LIBRARY_PATH" || name == "LANG"),
        );
        if let Some((user, group)) = self.owner {
            // Leaves all supplementary groups, too.
            command.uid(user).gid(group);
        }
        let mut child = command.spawn().map_err(|error| {
            let context = format!("cannot start {}", self.setsid.display());
            Error::because(ErrorKind::StartFailed, context, error)
        })?;
        // Nobody has waited for the child yet, so its id cannot belong to another process.
        let process = match child.id().map(Process::open).transpose() {
            Ok(Some(Some(process))) => Arc::new(process),
            Ok(_) => return Err(Error::new(ErrorKind::StartFailed, "QEMU has no process")),
            Err(error) => {
                let _ = child.start_kill();
                return Err(error);
            }
        };
        let printed = child.stderr.take();
        let reaper = tokio::spawn(reap(child, printed, machine.to_owned()));
        Ok(Launched { process, reaper })
    }
}

impl Launched {
    /// Waits for the end; how it ended and the beginning of what it printed.
    pub(crate) async fn ended(&mut self) -> (Option<ExitStatus>, String) {
        (&mut self.reaper).await.unwrap_or_default()
    }
}

/// Logs and keeps the first few KiB that QEMU prints, drops the rest so that no guest can fill our
/// log, and takes note of its end.
async fn reap(
    mut child: Child,
    stderr: Option<ChildStderr>,
    machine: String,
) -> (Option<ExitStatus>, String) {
    let mut kept = Vec::new();
    if let Some(mut stderr) = stderr {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            let room = STDERR_BYTES_MAX.saturating_sub(kept.len()).min(count);
            if room > 0 {
                let text = String::from_utf8_lossy(&buffer[..room]);
                tracing::warn!(machine, "QEMU: {}", text.trim_end());
            }
            kept.extend_from_slice(&buffer[..room]);
        }
    }
    let status = child.wait().await.ok();
    (status, String::from_utf8_lossy(&kept).into_owned())
}

fn unusable(context: String) -> Error {
    Error::new(ErrorKind::QemuUnusable, context)
}

fn in_path(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|candidate: &PathBuf| Path::is_file(candidate))
}

/// `QEMU emulator version 7.2.22 (Debian …)`.
fn parse_version(text: &str) -> Option<(String, (u32, u32))> {
    let rest = text.lines().next()?.strip_prefix("QEMU emulator version ")?;
    let version = rest.split_whitespace().next()?;
    let mut numbers = version.split('.').map(str::parse);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((version.to_owned(), (major, minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_versions_that_distributions_print() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(parse_version(debian), Some(("7.2.22".into(), (7, 2))));
        let fedora = "QEMU emulator version 10.1.0 (qemu-10.1.0-1.fc43)\n";
        assert_eq!(parse_version(fedora), Some(("10.1.0".into(), (10, 1))));
        assert_eq!(parse_version("QEMU emulator version x"), None);
        assert_eq!(parse_version(""), None);
    }

    #[tokio::test]
    async fn a_missing_binary_is_unusable() {
        let launcher = Launcher::find(Some("/nonexistent/qemu".into()), None).unwrap();
        assert_eq!(launcher.version().await.unwrap_err().kind(), ErrorKind::QemuUnusable);
    }
}
