//! The one error type of this crate: a small stable kind, where it happened, and its cause.

use std::path::Path;

/// What went wrong, stable enough to decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// QEMU is not installed, cannot be run, or is too old.
    QemuUnusable,
    /// The firmware files that the machine asks for are not installed.
    FirmwareMissing,
    /// The machine's description cannot be run: a limit, a path or a combination.
    InvalidSpec,
    /// QEMU ended before the guest ran; the message holds what it printed.
    StartFailed,
    /// A machine of this directory runs already.
    AlreadyRunning,
    /// The QEMU process is gone.
    NotRunning,
    /// QEMU refused a command; the message holds its reason.
    Refused,
    /// What came over a control socket was not what its protocol allows.
    Protocol,
    /// No agent in the guest answers.
    AgentMissing,
    /// The agent in the guest did not freeze the filesystems, or not in time.
    NotFrozen,
    /// The guest was thawed before its disk was sealed.
    ThawedEarly,
    /// An answer did not come within its deadline.
    TimedOut,
    /// The operating system refused an operation on a file, socket or process.
    Io,
}

/// Kind, context and cause. `Display` shows the context only; the cause is the `source`.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    kind: ErrorKind,
    context: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What went wrong, to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    pub(crate) fn because(
        kind: ErrorKind,
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, context: context.into(), source: Some(source.into()) }
    }

    /// For `map_err`: an operating system error while doing `action` to `path`.
    pub(crate) fn io<E>(action: &str, path: &Path) -> impl FnOnce(E) -> Self
    where
        E: Into<std::io::Error>,
    {
        let context = format!("cannot {action} {}", path.display());
        move |source| Self::because(ErrorKind::Io, context, source.into())
    }
}
