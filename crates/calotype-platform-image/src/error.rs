//! The one error type: a small stable kind, what it concerned, and the cause.
//!
//! `Display` is a lower-case fragment without the cause; whoever prints walks `source()`.

use std::fmt;
use std::path::Path;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for callers that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No recipe has this name.
    UnknownRecipe,
    /// Programs are missing; the message names the Debian packages that bring them.
    MissingTools,
    /// The packages could not be found or fetched.
    Packages,
    /// A program that was run failed; the message carries the end of what it said.
    Tool,
    /// A file that came out of a package is not what the recipe needs.
    Content,
    /// Reading or writing failed.
    Io,
}

/// An error: its kind and the context.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<std::io::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// For `map_err`: an input or output error while doing `action` to `path`.
    pub(crate) fn io(action: &str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let context = format!("{action} {}", path.display());
        move |source| Self { kind: ErrorKind::Io, context, source: Some(source) }
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = &self.context;
        match self.kind {
            ErrorKind::UnknownRecipe => write!(f, "unknown recipe {context:?}"),
            ErrorKind::MissingTools => write!(f, "programs are missing: {context}"),
            ErrorKind::Packages => write!(f, "cannot get the packages: {context}"),
            ErrorKind::Tool | ErrorKind::Content => f.write_str(context),
            ErrorKind::Io => write!(f, "cannot {context}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
