//! The instance metadata service: what a guest may read about itself, and by which rules.
//!
//! | Request | Answer |
//! |---|---|
//! | `/opc/v2/…` with `Authorization: Bearer Oracle` | the value at that path |
//! | the same without the header | 401 |
//! | `/opc/v1/…` | the value, or 404 when the legacy endpoints are disabled |
//! | anything with `Forwarded`, `X-Forwarded-For` or `X-Forwarded-Host` | 403: a proxy was tricked |
//! | methods other than GET and HEAD | 405 |
//! | any other path | 404 |
//!
//! Objects and arrays are JSON, scalars plain text, so that a shell script needs no parser. OCI
//! documents that requests without the header are "rejected", not with which status.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;

use crate::limits::{METADATA_HEAD_TIMEOUT, METADATA_PATH_SIZE_MAX};
use crate::stream::GuestStream;

const CREDENTIAL: &str = "Bearer Oracle";
const FORWARDING_HEADERS: [&str; 3] = ["forwarded", "x-forwarded-for", "x-forwarded-host"];
const LISTING: &str = "instance/\nvnics/\nvolumeAttachments/\n";

/// What the metadata service answers for one VNIC; asked at each request so that it is always
/// current.
pub trait MetadataSource: Send + Sync {
    /// The document of the instance behind `vnic_id`, or `None` when there is none (answered 404).
    fn document(&self, vnic_id: String) -> BoxFuture<'static, Option<MetadataDocument>>;
}

/// The three trees below `/opc/v2/`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataDocument {
    /// `/opc/v2/instance/`, an object.
    pub instance: Value,
    /// `/opc/v2/vnics/`, an array.
    pub vnics: Value,
    /// `/opc/v2/volumeAttachments/`, an array.
    pub volume_attachments: Value,
    /// Whether `/opc/v1/` and `/openstack` answer 404.
    pub legacy_endpoints_disabled: bool,
}

/// Answers requests on one connection until the guest closes it.
pub(crate) async fn serve(
    source: Arc<dyn MetadataSource>,
    vnic_id: String,
    connection: GuestStream,
) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let document = source.document(vnic_id.clone());
        async move {
            let document = document.await;
            let (method, headers) = (request.method(), request.headers());
            Ok::<_, Infallible>(answer(method, request.uri().path(), headers, document.as_ref()))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(METADATA_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(connection), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metadata connection ended");
    }
}

/// The whole of the rules, without a network.
fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    document: Option<&MetadataDocument>,
) -> Response<Full<Bytes>> {
    if FORWARDING_HEADERS.iter().any(|&name| headers.contains_key(name)) {
        return refuse(StatusCode::FORBIDDEN);
    }
    if path.len() > METADATA_PATH_SIZE_MAX {
        return refuse(StatusCode::URI_TOO_LONG);
    }
    let Some((version, keys)) = split(path) else { return refuse(StatusCode::NOT_FOUND) };
    if version == Version::V2
        && headers.get(AUTHORIZATION).is_none_or(|given| given.as_bytes() != CREDENTIAL.as_bytes())
    {
        let mut response = refuse(StatusCode::UNAUTHORIZED);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    if method != Method::GET && method != Method::HEAD {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match document {
        Some(document) if version == Version::V2 || !document.legacy_endpoints_disabled => {
            find(document, &keys).unwrap_or_else(|| refuse(StatusCode::NOT_FOUND))
        }
        _ => refuse(StatusCode::NOT_FOUND),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Takes `/opc/v2/a/b/` apart. Keys are percent-decoded one by one, so that a key may hold a slash.
fn split(path: &str) -> Option<(Version, Vec<String>)> {
    let mut parts = path.strip_prefix("/opc/")?.split('/');
    let version = match parts.next()? {
        "v1" => Version::V1,
        "v2" => Version::V2,
        _ => return None,
    };
    let keys = parts.filter(|part| !part.is_empty()).map(decode).collect::<Option<_>>()?;
    Some((version, keys))
}

fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

fn find(document: &MetadataDocument, keys: &[String]) -> Option<Response<Full<Bytes>>> {
    let Some((tree, keys)) = keys.split_first() else {
        return Some(respond(StatusCode::OK, "text/plain", LISTING));
    };
    let mut value = match tree.as_str() {
        "instance" => &document.instance,
        "vnics" => &document.vnics,
        "volumeAttachments" => &document.volume_attachments,
        _ => return None,
    };
    for key in keys {
        value = match value {
            Value::Object(fields) => fields.get(key)?,
            Value::Array(items) => items.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    let (content_type, text) = match value {
        Value::Null => return None,
        Value::String(text) => ("text/plain", text.clone()),
        Value::Bool(_) | Value::Number(_) => ("text/plain", value.to_string()),
        Value::Object(_) | Value::Array(_) => ("application/json", format!("{value:#}")),
    };
    Some(respond(StatusCode::OK, content_type, text))
}

fn refuse(status: StatusCode) -> Response<Full<Bytes>> {
    respond(status, "text/plain", status.canonical_reason().unwrap_or_default())
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
