//! The client for S3, with our limits. Each request is made again a few times before it fails; a
//! read that breaks off goes on where it was.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::failure::Failures;
use crate::error::Result;
use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, CONNECT_TIMEOUT, IDLE_CONNECTIONS_MAX, REQUEST_TIMEOUT, RETRIES_MAX,
    RETRY_TIME_MAX,
};
use crate::location::{S3Credentials, S3Location};

const DEFAULT_REGION: &str = "us-east-1";

pub(super) fn client(
    location: &S3Location,
    credentials: S3Credentials,
    failures: &Failures,
) -> Result<Arc<dyn ObjectStore>> {
    let endpoint = location.checked_endpoint()?;
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: BACKOFF_MIN, max_backoff: BACKOFF_MAX, base: 2.0 },
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIME_MAX,
    };
    let options = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")));
    // Nothing from the environment but the credentials: what is not in the settings is not used.
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&location.bucket)
        .with_region(location.region.as_deref().unwrap_or(DEFAULT_REGION))
        .with_virtual_hosted_style_request(!location.path_style.unwrap_or(endpoint.is_some()))
        .with_access_key_id(credentials.access_key_id)
        .with_secret_access_key(credentials.secret_access_key)
        .with_retry(retry)
        .with_client_options(options);
    if let Some(token) = credentials.session_token {
        builder = builder.with_token(token);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let client = builder.build().map_err(|error| failures.error("opening", "a client", &error))?;
    Ok(Arc::new(client))
}
