//! Images.

use http::Method;

use super::{
    Body, COMPARTMENT, LIMIT, Operation, PAGE, SORT_BY, SORT_ORDER, Service, Target, one_of,
    optional,
};
use crate::app::images;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        name: "ListImages",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/images",
        query: &[
            COMPARTMENT,
            optional("displayName"),
            optional("operatingSystem"),
            optional("operatingSystemVersion"),
            optional("shape"),
            LIMIT,
            PAGE,
            SORT_BY,
            SORT_ORDER,
            one_of(
                "lifecycleState",
                &["PROVISIONING", "IMPORTING", "AVAILABLE", "EXPORTING", "DISABLED", "DELETED"],
            ),
        ],
        body: Body::None,
        permissions: &[("INSTANCE_IMAGE_INSPECT", Target::Query("compartmentId"))],
        handler: handler!(images::list),
    },
    Operation {
        name: "GetImage",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/images/{imageId}",
        query: &[],
        body: Body::None,
        permissions: &[("INSTANCE_IMAGE_INSPECT", Target::Path("imageId"))],
        handler: handler!(images::get),
    },
    Operation {
        name: "CreateImage",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/images",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("INSTANCE_IMAGE_CREATE", Target::Body("compartmentId")),
            ("INSTANCE_CREATE_IMAGE", Target::Reference("instanceId")),
        ],
        handler: handler!(images::create),
    },
    Operation {
        name: "UpdateImage",
        service: Service::Compute,
        method: Method::PUT,
        path: "/20160918/images/{imageId}",
        query: &[],
        body: Body::Json,
        permissions: &[("INSTANCE_IMAGE_UPDATE", Target::Path("imageId"))],
        handler: handler!(images::update),
    },
    Operation {
        name: "DeleteImage",
        service: Service::Compute,
        method: Method::DELETE,
        path: "/20160918/images/{imageId}",
        query: &[],
        body: Body::None,
        permissions: &[("INSTANCE_IMAGE_DELETE", Target::Path("imageId"))],
        handler: handler!(images::delete),
    },
    Operation {
        name: "ChangeImageCompartment",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/images/{imageId}/actions/changeCompartment",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("INSTANCE_IMAGE_MOVE", Target::Path("imageId")),
            ("INSTANCE_IMAGE_MOVE", Target::Body("compartmentId")),
        ],
        handler: handler!(images::change_compartment),
    },
    Operation {
        name: "ExportImage",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/images/{imageId}/actions/export",
        query: &[],
        body: Body::Json,
        permissions: &[("INSTANCE_IMAGE_READ", Target::Path("imageId"))],
        handler: handler!(images::export::export),
    },
];
