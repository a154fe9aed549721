//! Retry tokens: a create call that is sent again within 24 hours is answered as it was the first
//! time, and nothing is created twice.
//!
//! The answer is written in the same batch as what it created, so neither can exist alone.

use calotype_api::error::ApiError;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::db::{Batch, Db, Document};
use crate::http::{Reply, Request};
use crate::jobs::WorkRequestRecord;

/// How long a token is remembered.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// States of what was deleted and is still shown for a while.
const GONE: [&str; 4] = ["DELETING", "DELETED", "TERMINATING", "TERMINATED"];

/// Longest token accepted, in characters.
const LENGTH_MAX: usize = 64;

/// The token of a request, and what it stands for.
#[derive(Debug, Clone)]
pub struct RetryToken {
    key: String,
    /// Digest of all that the request says: the same token must mean the same request.
    fingerprint: String,
}

/// The answer that was given under a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RetryRecord {
    key: String,
    fingerprint: String,
    body: Value,
    etag: Option<String>,
    work_request: Option<String>,
    /// Kind and id of each document that was created with it.
    #[serde(default)]
    created: Vec<(String, String)>,
    /// The status of an answer without a body.
    #[serde(default)]
    status: Option<u16>,
    time_created: Timestamp,
}

impl Document for RetryRecord {
    const KIND: &'static str = "retry_token";

    fn id(&self) -> String {
        self.key.clone()
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

#[cfg(test)]
impl RetryRecord {
    pub(crate) fn for_test(key: &str, time_created: Timestamp) -> Self {
        Self {
            key: key.to_owned(),
            fingerprint: String::new(),
            body: Value::Null,
            etag: None,
            work_request: None,
            created: Vec::new(),
            status: None,
            time_created,
        }
    }
}

impl RetryToken {
    /// The token of `request`, if it carries one.
    pub fn of(request: &Request) -> Result<Option<Self>, ApiError> {
        let Some(token) = &request.retry_token else { return Ok(None) };
        if token.is_empty() || token.len() > LENGTH_MAX {
            return Err(ApiError::invalid_parameter(
                "opc-retry-token",
                format!("must have between 1 and {LENGTH_MAX} characters"),
            ));
        }
        let mut digest = blake3::Hasher::new();
        digest.update(request.operation.name.as_bytes());
        for (name, value) in request.path.iter().chain(&request.query) {
            for part in [*name, value] {
                digest.update(&(part.len() as u64).to_be_bytes());
                digest.update(part.as_bytes());
            }
        }
        digest.update(&request.body);
        Ok(Some(Self {
            key: format!("{}/{}/{token}", request.principal.user, request.operation.name),
            fingerprint: digest.finalize().to_hex().to_string(),
        }))
    }

    /// The answer that was given before, if this request is a repetition.
    pub async fn replay(&self, db: &Db, now: Timestamp) -> Result<Option<Reply>, ApiError> {
        let Some(record) = db.get::<RetryRecord>(&self.key).await? else { return Ok(None) };
        if now.duration_since(record.value.time_created) > LIFETIME {
            db.apply(Batch::new().delete(&record)).await?;
            return Ok(None);
        }
        if record.value.fingerprint != self.fingerprint || is_gone(db, &record.value).await? {
            return Err(ApiError::invalidated_retry_token());
        }
        let RetryRecord { body, etag, work_request, status, .. } = record.value;
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let reply = match status {
            Some(status) => Reply::no_content().status(status),
            None => Reply::ok(&body)?,
        };
        Ok(Some(reply.maybe_etag(etag).maybe_work_request(work_request)))
    }

    /// The record of the answer `reply` to a request that writes `batch`.
    pub fn remember(&self, batch: &Batch, reply: &Reply, now: Timestamp) -> RetryRecord {
        let created = batch.made().filter(|(kind, _)| *kind != WorkRequestRecord::KIND);

        RetryRecord {
            key: self.key.clone(),
            fingerprint: self.fingerprint.clone(),
            body: reply.json().cloned().unwrap_or(Value::Null),
            etag: reply.etag_value().map(ToOwned::to_owned),
            work_request: reply.work_request_value().map(ToString::to_string),
            created: created.map(|(kind, id)| (kind.to_owned(), id.to_owned())).collect(),
            status: reply.json().is_none().then(|| reply.status_value().as_u16()),
            time_created: now,
        }
    }
}

/// Whether something that the first request created has been deleted since.
async fn is_gone(db: &Db, record: &RetryRecord) -> Result<bool, ApiError> {
    for (kind, id) in &record.created {
        let state = db.state(kind, id).await?;
        if state.is_none_or(|state| GONE.contains(&state.as_str())) {
            return Ok(true);
        }
    }
    Ok(false)
}
