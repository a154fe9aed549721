//! What a handler answers, before it is bytes.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use calotype_api::range::{Asked, asked};
use calotype_api::{ApiError, ErrorCode};
use calotype_disk::Source;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;
use serde_json::Value;

use super::download::{AnswerBody, Content};

pub(super) const OPC_REQUEST_ID: HeaderName = HeaderName::from_static("opc-request-id");
const OPC_WORK_REQUEST_ID: HeaderName = HeaderName::from_static("opc-work-request-id");
const OPC_NEXT_PAGE: HeaderName = HeaderName::from_static("opc-next-page");

/// The body of an answer.
#[derive(Debug, Clone)]
pub enum ReplyBody {
    /// None.
    Empty,
    /// A JSON value.
    Json(Value),
    /// Bytes of a content type.
    Bytes(&'static str, Bytes),
    /// What is read while it is sent; its content type is among the headers.
    Content(Content),
}

/// The answer of an operation.
#[derive(Debug, Clone)]
#[must_use]
pub struct Reply {
    status: StatusCode,
    body: ReplyBody,
    etag: Option<String>,
    work_request: Option<String>,
    next_page: Option<String>,
    headers: Vec<(Cow<'static, str>, String)>,
}

impl Reply {
    fn new(status: StatusCode, body: ReplyBody) -> Self {
        Self { status, body, etag: None, work_request: None, next_page: None, headers: Vec::new() }
    }

    /// 200 with a resource, or a list of them. Fails only if the value cannot be JSON.
    pub fn ok<T: Serialize + ?Sized>(value: &T) -> Result<Self, ApiError> {
        match serde_json::to_value(value) {
            Ok(value) => Ok(Self::new(StatusCode::OK, ReplyBody::Json(value))),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                Err(ApiError::internal())
            }
        }
    }

    /// 200 with bytes.
    pub fn bytes(content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, ReplyBody::Bytes(content_type, bytes.into()))
    }

    /// 200 with content that is read while it is sent, or 206 with the part of it that is asked for.
    pub fn content(source: Arc<dyn Source>) -> Self {
        Self::new(StatusCode::OK, ReplyBody::Content(Content::whole(source)))
            .header("accept-ranges", "bytes")
    }

    /// 200 to a HEAD, about content of this length.
    pub fn head(length_bytes: u64) -> Self {
        Self::new(StatusCode::OK, ReplyBody::Empty)
            .header(CONTENT_LENGTH.as_str(), length_bytes.to_string())
            .header("accept-ranges", "bytes")
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT, ReplyBody::Empty)
    }

    /// 202 without a body.
    pub fn accepted() -> Self {
        Self::new(StatusCode::ACCEPTED, ReplyBody::Empty)
    }

    /// With another status.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With the version of the resource.
    pub fn etag(self, etag: impl Into<String>) -> Self {
        self.maybe_etag(Some(etag.into()))
    }

    /// With the version of the resource, if there is one.
    pub fn maybe_etag(mut self, etag: Option<String>) -> Self {
        self.etag = etag;
        self
    }

    /// With the work request that shows the progress of what was begun.
    pub fn work_request(self, id: impl ToString) -> Self {
        self.maybe_work_request(Some(id))
    }

    /// With a work request, if there is one.
    pub fn maybe_work_request(mut self, id: Option<impl ToString>) -> Self {
        self.work_request = id.map(|id| id.to_string());
        self
    }

    /// With the token of the next page; the last page has none.
    pub fn maybe_next_page(mut self, token: Option<String>) -> Self {
        self.next_page = token;
        self
    }

    /// With a header more. `name` is in lower case.
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The status.
    pub fn status_value(&self) -> StatusCode {
        self.status
    }

    /// The body, if it is JSON.
    pub fn json(&self) -> Option<&Value> {
        match &self.body {
            ReplyBody::Json(value) => Some(value),
            ReplyBody::Empty | ReplyBody::Bytes(..) | ReplyBody::Content(_) => None,
        }
    }

    /// The version of the resource.
    pub fn etag_value(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// The work request.
    pub fn work_request_value(&self) -> Option<&str> {
        self.work_request.as_deref()
    }

    pub(super) fn error(error: &ApiError) -> Self {
        let body = serde_json::json!({"code": error.code, "message": error.message});
        Self::new(error.status(), ReplyBody::Json(body))
    }

    pub(super) fn method_not_allowed(method: &Method, allowed: &[Method]) -> Self {
        let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        Self::error(&ApiError::method_not_allowed(method)).header("allow", allowed.join(", "))
    }

    /// With the part of its content that a `Range` header asks for.
    pub(super) fn within(mut self, range: Option<&str>) -> Self {
        let ReplyBody::Content(content) = &self.body else { return self };
        let whole_bytes = content.whole_bytes();
        match asked(range, whole_bytes) {
            Asked::Whole => self,
            Asked::Range(range) => {
                let place = format!("bytes {}-{}/{whole_bytes}", range.start, range.end - 1);
                self.body = ReplyBody::Content(content.part(range));
                self.status(StatusCode::PARTIAL_CONTENT).header("content-range", place)
            }
            Asked::Unsatisfiable => {
                let message = format!("The range begins behind the end of {whole_bytes} bytes");
                Self::error(&ApiError::new(ErrorCode::InvalidRange, message))
                    .header("content-range", format!("bytes */{whole_bytes}"))
            }
        }
    }

    pub(super) fn into_response(self, request_id: &str) -> Response<AnswerBody> {
        let full = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        let (content_type, length, body) = match self.body {
            ReplyBody::Empty => (None, None, full(Bytes::new())),
            ReplyBody::Json(value) => {
                (Some("application/json"), None, full(value.to_string().into()))
            }
            ReplyBody::Bytes(content_type, bytes) => (Some(content_type), None, full(bytes)),
            ReplyBody::Content(content) => {
                (None, Some(content.length_bytes()), content.into_body())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let named = [
            (ETAG, self.etag),
            (OPC_WORK_REQUEST_ID, self.work_request),
            (OPC_NEXT_PAGE, self.next_page),
            (OPC_REQUEST_ID, Some(request_id.to_owned())),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        let extra = self.headers.into_iter().map(|(name, value)| (name.into_owned(), value));
        for (name, value) in named.chain(extra) {
            match (HeaderName::try_from(&name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => drop(headers.insert(name, value)),
                _ => {
                    tracing::error!(request_id, header = %name, "a header of an answer has forbidden characters");
                }
            }
        }
        response
    }
}
