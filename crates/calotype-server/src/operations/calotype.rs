//! What OCI has no operation for. Paths start with `/calotype/` so that they never meet one of OCI's.

use http::Method;

use super::{Body, Operation, Service, Target};
use crate::app::platform_images;

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    name: "RegisterPlatformImage",
    service: Service::Calotype,
    method: Method::POST,
    path: "/calotype/platformImages",
    query: &[],
    body: Body::Json,
    permissions: &[("CALOTYPE_PLATFORM_IMAGE_CREATE", Target::Tenancy)],
    handler: handler!(platform_images::register),
}];
