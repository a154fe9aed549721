//! What can go wrong in the catalog. `kind` is small and stable; the cause is the source.

use std::fmt;

/// A failure of the catalog.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    /// What happened.
    pub kind: ErrorKind,
    /// The cause, where there is one beneath the catalog.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What happened in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A precondition of a batch failed: the document was changed, is gone, or exists already.
    /// Nothing was written.
    Conflict {
        /// Kind of the document.
        kind: String,
        /// Its id.
        id: String,
    },
    /// A page token that no list made, or that another list made.
    InvalidPageToken,
    /// A stored document cannot be read as what it should be.
    Corrupt {
        /// Kind of the document.
        kind: String,
        /// Its id.
        id: String,
    },
    /// A document that cannot be written as JSON.
    Unwritable {
        /// Kind of the document.
        kind: String,
        /// Its id.
        id: String,
    },
    /// The disk is full; nothing was written.
    Full,
    /// The database failed otherwise; nothing was written as far as it says.
    Engine,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { kind, id } => write!(f, "{kind} {id} was changed by someone else"),
            Self::InvalidPageToken => f.write_str("the page token is not one of this list"),
            Self::Corrupt { kind, id } => write!(f, "stored {kind} {id} cannot be read"),
            Self::Unwritable { kind, id } => write!(f, "{kind} {id} cannot be written as JSON"),
            Self::Full => f.write_str("no space left for the catalog"),
            Self::Engine => f.write_str("the catalog's database failed"),
        }
    }
}

impl Error {
    /// Whether a precondition failed: read again and decide again.
    pub const fn is_conflict(&self) -> bool {
        matches!(self.kind, ErrorKind::Conflict { .. })
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<sqlx::Error> for Error {
    fn from(source: sqlx::Error) -> Self {
        // SQLITE_FULL, and PostgreSQL's disk_full.
        let full = source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .is_some_and(|code| matches!(&*code, "13" | "53100"));
        let kind = if full { ErrorKind::Full } else { ErrorKind::Engine };
        Self { kind, source: Some(Box::new(source)) }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(source: sqlx::migrate::MigrateError) -> Self {
        Self { kind: ErrorKind::Engine, source: Some(Box::new(source)) }
    }
}
