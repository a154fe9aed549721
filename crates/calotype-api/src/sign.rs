//! Request signing: RSA signatures over chosen headers, the method, the raw target and the body's hash.
//!
//! A request is accepted only if all of this holds:
//!
//! 1. its `Authorization` header parses ([`authorization`]);
//! 2. the signature covers `(request-target)`, `host`, and the request's time: `x-date` if it has one, else `date`;
//! 3. it covers `content-length`, `content-type` and `x-content-sha256` if the method has a body, or a body is there;
//! 4. the time is at most [`SKEW_SECONDS_MAX`] from ours;
//! 5. length and hash of the body are as signed;
//! 6. the key verifies the signature over the headers **as sent**: nothing is decoded or normalised first.
//!
//! No header that is covered may occur twice, because two readers could then disagree on which one counts.

use data_encoding::BASE64;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, HeaderValue,
};
use http::{Method, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::error::ApiError;

pub mod authorization;
pub mod key;
mod pem;

pub use authorization::{Authorization, KeyId};
pub use key::{Fingerprint, KeyError, PrivateKey, PublicKey};

/// How far a request's time may be from ours.
pub const SKEW_SECONDS_MAX: u64 = 5 * 60;

const REQUEST_TARGET: &str = "(request-target)";
const X_DATE: HeaderName = HeaderName::from_static("x-date");
const X_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-content-sha256");
const BODY_HEADERS: [HeaderName; 3] = [CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_SHA256];

/// Why a request's signature was not accepted. All but [`SignatureError::Mismatch`] can be told to the caller in full.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The request has no `Authorization` header.
    #[error("the request is not signed")]
    Absent,
    /// The `Authorization` header does not parse.
    #[error("the Authorization header is malformed: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The signature must cover a header that it does not.
    #[error("the signature must cover the header {header}")]
    NotCovered {
        /// The header.
        header: String,
    },
    /// A covered header is not in the request.
    #[error("the header {header} is signed but absent")]
    HeaderAbsent {
        /// The header.
        header: String,
    },
    /// A covered header is in the request more than once.
    #[error("the header {header} is signed but occurs more than once")]
    HeaderRepeated {
        /// The header.
        header: String,
    },
    /// The time is no RFC 1123 date.
    #[error("the header {header} is not a date such as Thu, 05 Jan 2014 21:31:40 GMT")]
    NotADate {
        /// `date` or `x-date`.
        header: String,
    },
    /// The request is older, or from further in the future, than allowed.
    #[error("the request's time is more than {SKEW_SECONDS_MAX} seconds from {now}")]
    Skewed {
        /// Our time, as a `Date` header.
        now: String,
    },
    /// `content-length` is not the length of the body.
    #[error("content-length is not the length of the body")]
    WrongLength,
    /// `x-content-sha256` is not the hash of the body.
    #[error("x-content-sha256 is not the Base64 of the SHA-256 of the body")]
    WrongHash,
    /// The key does not verify the signature.
    #[error("the signature does not match the request and its key")]
    Mismatch,
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        let mut answer = Self::not_authenticated();
        debug_assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        if error != SignatureError::Mismatch {
            answer.message = format!("{} ({error})", answer.message);
        }
        answer
    }
}

/// A request's signature, parsed and not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(Authorization);

impl Signature {
    /// Reads the `Authorization` header.
    pub fn parse(headers: &HeaderMap) -> Result<Self, SignatureError> {
        match only(headers, &AUTHORIZATION)? {
            None => Err(SignatureError::Absent),
            Some(value) => {
                let text = value.to_str().map_err(|_| SignatureError::Malformed {
                    what: "it has other than ASCII characters",
                })?;
                Ok(Self(text.parse()?))
            }
        }
    }

    /// The name of the key that is said to have signed; see [`KeyId`] for its usual form.
    pub fn key_id(&self) -> &str {
        &self.0.key_id
    }

    /// The raw signature. It is the same whenever the same request is signed with the same key in the same second.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.signature
    }

    /// The time the request was signed at, in seconds since 1970. Not yet verified.
    pub fn unix_seconds(&self, headers: &HeaderMap) -> Result<i64, SignatureError> {
        let header = if headers.contains_key(X_DATE) { X_DATE } else { DATE };
        let value = self.covered(headers, header.as_str())?;
        let not_a_date = || SignatureError::NotADate { header: header.to_string() };
        let text = value.to_str().map_err(|_| not_a_date())?;
        Ok(rfc2822::parse(text).map_err(|_| not_a_date())?.timestamp().as_second())
    }

    /// Verifies everything that can be verified before the body has arrived: see the module's list, 2 to 4 and 6.
    ///
    /// `target` is the raw path and query. `signs_body` is false only for the uploads of object storage, whose bodies
    /// are not signed. Verifying the body too is [`Signature::verify_body`]'s part.
    pub fn verify_head(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        signs_body: bool,
        key: &PublicKey,
        now_unix_seconds: i64,
    ) -> Result<(), SignatureError> {
        for name in [REQUEST_TARGET, HOST.as_str()] {
            self.must_cover(name)?;
        }
        let signed_at = self.unix_seconds(headers)?;
        if signs_body && has_body(method) {
            for name in &BODY_HEADERS {
                self.must_cover(name.as_str())?;
            }
        }
        if signed_at.abs_diff(now_unix_seconds) > SKEW_SECONDS_MAX {
            return Err(SignatureError::Skewed { now: http_date(now_unix_seconds) });
        }
        let message = signing_string(&self.0.signed_headers, method, target, headers)?;
        if key.verifies(&message, &self.0.signature) {
            Ok(())
        } else {
            Err(SignatureError::Mismatch)
        }
    }

    /// Verifies that the body is the one whose length and hash [`Signature::verify_head`] found signed.
    pub fn verify_body(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), SignatureError> {
        if !has_body(method) && body.is_empty() {
            return Ok(());
        }
        let length = self.covered(headers, CONTENT_LENGTH.as_str())?;
        if length.as_bytes() != body.len().to_string().as_bytes() {
            return Err(SignatureError::WrongLength);
        }
        self.must_cover(CONTENT_TYPE.as_str())?;
        let hash = self.covered(headers, X_CONTENT_SHA256.as_str())?;
        if hash.as_bytes() == body_hash(body).as_bytes() {
            Ok(())
        } else {
            Err(SignatureError::WrongHash)
        }
    }

    /// Verifies a whole request. `body` is `None` only where the operation's body is not signed.
    pub fn verify(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        body: Option<&[u8]>,
        key: &PublicKey,
        now_unix_seconds: i64,
    ) -> Result<(), SignatureError> {
        self.verify_head(method, target, headers, body.is_some(), key, now_unix_seconds)?;
        body.map_or(Ok(()), |body| self.verify_body(method, headers, body))
    }

    fn must_cover(&self, name: &str) -> Result<(), SignatureError> {
        if self.0.signed_headers.iter().any(|signed| signed == name) {
            Ok(())
        } else {
            Err(SignatureError::NotCovered { header: name.to_owned() })
        }
    }

    fn covered<'h>(
        &self,
        headers: &'h HeaderMap,
        name: &str,
    ) -> Result<&'h HeaderValue, SignatureError> {
        self.must_cover(name)?;
        signed(headers, name)
    }
}

/// The headers that sign a request: `date`, `authorization`, and on methods with a body `content-length`,
/// `content-type` and `x-content-sha256`. They must be sent as they are, with `host` as the Host header.
pub fn sign(
    key: &PrivateKey,
    key_id: &str,
    method: &Method,
    target: &str,
    host: &str,
    body: &[u8],
    now_unix_seconds: i64,
) -> Result<HeaderMap, KeyError> {
    let signs_body = has_body(method) || !body.is_empty();
    let body = signs_body.then_some(body);
    sign_covering(key, key_id, method, target, host, body, now_unix_seconds)
}

/// The headers that sign an upload of object storage, whose body is not signed: see [`sign`].
pub fn sign_upload(
    key: &PrivateKey,
    key_id: &str,
    method: &Method,
    target: &str,
    host: &str,
    now_unix_seconds: i64,
) -> Result<HeaderMap, KeyError> {
    sign_covering(key, key_id, method, target, host, None, now_unix_seconds)
}

fn sign_covering(
    key: &PrivateKey,
    key_id: &str,
    method: &Method,
    target: &str,
    host: &str,
    body: Option<&[u8]>,
    now_unix_seconds: i64,
) -> Result<HeaderMap, KeyError> {
    let value = |text: String| HeaderValue::try_from(text).map_err(|_| KeyError::Failed);
    let mut headers = HeaderMap::new();
    headers.insert(DATE, value(http_date(now_unix_seconds))?);
    headers.insert(HOST, value(host.to_owned())?);
    let mut signed_headers = vec![DATE.to_string(), REQUEST_TARGET.to_owned(), HOST.to_string()];
    if let Some(body) = body {
        headers.insert(CONTENT_LENGTH, value(body.len().to_string())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_SHA256, value(body_hash(body))?);
        signed_headers.extend(BODY_HEADERS.iter().map(ToString::to_string));
    }
    let message =
        signing_string(&signed_headers, method, target, &headers).map_err(|_| KeyError::Failed)?;
    let signature = BASE64.decode(key.sign(&message)?.as_bytes()).map_err(|_| KeyError::Failed)?;
    let authorization = Authorization { key_id: key_id.to_owned(), signed_headers, signature };
    headers.insert(AUTHORIZATION, value(authorization.to_string())?);
    headers.remove(HOST);
    Ok(headers)
}

/// A time as a `Date` header has it.
pub fn http_date(unix_seconds: i64) -> String {
    let timestamp = Timestamp::from_second(unix_seconds).unwrap_or_default();
    timestamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn has_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn body_hash(body: &[u8]) -> String {
    BASE64.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body).as_ref())
}

/// `name: value` for each name, joined by newlines, without a last one.
fn signing_string(
    names: &[String],
    method: &Method,
    target: &str,
    headers: &HeaderMap,
) -> Result<Vec<u8>, SignatureError> {
    let mut message = Vec::new();
    for name in names {
        if !message.is_empty() {
            message.push(b'\n');
        }
        message.extend_from_slice(name.as_bytes());
        message.extend_from_slice(b": ");
        if name == REQUEST_TARGET {
            message.extend_from_slice(method.as_str().to_ascii_lowercase().as_bytes());
            message.push(b' ');
            message.extend_from_slice(target.as_bytes());
        } else {
            message.extend_from_slice(signed(headers, name)?.as_bytes());
        }
    }
    Ok(message)
}

fn signed<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h HeaderValue, SignatureError> {
    let absent = || SignatureError::HeaderAbsent { header: name.to_owned() };
    let name = HeaderName::try_from(name).map_err(|_| absent())?;
    only(headers, &name)?.ok_or_else(absent)
}

fn only<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(SignatureError::HeaderRepeated { header: name.to_string() });
    }
    Ok(first)
}
