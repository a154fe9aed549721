//! The wire: nothing reaches an operation that was not routed, measured, signed, and checked against the operation's row.
//!
//! What happens to a request, in this order; each step is the only place where its refusal is made:
//!
//! ```text
//! connection   at most so many, a TLS handshake and headers within their time      serve
//! 1 name       opc-request-id, on every answer whatever happens next               request_id
//! 2 measure    431 target or headers too large                                      exchange
//! 3 greet      HEAD / answers without a signature: clients compare its Date         exchange
//! 4 sign       401 absent, unknown key, skewed, or not over this target             exchange
//!              or, where the path has a secret for it, 404 if it opens nothing
//! 5 route      404 no such path, 405 not with this method, 501 not in this region   router
//! 6 body       413 too large (before it is read), 408 too slow, 401 not as signed   exchange
//!              of an upload nothing yet: the handler takes it as it arrives         upload
//! 7 replay     401 a changing request that was seen before                          replay
//! 8 query      400 absent, repeated, undeclared or not an allowed word              request
//! 9 call       the handler, in a task of its own; a panic is a 500                  exchange
//! 10 send      206, 416 the part that was asked for, read while it is sent          download
//! ```
//!
//! It knows no rule of the region and no resource: those are behind [`Dispatch`].

use std::future::Future;

use calotype_api::sign::{KeyId, PublicKey};
use calotype_api::{ApiError, Ocid};
use tokio::net::TcpStream;

use crate::operations::Operation;

mod download;
mod exchange;
mod limits;
mod pace;
mod published;
mod replay;
mod reply;
mod request;
mod request_id;
mod router;
mod serve;
pub mod tls;
mod upload;

#[cfg(test)]
mod tests;

pub use reply::{Reply, ReplyBody};
pub use request::{PathParameters, QueryParameters, Request};
pub use serve::serve;
pub use upload::Upload;

/// Who signed a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: Ocid,
    /// The user's tenancy.
    pub tenancy: Ocid,
}

/// What is behind the wire.
pub trait Dispatch: Send + Sync + 'static {
    /// Every operation. Read once, when serving begins.
    fn operations(&self) -> Vec<&'static Operation>;

    /// The public key of that name and whose it is; `None` if there is none.
    fn key(
        &self,
        key_id: &KeyId,
    ) -> impl Future<Output = Result<Option<(PublicKey, Principal)>, ApiError>> + Send;

    /// On whose behalf a pre-authenticated request with this secret is carried out; refused if there is none.
    fn bearer(&self, token: &str) -> impl Future<Output = Result<Principal, ApiError>> + Send;

    /// Serves a client of the port that speaks SSH; ends when it goes, or `stopping` resolves.
    fn ssh(
        &self,
        stream: TcpStream,
        stopping: impl Future<Output = ()> + Send,
    ) -> impl Future<Output = ()> + Send;

    /// Authorises and carries out a request whose signature and parameters were checked.
    ///
    /// It runs to its end even if the client goes away.
    fn call(&self, request: Request) -> impl Future<Output = Result<Reply, ApiError>> + Send;
}
