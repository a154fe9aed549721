//! Programs of the machine: which are needed, which are missing, and running them.
//!
//! A program that fails is an error that carries the end of what it said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, ErrorKind, MissingTool, Result};

/// Where system administration tools live; an ordinary user's `PATH` often lacks these.
const EXTRA_PATH: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// How much of a failed program's output an error carries, in bytes.
const OUTPUT_TAIL: usize = 2000;

/// A program, or with a slash a file, and the Debian package that brings it.
pub(crate) type Need = (&'static str, &'static str);

/// Those of `needs` that this machine lacks.
pub(crate) fn missing(needs: &[Need]) -> Vec<MissingTool> {
    let absent = needs.iter().filter(|(tool, _)| find(tool).is_none());
    absent
        .map(|(tool, package)| MissingTool {
            tool: (*tool).to_owned(),
            debian_package: (*package).to_owned(),
        })
        .collect()
}

/// Fails with one sentence that names every missing program and the command that installs them.
pub(crate) fn require(needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let tools: Vec<_> = missing.iter().map(|m| m.tool.as_str()).collect();
    let mut packages: Vec<_> = missing.iter().map(|m| m.debian_package.as_str()).collect();
    packages.sort_unstable();
    packages.dedup();
    let (tools, packages) = (tools.join(", "), packages.join(" "));
    let context = format!("{tools}; install them with `apt-get install {packages}`");
    Err(Error::new(ErrorKind::MissingTools, context))
}

fn find(tool: &str) -> Option<PathBuf> {
    if tool.contains('/') {
        return Some(PathBuf::from(tool)).filter(|path| path.exists());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = EXTRA_PATH.iter().map(PathBuf::from);
    let mut candidates = std::env::split_paths(&path).chain(extra).map(|dir| dir.join(tool));
    candidates.find(|candidate| candidate.is_file())
}

/// A program about to run: no input, C locale, found outside the user's `PATH` too.
pub(crate) struct Tool {
    name: String,
    command: Command,
}

impl Tool {
    pub(crate) fn new(name: &str) -> Self {
        let mut command = Command::new(find(name).unwrap_or_else(|| PathBuf::from(name)));
        command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        Self { name: name.to_owned(), command }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs to the end; the standard output and error when it succeeded.
    pub(crate) fn run(mut self) -> Result<Output> {
        tracing::debug!(command = ?self.command, "run");
        let output = self.command.output().map_err(|source| {
            let path = PathBuf::from(self.command.get_program());
            Error::io("run", &path)(source)
        })?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok(Output { stdout: output.stdout, stderr });
        }
        let said = if stderr.trim().is_empty() {
            String::from_utf8_lossy(&output.stdout).into_owned()
        } else {
            stderr
        };
        let context = format!("{} failed ({}): {}", self.name, output.status, tail(&said));
        Err(Error::new(ErrorKind::Tool, context))
    }
}

/// What a successful program said.
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

fn tail(text: &str) -> &str {
    let text = text.trim();
    let mut start = text.len().saturating_sub(OUTPUT_TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_missing_program_and_its_package() {
        let needs = [("no-such-tool-a", "pkg-a"), ("sh", "dash"), ("/no/such/file", "pkg-b")];
        let error = require(&needs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingTools);
        let text = error.to_string();
        assert!(text.contains("no-such-tool-a, /no/such/file"), "{text}");
        assert!(text.contains("apt-get install pkg-a pkg-b"), "{text}");
    }

    #[test]
    fn a_failing_program_says_why() {
        let error = Tool::new("sh").args(["-c", "echo because >&2; exit 3"]).run().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Tool);
        assert!(error.to_string().ends_with("because"), "{error}");
    }

    #[test]
    fn the_tail_starts_at_a_character() {
        let text = "é".repeat(OUTPUT_TAIL);
        assert!(tail(&text).len() <= OUTPUT_TAIL);
    }
}
