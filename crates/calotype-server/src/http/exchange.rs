//! One request and its answer: the steps of the wire in their order, and the line that the log gets.

use std::error::Error as StdError;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use calotype_api::sign::{KeyId, Signature, SignatureError};
use calotype_api::{ApiError, ErrorCode};
use http::header::{IF_RANGE, RANGE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tracing::Instrument;

use super::download::AnswerBody;
use super::limits::{
    BODY_BYTES_MAX, BODY_SKIP_TIME_MAX, BODY_SKIPPED_BYTES_MAX, BODY_TIME_MAX, HEADERS_BYTES_MAX,
    TARGET_BYTES_MAX,
};
use super::replay::{Replays, Verdict};
use super::reply::OPC_REQUEST_ID;
use super::request::{PathParameters, check_query, text};
use super::request_id::request_id;
use super::router::{Route, Router};
use super::{Dispatch, Principal, Reply, Request, Upload};
use crate::operations::{self, Operation, Service};

const OPC_RETRY_TOKEN: &str = "opc-retry-token";
const OPC_CLIENT_REQUEST_ID: &str = "opc-client-request-id";
const IF_MATCH: &str = "if-match";

/// Answers requests.
pub(super) struct Exchange<D> {
    dispatch: Arc<D>,
    router: Router,
    replays: Replays,
}

/// What the log says about a request, as far as it got.
#[derive(Default)]
struct Seen {
    operation: Option<&'static str>,
    principal: Option<Principal>,
}

impl<D: Dispatch> Exchange<D> {
    /// Hands a client that speaks SSH to whoever is behind the wire.
    pub(super) async fn ssh(&self, stream: TcpStream, stopping: impl Future<Output = ()> + Send) {
        self.dispatch.ssh(stream, stopping).await;
    }

    pub(super) fn new(dispatch: Arc<D>) -> Self {
        let router = Router::new(dispatch.operations());
        Self { dispatch, router, replays: Replays::default() }
    }

    /// Answers a request, whatever it is.
    pub(super) async fn answer<B>(&self, request: http::Request<B>) -> Response<AnswerBody>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let begun = Instant::now();
        let id = request_id(request.headers().get(OPC_REQUEST_ID).map(HeaderValue::as_bytes));
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let mut seen = Seen::default();
        let reply = match self.reply(parts, body, &id, &mut seen).await {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!(request_id = id, %error, "refused");
                Reply::error(&error)
            }
        };
        tracing::info!(
            request_id = id,
            %method,
            operation = seen.operation,
            status = reply.status_value().as_u16(),
            ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            user = seen.principal.map(|principal| tracing::field::display(principal.user)),
            "answered"
        );
        reply.into_response(&id)
    }

    async fn reply<B>(
        &self,
        parts: Parts,
        body: B,
        request_id: &str,
        seen: &mut Seen,
    ) -> Result<Reply, ApiError>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        measure(&parts)?;
        if parts.method == Method::HEAD && parts.uri.path() == "/" {
            return Ok(Reply::no_content().status(StatusCode::OK));
        }
        let now = Timestamp::now().as_second();
        let route = self.router.route(&parts.method, parts.uri.path(), parts.uri.query());
        let (signature, principal) = self.caller(&parts, &route, now).await?;
        seen.principal = Some(principal.clone());
        let (operation, path) = match route {
            Route::Found(operation, path) => (operation, path),
            Route::NotImplemented(name) => return Err(ApiError::method_not_implemented(name)),
            Route::NotFound => return Err(ApiError::not_found(parts.uri.path())),
            Route::MethodNotAllowed(allowed) => {
                return Ok(Reply::method_not_allowed(&parts.method, &allowed));
            }
        };
        seen.operation = Some(operation.name);
        let (body, upload) = self.body(&parts, body, operation, signature.as_ref()).await?;
        // What is asked for only if nothing has changed is answered whole, which is always right.
        let range = text(&parts.headers, RANGE.as_str())?;
        let range = range.filter(|_| !parts.headers.contains_key(IF_RANGE));
        let carry_out = async {
            if let Some(signature) = &signature {
                self.refuse_replay(&parts, signature, now)?;
            }
            let query = check_query(parts.uri.query(), operation.query)?;
            let request = Request {
                operation,
                path,
                query,
                if_match: text(&parts.headers, IF_MATCH)?,
                retry_token: text(&parts.headers, OPC_RETRY_TOKEN)?,
                headers: parts.headers,
                body,
                upload: upload.clone(),
                principal,
                request_id: request_id.to_owned(),
            };
            self.call(request).await
        };
        let reply = match carry_out.await {
            // Identity answers a stale etag with another status than all other services.
            Err(error)
                if operation.service == Service::Identity
                    && error.code == ErrorCode::NoEtagMatch =>
            {
                Ok(Reply::error(&error).status(StatusCode::CONFLICT))
            }
            reply => reply,
        };
        if let (Err(_), Some(upload)) = (&reply, &upload) {
            upload.skip().await;
        }
        Ok(reply?.within(range.as_deref()))
    }

    /// Finds out who asks: who signed the head of the request, or on whose behalf the secret in its path was
    /// given out. The body is not read before that is known.
    async fn caller(
        &self,
        parts: &Parts,
        route: &Route,
        now: i64,
    ) -> Result<(Option<Signature>, Principal), ApiError> {
        let mut signs_body = true;
        if let Route::Found(operation, path) = route {
            if let Some(token) = secret(operation, path) {
                return Ok((None, self.dispatch.bearer(token).await?));
            }
            signs_body = operation.body != operations::Body::Stream;
        }
        let (signature, principal) = self.authenticate(parts, signs_body, now).await?;
        Ok((Some(signature), principal))
    }

    async fn authenticate(
        &self,
        parts: &Parts,
        signs_body: bool,
        now: i64,
    ) -> Result<(Signature, Principal), ApiError> {
        let signature = Signature::parse(&parts.headers)?;
        // An unknown key and a wrong signature get the same answer: it must not tell which keys exist.
        let key_id: KeyId =
            signature.key_id().parse().map_err(|_| ApiError::from(SignatureError::Mismatch))?;
        let known = self.dispatch.key(&key_id).await?;
        let (key, principal) = known.ok_or_else(|| ApiError::from(SignatureError::Mismatch))?;
        let (method, headers) = (&parts.method, &parts.headers);
        signature.verify_head(method, target(parts), headers, signs_body, &key, now)?;
        Ok((signature, principal))
    }

    /// The body as the operation's row wants it: read, or to be taken as it arrives.
    async fn body<B>(
        &self,
        parts: &Parts,
        body: B,
        operation: &Operation,
        signature: Option<&Signature>,
    ) -> Result<(Bytes, Option<Upload>), ApiError>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        if operation.body == operations::Body::Stream {
            return Ok((Bytes::new(), Some(Upload::new(&parts.headers, body))));
        }
        let body = read(body).await?;
        if let Some(signature) = signature {
            signature.verify_body(&parts.method, &parts.headers, &body)?;
        }
        Ok((body, None))
    }

    fn refuse_replay(
        &self,
        parts: &Parts,
        signature: &Signature,
        now: i64,
    ) -> Result<(), ApiError> {
        if parts.method.is_safe() {
            return Ok(());
        }
        let id = |name: &str| parts.headers.get(name).map_or(&b""[..], |id| id.as_bytes());
        let ids = [OPC_REQUEST_ID.as_str(), OPC_CLIENT_REQUEST_ID, OPC_RETRY_TOKEN].map(id);
        let signed_at = signature.unix_seconds(&parts.headers)?;
        match self.replays.check(signature.as_bytes(), &ids, signed_at, now) {
            Verdict::New => Ok(()),
            Verdict::Seen => Err(ApiError::new(
                ErrorCode::NotAuthenticated,
                "This request was received before. Sign it again to send it again.",
            )),
            Verdict::Full => Err(ApiError::new(
                ErrorCode::TooManyRequests,
                "Too many changing requests at once. Try again in a few minutes.",
            )),
        }
    }

    /// Runs the handler in a task of its own: a panic ends only that, and a client that goes away ends nothing.
    async fn call(&self, request: Request) -> Result<Reply, ApiError> {
        let span = tracing::info_span!(
            "operation",
            name = request.operation.name,
            request_id = request.request_id
        );
        let request_id = request.request_id.clone();
        let dispatch = Arc::clone(&self.dispatch);
        let task = tokio::spawn(async move { dispatch.call(request).await }.instrument(span));
        task.await.unwrap_or_else(|error| {
            tracing::error!(request_id, %error, "an operation did not end");
            Err(ApiError::internal())
        })
    }
}

/// The raw path and query, as they were signed.
fn target(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

fn measure(parts: &Parts) -> Result<(), ApiError> {
    let headers: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if target(parts).len() > TARGET_BYTES_MAX || headers > HEADERS_BYTES_MAX {
        return Err(ApiError::headers_too_large());
    }
    Ok(())
}

async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>>,
{
    let too_large = || ApiError::too_large(BODY_BYTES_MAX as u64);
    let mut body = pin!(body);
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        skip(body).await;
        return Err(too_large());
    }
    let collected = Limited::new(body.as_mut(), BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIME_MAX, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            skip(body).await;
            Err(too_large())
        }
        Ok(Err(_)) => Err(ApiError::cannot_parse("the body ended early")),
        Err(_) => Err(ApiError::request_timeout()),
    }
}

/// Takes what is sent of a body that is refused, within limits: a client that is still sending when the
/// connection ends does not hear why.
async fn skip<B: Body<Data = Bytes>>(mut body: Pin<&mut B>) {
    let mut left = BODY_SKIPPED_BYTES_MAX;
    let skipping = async {
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // One that waits for the answer before it sends anything is answered then.
    let _ = tokio::time::timeout(BODY_SKIP_TIME_MAX, skipping).await;
}

/// The secret that stands for a signature, where the operation's path has one.
fn secret<'p>(operation: &Operation, path: &'p PathParameters) -> Option<&'p str> {
    let is_bearers = operation.service == operations::Service::Preauthenticated;
    is_bearers.then(|| path.get("token").map_or("", String::as_str))
}
