//! From the wire to the rules: finds callers' keys, authorises, answers repeated requests, calls.

use std::sync::Arc;

use calotype_api::ApiError;
use calotype_api::sign::{KeyId, PublicKey};
use jiff::Timestamp;
use tokio::net::TcpStream;

use crate::app::identity::CompartmentRecord;
use crate::app::retry_tokens::RetryToken;
use crate::app::{Context, preauthenticated_requests};
use crate::authorise::authorise;
use crate::db::{self, Document as _};
use crate::http::{Dispatch, Principal, Reply, Request};
use crate::operations::{self, Body, Operation};
use crate::records::ApiKeyRecord;
use crate::region::Region;

/// The region behind the wire.
pub(crate) struct Operations {
    region: Arc<Region>,
}

impl Operations {
    /// The operations of `region`.
    pub(crate) fn new(region: Arc<Region>) -> Self {
        Self { region }
    }
}

impl Dispatch for Operations {
    fn operations(&self) -> Vec<&'static Operation> {
        operations::all().collect()
    }

    async fn key(&self, key_id: &KeyId) -> Result<Option<(PublicKey, Principal)>, ApiError> {
        let id = format!("{}/{}/{}", key_id.tenancy, key_id.user, key_id.fingerprint);
        let Some(record) = self.region.db.get::<ApiKeyRecord>(&id).await? else { return Ok(None) };
        let key = PublicKey::from_pem(&record.public_key_pem).map_err(|error| {
            tracing::error!(%error, key_id = %id, "a stored key cannot be read");
            ApiError::internal()
        })?;
        let ApiKeyRecord { user, tenancy, .. } = record.value;
        Ok(Some((key, Principal { user, tenancy })))
    }

    async fn bearer(&self, token: &str) -> Result<Principal, ApiError> {
        preauthenticated_requests::bearer(&self.region, token, Timestamp::now()).await
    }

    async fn ssh(&self, stream: TcpStream, stopping: impl Future<Output = ()> + Send) {
        self.region.consoles.serve(&self.region, stream, stopping).await;
    }

    async fn call(&self, request: Request) -> Result<Reply, ApiError> {
        let now = Timestamp::now();
        authorise(&self.region.config, &request)?;
        if request.operation.body == Body::OptionalJson {
            // Whoever does not read the body must not let a wrong one pass.
            request.json::<serde_json::Map<String, serde_json::Value>>()?;
        }
        let retry = RetryToken::of(&request)?;
        let context = Context {
            region: Arc::clone(&self.region),
            principal: request.principal.clone(),
            now,
            request_id: request.request_id.clone(),
            retry: retry.clone(),
        };
        let Some(token) = retry else { return (request.operation.handler)(context, request).await };
        if let Some(reply) = token.replay(&self.region.db, now).await? {
            return Ok(reply);
        }
        let outcome = (request.operation.handler)(context, request).await;
        if outcome.is_err() {
            // The same request may have been answered while this one was being worked on.
            if let Some(reply) = token.replay(&self.region.db, now).await? {
                return Ok(reply);
            }
        }
        outcome
    }
}

impl From<db::Error> for ApiError {
    fn from(error: db::Error) -> Self {
        match &error.kind {
            db::ErrorKind::Conflict { kind, id } if kind == CompartmentRecord::KIND => {
                let changed =
                    "was changed by another request, or is not ACTIVE: get it and try again";
                Self::conflict(format!("compartment {id} {changed}"))
            }
            db::ErrorKind::Conflict { .. } => {
                Self::conflict("The resource was changed by another request, try again later")
            }
            db::ErrorKind::InvalidPageToken => {
                Self::invalid_parameter("page", "is not a page of this list")
            }
            kind => {
                tracing::error!(%kind, source = ?error.source, "the catalog failed");
                Self::internal()
            }
        }
    }
}
