//! Where a store's files are: the text that an operator writes, and how an object store is reached.
//!
//! Secrets are never shown: neither by `Debug` nor in an error.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{CREDENTIALS_BYTES_MAX, S3_PREFIX_BYTES_MAX};

/// Where the files of a store are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A local directory: a plain path, or `file:///path`.
    Directory(PathBuf),
    /// A part of a bucket: `s3://bucket/prefix`.
    S3(S3Location),
}

/// A part of a bucket of an S3-compatible object store, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket, which must exist.
    pub bucket: String,
    /// In front of the names of all objects, without slashes at its ends; may be empty.
    pub prefix: String,
    /// As `https://s3.example.com`; none for Amazon's own.
    pub endpoint: Option<String>,
    /// None for `us-east-1`, which is what other servers than Amazon's take.
    pub region: Option<String>,
    /// Whether the bucket is named in the path of a URL, not in its host. None: yes, if there is
    /// an endpoint.
    pub path_style: Option<bool>,
    /// None to take them from the environment.
    pub credentials: Option<S3Credentials>,
}

/// What requests to an object store are signed with.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Credentials {
    /// Names the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// Of temporary credentials.
    #[serde(default)]
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Credentials(not shown)")
    }
}

impl S3Credentials {
    /// From the variables that all S3 clients know: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if it
    /// is set, `AWS_SESSION_TOKEN`.
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let required = |name: &str| {
            variable(name).ok_or_else(|| {
                invalid(format!(
                    "{name} is not set: give the object store's credentials in the environment, \
                     or in a file that the settings name"
                ))
            })
        };
        Ok(Self {
            access_key_id: required("AWS_ACCESS_KEY_ID")?,
            secret_access_key: required("AWS_SECRET_ACCESS_KEY")?,
            session_token: variable("AWS_SESSION_TOKEN"),
        })
    }

    /// From a file of TOML with `access_key_id`, `secret_access_key` and maybe `session_token`, which
    /// nobody but its owner may read.
    pub fn from_file(path: &Path) -> Result<Self> {
        let io = |error| Error::io(format!("reading credentials in {}", path.display()), error);
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.mode() & 0o077 != 0 {
            return Err(invalid(format!(
                "others may read the credentials in {0}: chmod 600 {0}",
                path.display()
            )));
        }
        let mut text = String::new();
        file.take(CREDENTIALS_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
        // The parser's own words would repeat the line, and with it a secret.
        toml::from_str(&text).map_err(|_| {
            invalid(format!(
                "{} must have access_key_id and secret_access_key, and may have session_token",
                path.display()
            ))
        })
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() {
                Err(invalid("the location of a store is empty"))
            } else {
                Ok(Self::Directory(text.into()))
            };
        };
        match scheme {
            "file" if rest.starts_with('/') && !rest.contains('%') => {
                Ok(Self::Directory(rest.into()))
            }
            "file" => Err(invalid(format!(
                "{text:?} is not file:///path; a path with unusual characters is written plainly"
            ))),
            "s3" => parse_s3(rest).map(Self::S3),
            _ => Err(invalid(format!(
                "the location of a store is a directory or s3://bucket/prefix, not {scheme}://"
            ))),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3(location) => location.fmt(f),
        }
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

fn parse_s3(rest: &str) -> Result<S3Location> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    check_bucket(bucket)?;
    check_prefix(prefix)?;
    Ok(S3Location {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint: None,
        region: None,
        path_style: None,
        credentials: None,
    })
}

/// By Amazon's rules, which other servers share.
fn check_bucket(bucket: &str) -> Result<()> {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    };
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = bucket.as_bytes();
    if (3..=63).contains(&bytes.len())
        && bytes.iter().copied().all(inner)
        && outer(bytes.first())
        && outer(bytes.last())
    {
        return Ok(());
    }
    Err(invalid(format!(
        "{bucket:?} names no bucket: 3 to 63 lower-case letters, digits, hyphens and dots"
    )))
}

/// Only what every server and every tool writes the same way.
fn check_prefix(prefix: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
    if prefix.is_empty() || (prefix.len() <= S3_PREFIX_BYTES_MAX && prefix.split('/').all(part)) {
        return Ok(());
    }
    Err(invalid(format!(
        "the prefix {prefix:?} must be letters, digits, hyphens, underscores and dots between slashes"
    )))
}

impl S3Location {
    /// The endpoint, if one is set: a URL of a host, and nothing secret.
    pub(crate) fn checked_endpoint(&self) -> Result<Option<&str>> {
        let Some(endpoint) = self.endpoint.as_deref() else { return Ok(None) };
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        match host.map(|host| host.strip_suffix('/').unwrap_or(host)) {
            Some(host) if !host.is_empty() && !host.contains(['@', '/', '?', '#', ' ']) => {
                Ok(Some(endpoint.strip_suffix('/').unwrap_or(endpoint)))
            }
            // Not repeated: what is before an @ is a password.
            _ => Err(invalid(
                "the endpoint of an object store must be http:// or https://, a host and maybe a \
                 port; credentials are given otherwise",
            )),
        }
    }
}

fn invalid(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidLocation, context)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn parse(text: &str) -> Location {
        text.parse().unwrap()
    }

    #[test]
    fn a_location_is_a_path_or_a_url() {
        assert_eq!(parse("/var/store"), Location::Directory("/var/store".into()));
        assert_eq!(parse("store"), Location::Directory("store".into()));
        assert_eq!(parse("file:///var/store"), Location::Directory("/var/store".into()));
        for (text, bucket, prefix) in [
            ("s3://images", "images", ""),
            ("s3://images/", "images", ""),
            ("s3://my.images-1/a/b_c", "my.images-1", "a/b_c"),
        ] {
            let Location::S3(location) = parse(text) else { panic!("{text}") };
            assert_eq!((location.bucket.as_str(), location.prefix.as_str()), (bucket, prefix));
            assert_eq!(location.to_string(), text.strip_suffix('/').unwrap_or(text));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "gs://bucket",
            "file://host/path",
            "file:///a%20b",
            "s3://",
            "s3://a",
            "s3:///prefix",
            "s3://Upper",
            "s3://bucket//a",
            "s3://bucket/../a",
            "s3://bucket/a b",
            "s3://-bucket",
            "s3://user:secret@bucket/a",
        ] {
            let refused = text.parse::<Location>().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidLocation, "{text}");
        }
    }

    #[test]
    fn an_endpoint_carries_no_credentials() {
        let Location::S3(mut location) = parse("s3://images") else { unreachable!() };
        for (endpoint, good) in [
            ("https://s3.example.com/", true),
            ("http://127.0.0.1:8333", true),
            ("https://user:hidden@host", false),
            ("ftp://host", false),
            ("https://host/path", false),
            ("https://", false),
        ] {
            location.endpoint = Some(endpoint.to_owned());
            let checked = location.checked_endpoint();
            assert_eq!(checked.is_ok(), good, "{endpoint}");
            assert!(!format!("{checked:?}").contains("hidden"));
        }
    }

    #[test]
    fn credentials_are_read_from_a_private_file_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s3.toml");
        let text = "access_key_id = 'AKIA'\nsecret_access_key = 'hidden'\n";
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let refused = S3Credentials::from_file(&path).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidLocation);
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let credentials = S3Credentials::from_file(&path).unwrap();
        assert_eq!(credentials.secret_access_key, "hidden");
        assert!(!format!("{credentials:?}").contains("hidden"));

        std::fs::write(&path, format!("{text}secret = 'hidden'\n")).unwrap();
        let refused = S3Credentials::from_file(&path).unwrap_err();
        assert!(!format!("{refused:?}").contains("hidden"), "{refused:?}");
    }

    #[test]
    fn credentials_are_read_from_the_environment() {
        let set = |names: &'static [&str]| {
            move |name: &str| names.contains(&name).then(|| format!("{name} value"))
        };
        let both = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let credentials = S3Credentials::from_variables(|name| {
            set(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])(name)
        })
        .unwrap();
        assert_eq!(credentials.session_token, None);
        assert_eq!(credentials.access_key_id, "AWS_ACCESS_KEY_ID value");
        let refused = S3Credentials::from_variables(set(&["AWS_ACCESS_KEY_ID"])).unwrap_err();
        assert!(refused.to_string().contains(both[1]), "{refused}");
    }
}
