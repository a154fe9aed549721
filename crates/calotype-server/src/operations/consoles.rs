//! Consoles of instances: what they have shown.

use http::Method;

use super::{
    Body, COMPARTMENT, LIMIT, Operation, PAGE, SORT_BY, SORT_ORDER, Service, Target, one_of,
    optional,
};
use crate::app::console_histories;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        name: "CaptureConsoleHistory",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/instanceConsoleHistories",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("CONSOLE_HISTORY_CREATE", Target::Reference("instanceId")),
            ("INSTANCE_READ", Target::Reference("instanceId")),
            ("INSTANCE_IMAGE_READ", Target::Reference("instanceId")),
        ],
        handler: handler!(console_histories::capture),
    },
    Operation {
        name: "GetConsoleHistory",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/instanceConsoleHistories/{instanceConsoleHistoryId}",
        query: &[],
        body: Body::None,
        permissions: &[("CONSOLE_HISTORY_READ", Target::Path("instanceConsoleHistoryId"))],
        handler: handler!(console_histories::get),
    },
    Operation {
        name: "GetConsoleHistoryContent",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/instanceConsoleHistories/{instanceConsoleHistoryId}/data",
        query: &[optional("offset"), optional("length")],
        body: Body::None,
        permissions: &[
            ("CONSOLE_HISTORY_READ", Target::Path("instanceConsoleHistoryId")),
            ("INSTANCE_READ", Target::Path("instanceConsoleHistoryId")),
            ("INSTANCE_IMAGE_READ", Target::Path("instanceConsoleHistoryId")),
        ],
        handler: handler!(console_histories::content),
    },
    Operation {
        name: "ListConsoleHistories",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/instanceConsoleHistories",
        query: &[
            optional("availabilityDomain"),
            COMPARTMENT,
            LIMIT,
            PAGE,
            optional("instanceId"),
            SORT_BY,
            SORT_ORDER,
            one_of("lifecycleState", &["REQUESTED", "GETTING-HISTORY", "SUCCEEDED", "FAILED"]),
        ],
        body: Body::None,
        permissions: &[("CONSOLE_HISTORY_INSPECT", Target::Query("compartmentId"))],
        handler: handler!(console_histories::list),
    },
    Operation {
        name: "DeleteConsoleHistory",
        service: Service::Compute,
        method: Method::DELETE,
        path: "/20160918/instanceConsoleHistories/{instanceConsoleHistoryId}",
        query: &[],
        body: Body::None,
        permissions: &[("CONSOLE_HISTORY_DELETE", Target::Path("instanceConsoleHistoryId"))],
        handler: handler!(console_histories::delete),
    },
    Operation {
        name: "UpdateConsoleHistory",
        service: Service::Compute,
        method: Method::PUT,
        path: "/20160918/instanceConsoleHistories/{instanceConsoleHistoryId}",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("CONSOLE_HISTORY_CREATE", Target::Path("instanceConsoleHistoryId")),
            ("CONSOLE_HISTORY_DELETE", Target::Path("instanceConsoleHistoryId")),
        ],
        handler: handler!(console_histories::update),
    },
];
