//! What OCI has no operation for. Paths start with `/calotype/` so that they never meet one of OCI's.

use http::Method;

use super::{Body, LIMIT, Operation, PAGE, Service, Target};
use crate::app::{platform_images, store};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        name: "RegisterPlatformImage",
        service: Service::Calotype,
        method: Method::POST,
        path: "/calotype/platformImages",
        query: &[],
        body: Body::Json,
        permissions: &[("CALOTYPE_PLATFORM_IMAGE_CREATE", Target::Tenancy)],
        handler: handler!(platform_images::register),
    },
    Operation {
        name: "GetStoreUsage",
        service: Service::Calotype,
        method: Method::GET,
        path: "/calotype/store",
        query: &[],
        body: Body::None,
        permissions: &[("CALOTYPE_STORE_INSPECT", Target::Tenancy)],
        handler: handler!(store::usage),
    },
    Operation {
        name: "ListImageUsage",
        service: Service::Calotype,
        method: Method::GET,
        path: "/calotype/imageUsage",
        query: &[LIMIT, PAGE],
        body: Body::None,
        permissions: &[("CALOTYPE_STORE_INSPECT", Target::Tenancy)],
        handler: handler!(store::image_usage),
    },
    Operation {
        name: "ScrubStore",
        service: Service::Calotype,
        method: Method::POST,
        path: "/calotype/store/actions/scrub",
        query: &[],
        body: Body::OptionalJson,
        permissions: &[("CALOTYPE_STORE_MANAGE", Target::Tenancy)],
        handler: handler!(store::scrub),
    },
    Operation {
        name: "CollectStore",
        service: Service::Calotype,
        method: Method::POST,
        path: "/calotype/store/actions/collect",
        query: &[],
        body: Body::None,
        permissions: &[("CALOTYPE_STORE_MANAGE", Target::Tenancy)],
        handler: handler!(store::collect),
    },
    Operation {
        name: "VerifyImage",
        service: Service::Calotype,
        method: Method::POST,
        path: "/calotype/images/{imageId}/actions/verify",
        query: &[],
        body: Body::None,
        permissions: &[("INSTANCE_IMAGE_READ", Target::Path("imageId"))],
        handler: handler!(store::verify),
    },
];
