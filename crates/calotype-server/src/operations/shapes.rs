//! Shapes.

use http::Method;

use super::{Body, COMPARTMENT, LIMIT, Operation, PAGE, Service, Target, optional};
use crate::app::shapes;

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    name: "ListShapes",
    service: Service::Compute,
    method: Method::GET,
    path: "/20160918/shapes",
    query: &[
        optional("availabilityDomain"),
        COMPARTMENT,
        LIMIT,
        PAGE,
        optional("imageId"),
        optional("shape"),
    ],
    body: Body::None,
    permissions: &[("INSTANCE_INSPECT", Target::Query("compartmentId"))],
    handler: handler!(shapes::list),
}];
