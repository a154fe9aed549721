//! One error for all formats: a small stable kind to match on, a context to read, the cause below.
//!
//! `Display` is a lower-case fragment without the cause; whoever prints an error prints its chain.

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for callers that decide by it. A new format adds no kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source could not be read.
    Io,
    /// Not a disk of the format asked for.
    InvalidFormat,
    /// A valid disk that uses something not supported here.
    UnsupportedFeature,
    /// A disk that contradicts itself, or whose bytes are not those that were stored.
    Corrupt,
    /// An offset or a size beyond what the disk or this crate allows.
    OutOfBounds,
}

/// Why a disk could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    kind: ErrorKind,
    context: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `context` is a lower-case fragment that says what was being looked at.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, context).with_source(source)
    }
}
