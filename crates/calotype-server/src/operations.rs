//! THE TABLE: every operation of the region, one row each. Reading it is reading the product.
//!
//! A row names the operation as OCI does, where it is reached, the parameters it takes, the
//! permissions it needs and the function that carries it out. No handler is reached around it: the
//! wire layer routes by these rows, checks the parameters they declare and asks the authoriser for
//! the permissions they name before it calls the handler. A test holds every row against the
//! published API.

use std::future::Future;
use std::pin::Pin;

use calotype_api::error::ApiError;
use http::Method;

use crate::app::Context;
use crate::http::{Reply, Request};

macro_rules! handler {
    ($function:path) => {
        |context, request| Box::pin($function(context, request))
    };
}

mod app_catalog;
mod attachments;
mod blockstorage;
mod calotype;
mod capability_schemas;
mod consoles;
mod identity;
mod images;
mod instances;
mod object_storage;
mod shapes;
mod tags;
mod vcn_parts;
mod virtual_network;
mod work_requests;

/// What a handler returns.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Reply, ApiError>> + Send>>;

/// One operation of the region.
pub struct Operation {
    /// OCI's operation id, for example `LaunchInstance`; also what policies and logs call it.
    pub name: &'static str,
    /// Which of the clients' services it belongs to.
    pub service: Service,
    /// HTTP method.
    pub method: Method,
    /// Full path with `{parameter}` segments.
    pub path: &'static str,
    /// Query parameters it takes; any other is refused.
    pub query: &'static [Parameter],
    /// What is read of a body.
    pub body: Body,
    /// What the caller must be permitted, and on what.
    pub permissions: &'static [(&'static str, Target)],
    /// The function that carries it out.
    pub handler: fn(Context, Request) -> HandlerFuture,
}

/// The clients' services: each has its own client class and host name, all share one port here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `ComputeClient`.
    Compute,
    /// `BlockstorageClient`.
    Blockstorage,
    /// `VirtualNetworkClient`.
    VirtualNetwork,
    /// `IdentityClient`.
    Identity,
    /// `WorkRequestClient`.
    WorkRequest,
    /// `ObjectStorageClient`.
    ObjectStorage,
    /// What is reached by the URL of a pre-authenticated request: a secret in the path, `{token}`, stands for
    /// a signature. The caller is whoever made the request.
    Preauthenticated,
    /// Operations of ours that OCI does not have.
    Calotype,
}

/// The request body of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// No body; one that is sent is ignored.
    None,
    /// A JSON object is required.
    Json,
    /// A JSON object may be sent.
    OptionalJson,
    /// Bytes that the handler takes as they arrive. They are not signed.
    Stream,
}

/// A query parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Name on the wire.
    pub name: &'static str,
    /// Whether the operation refuses to go on without it.
    pub required: bool,
    /// The values allowed; empty = any.
    pub values: &'static [&'static str],
}

/// On which compartment a permission must be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The compartment that the query parameter of this name gives.
    Query(&'static str),
    /// The compartment that the body's attribute of this name gives.
    Body(&'static str),
    /// The compartment of the resource whose id, or bucket whose name, is this path parameter.
    Path(&'static str),
    /// The compartment of the resource whose id, or bucket whose name, is this attribute of the body (dotted).
    Reference(&'static str),
    /// The tenancy.
    Tenancy,
}

const fn optional(name: &'static str) -> Parameter {
    Parameter { name, required: false, values: &[] }
}

const fn required(name: &'static str) -> Parameter {
    Parameter { name, required: true, values: &[] }
}

const fn one_of(name: &'static str, values: &'static [&'static str]) -> Parameter {
    Parameter { name, required: false, values }
}

const LIMIT: Parameter = optional("limit");
const PAGE: Parameter = optional("page");
const COMPARTMENT: Parameter = required("compartmentId");
const SORT_BY: Parameter = one_of("sortBy", &["TIMECREATED", "DISPLAYNAME"]);
const SORT_ORDER: Parameter = one_of("sortOrder", &["ASC", "DESC"]);

/// The tables of all resources, in the order in which requests are matched.
pub static OPERATIONS: &[&[Operation]] = &[
    images::OPERATIONS,
    shapes::OPERATIONS,
    capability_schemas::OPERATIONS,
    instances::OPERATIONS,
    attachments::OPERATIONS,
    app_catalog::OPERATIONS,
    consoles::OPERATIONS,
    blockstorage::OPERATIONS,
    virtual_network::OPERATIONS,
    vcn_parts::OPERATIONS,
    identity::OPERATIONS,
    tags::OPERATIONS,
    object_storage::OPERATIONS,
    work_requests::OPERATIONS,
    calotype::OPERATIONS,
];

/// Every operation.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().flat_map(|table| table.iter())
}
