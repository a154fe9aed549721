//! One error type: a small stable kind to match on, what it was about, and the cause beneath.

use std::io;

/// What went wrong, stable enough to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A field of the configuration cannot work.
    InvalidConfig,
    /// Another VNIC of the subnet already has this MAC or IP address.
    AddressInUse,
    /// A host socket for a published port could not be opened.
    PublishFailed,
}

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[error("{message}: {subject}")]
pub struct Error {
    kind: ErrorKind,
    message: &'static str,
    /// The field, address or port concerned.
    subject: String,
    #[source]
    source: Option<io::Error>,
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The kind to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn invalid(field: &'static str, expected: &'static str) -> Self {
        let subject = format!("{field} must be {expected}");
        Self { kind: ErrorKind::InvalidConfig, message: "invalid VNIC", subject, source: None }
    }

    pub(crate) fn in_use(subject: String) -> Self {
        let message = "address already taken in the subnet";
        Self { kind: ErrorKind::AddressInUse, message, subject, source: None }
    }

    pub(crate) fn publish(subject: String, source: io::Error) -> Self {
        let message = "cannot listen for a published port";
        Self { kind: ErrorKind::PublishFailed, message, subject, source: Some(source) }
    }
}
