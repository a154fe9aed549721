//! Work requests: how long actions are followed. Identity has them at the same paths; which list is meant shows by its
//! parameters.

use http::Method;

use super::{Body, COMPARTMENT, LIMIT, Operation, PAGE, SORT_ORDER, Service, Target, optional};
use crate::app::work_requests;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        name: "GetWorkRequest",
        service: Service::WorkRequest,
        method: Method::GET,
        path: "/20160918/workRequests/{workRequestId}",
        query: &[],
        body: Body::None,
        permissions: &[("WORKREQUEST_INSPECT", Target::Path("workRequestId"))],
        handler: handler!(work_requests::get),
    },
    Operation {
        name: "ListWorkRequests",
        service: Service::WorkRequest,
        method: Method::GET,
        path: "/20160918/workRequests",
        query: &[COMPARTMENT, optional("resourceId"), LIMIT, PAGE],
        body: Body::None,
        permissions: &[("WORKREQUEST_INSPECT", Target::Query("compartmentId"))],
        handler: handler!(work_requests::list),
    },
    Operation {
        name: "GetWorkRequest",
        service: Service::Identity,
        method: Method::GET,
        path: "/20160918/workRequests/{workRequestId}",
        query: &[],
        body: Body::None,
        permissions: &[("WORKREQUEST_INSPECT", Target::Path("workRequestId"))],
        handler: handler!(work_requests::get),
    },
    Operation {
        name: "ListWorkRequests",
        service: Service::Identity,
        method: Method::GET,
        path: "/20160918/workRequests",
        query: &[COMPARTMENT, PAGE, LIMIT, optional("resourceIdentifier")],
        body: Body::None,
        permissions: &[("WORKREQUEST_INSPECT", Target::Query("compartmentId"))],
        handler: handler!(work_requests::list_of_identity),
    },
    Operation {
        name: "ListWorkRequestLogs",
        service: Service::WorkRequest,
        method: Method::GET,
        path: "/20160918/workRequests/{workRequestId}/logs",
        query: &[LIMIT, PAGE, SORT_ORDER],
        body: Body::None,
        permissions: &[("WORKREQUEST_INSPECT", Target::Path("workRequestId"))],
        handler: handler!(work_requests::list_logs),
    },
    Operation {
        name: "ListWorkRequestErrors",
        service: Service::WorkRequest,
        method: Method::GET,
        path: "/20160918/workRequests/{workRequestId}/errors",
        query: &[LIMIT, PAGE, SORT_ORDER],
        body: Body::None,
        permissions: &[("WORKREQUEST_INSPECT", Target::Path("workRequestId"))],
        handler: handler!(work_requests::list_errors),
    },
];
