//! The authoriser: every request passes it, and what it asks for stands in the operation's row.
//!
//! The only principal there is so far is the tenancy's administrator, who may do everything in it.

use calotype_api::ApiError;

use crate::config::Config;
use crate::http::Request;

/// Refuses a caller who may not do what the operation's permissions name. Without a right to see a
/// resource nobody learns that it exists, so the refusal is a 404.
pub(crate) fn authorise(config: &Config, request: &Request) -> Result<(), ApiError> {
    let principal = &request.principal;
    if principal.tenancy.as_str() == config.tenancy
        && principal.user.as_str() == config.administrator
    {
        return Ok(());
    }
    let permissions: Vec<_> = request.operation.permissions.iter().map(|(name, _)| *name).collect();
    tracing::info!(user = %principal.user, ?permissions, "not permitted");
    Err(ApiError::not_authorized_or_not_found())
}
