//! Bodies that are taken as they arrive: those of uploads, which have no bound but their own length.
//!
//! Nothing of such a body is read before a handler asks for it. A client that waits for `100 Continue` is told
//! to go on then, and not before: what is refused by its head is never sent.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use calotype_api::{ApiError, ErrorCode};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Body;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::limits::{BODY_SKIP_TIME_MAX, BODY_SKIPPED_BYTES_MAX};
use super::pace::Pace;

type Failure = Box<dyn StdError + Send + Sync>;

/// A body that is taken as it arrives. Clones share it: each byte is given out once.
#[derive(Clone)]
pub struct Upload {
    length_bytes: Option<u64>,
    is_waiting: bool,
    arriving: Arc<Mutex<Arriving>>,
}

struct Arriving {
    body: UnsyncBoxBody<Bytes, Failure>,
    pace: Pace,
}

impl Upload {
    pub(super) fn new<B>(headers: &HeaderMap, body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<Failure>> + Send + 'static,
    {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let body = body.map_err(Into::into).boxed_unsync();
        Self {
            length_bytes: length.and_then(|length| length.parse().ok()),
            is_waiting: headers.contains_key(EXPECT),
            arriving: Arc::new(Mutex::new(Arriving { body, pace: Pace::default() })),
        }
    }

    /// The length of the whole body as its head says it; more or less is never given out without an error.
    pub fn length_bytes(&self) -> Result<u64, ApiError> {
        self.length_bytes.ok_or_else(|| {
            ApiError::new(ErrorCode::MissingContentLength, "The Content-Length header is required")
        })
    }

    /// The next bytes, none at the end. Fails if the client stops, or is slower than one may be.
    pub async fn next(&self) -> Result<Option<Bytes>, ApiError> {
        let mut arriving = self.arriving.lock().await;
        let Arriving { body, pace } = &mut *arriving;
        loop {
            let waiting_since = Instant::now();
            let frame = match timeout(pace.patience(), body.frame()).await {
                Err(_) => return Err(ApiError::request_timeout()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "an upload was cut short");
                    return Err(ApiError::cannot_parse("the body ended early"));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers say nothing that we need.
            if let Ok(bytes) = frame.into_data()
                && !bytes.is_empty()
            {
                pace.passed(bytes.len(), waiting_since.elapsed());
                return Ok(Some(bytes));
            }
        }
    }

    /// Takes what is still sent of a body that is refused, within limits: a client that is sending when
    /// the connection ends does not hear why. One that waits to be told to go on has sent nothing.
    pub(super) async fn skip(&self) {
        if self.is_waiting {
            return;
        }
        let skipping = async {
            let mut left = BODY_SKIPPED_BYTES_MAX;
            while let Ok(Some(bytes)) = self.next().await {
                match left.checked_sub(bytes.len()) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        let _ = timeout(BODY_SKIP_TIME_MAX, skipping).await;
    }
}
