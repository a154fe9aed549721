//! What an object store's errors mean, in this crate's words: with the next step, without secrets.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::limits::REMOTE_MESSAGE_BYTES_MAX;

/// Makes errors about one place.
#[derive(Clone)]
pub(super) struct Failures {
    place: String,
    secrets: Vec<String>,
}

/// What a client or server said.
#[derive(Debug)]
struct Answer(String);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Answer {}

/// Codes of S3 and compatible servers for "there is no room for this".
const FULL: [&str; 6] = [
    "status code: 507",
    "QuotaExceeded",
    "StorageFull",
    "InsufficientStorage",
    "NoSpaceLeft",
    "no space left on device",
];

impl Failures {
    pub(super) fn new(place: &str, secrets: &[String]) -> Self {
        let secrets = secrets.iter().filter(|secret| !secret.is_empty()).cloned().collect();
        Self { place: place.to_owned(), secrets }
    }

    /// What the operator calls it.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// An error while `doing` something with an object.
    pub(super) fn error(&self, doing: &str, object: &str, error: &object_store::Error) -> Error {
        let said = said(error);
        let (kind, next) = meaning(error, &said);
        let context = format!("{doing} {object} in {}{next}", self.place);
        Error::new(kind, context).with_source(Answer(self.redacted(said)))
    }

    /// An error while writing: there is nothing that could have been missing but the bucket.
    pub(super) fn writing(&self, object: &str, error: &object_store::Error) -> Error {
        let error = self.error("writing", object, error);
        if error.kind() == ErrorKind::NotFound {
            let context = format!("{error}: check that the bucket exists");
            return Error::new(ErrorKind::Io, context).with_source(error);
        }
        error
    }

    /// Servers repeat what they were sent.
    fn redacted(&self, mut said: String) -> String {
        for secret in &self.secrets {
            said = said.replace(secret.as_str(), "(not shown)");
        }
        if said.len() > REMOTE_MESSAGE_BYTES_MAX {
            said.truncate(said.floor_char_boundary(REMOTE_MESSAGE_BYTES_MAX));
            said.push('…');
        }
        said
    }
}

/// The error with its causes, where they add something.
fn said(error: &object_store::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_said = cause.to_string();
        if !said.contains(&cause_said) {
            said = format!("{said}: {cause_said}");
        }
        source = cause.source();
    }
    said
}

fn meaning(error: &object_store::Error, said: &str) -> (ErrorKind, &'static str) {
    use object_store::Error as E;
    if said.contains("NoSuchBucket") {
        return (ErrorKind::Io, ": there is no such bucket, make it or check its name");
    }
    if FULL.iter().any(|full| said.contains(full)) {
        return (ErrorKind::NoSpace, ": the object store is full, or a quota is reached");
    }
    match error {
        E::NotFound { .. } => (ErrorKind::NotFound, ""),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => (
            ErrorKind::Io,
            ": check the credentials, the region, and that they may list, read, write and delete",
        ),
        _ if said.contains("status code: 5") => {
            (ErrorKind::Io, ": the object store fails, see its own log")
        }
        _ => (ErrorKind::Io, ": check the endpoint and that it can be reached from here"),
    }
}

/// Whether a failed read may be one past an object's end. Not if a server could not be reached: asking
/// it for the length would only fail as slowly.
pub(super) fn may_be_short(error: &object_store::Error) -> bool {
    let said = said(error);
    said.contains("status code: 416") || !said.contains("Error performing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(said: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: said.into() }
    }

    #[test]
    fn errors_say_what_to_do() {
        let failures = Failures::new("s3://images/a", &[]);
        for (said, kind, next) in [
            ("Server returned non-2xx status code: 507: full", ErrorKind::NoSpace, "full"),
            ("<Code>XMinioStorageFull</Code>", ErrorKind::NoSpace, "quota"),
            ("<Code>NoSuchBucket</Code>", ErrorKind::Io, "bucket"),
            ("Server returned non-2xx status code: 503: busy", ErrorKind::Io, "its own log"),
            ("error sending request", ErrorKind::Io, "endpoint"),
        ] {
            let error = failures.error("reading", "packs/1", &generic(said));
            assert_eq!(error.kind(), kind, "{said}");
            assert!(error.to_string().starts_with("reading packs/1 in s3://images/a: "));
            assert!(error.to_string().contains(next), "{error}");
        }
        let denied = object_store::Error::PermissionDenied { path: "a".into(), source: "b".into() };
        assert!(failures.error("reading", "a", &denied).to_string().contains("credentials"));
        let missing = object_store::Error::NotFound { path: "a".into(), source: "b".into() };
        assert_eq!(failures.error("reading", "a", &missing).kind(), ErrorKind::NotFound);
        assert_eq!(failures.writing("a", &missing).kind(), ErrorKind::Io);
    }

    #[test]
    fn secrets_that_a_server_repeats_are_not_shown() {
        let failures = Failures::new("s3://images", &["hidden".to_owned(), String::new()]);
        let error = failures.error("reading", "a", &generic("<Token>hidden</Token>"));
        let shown = format!("{error} {error:?} {}", error.source().unwrap());
        assert!(!shown.contains("hidden") && shown.contains("(not shown)"), "{shown}");
    }

    #[test]
    fn what_a_server_says_is_repeated_up_to_a_limit() {
        let failures = Failures::new("s3://images", &[]);
        let error = failures.error("reading", "a", &generic(&"ä".repeat(10_000)));
        assert!(error.source().unwrap().to_string().len() < 2 * REMOTE_MESSAGE_BYTES_MAX);
    }
}
