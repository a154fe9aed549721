//! Block storage: boot volumes.

use http::Method;

use super::{Body, LIMIT, Operation, PAGE, Service, Target, optional};
use crate::app::boot_volumes;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        name: "CreateBootVolume",
        service: Service::Blockstorage,
        method: Method::POST,
        path: "/20160918/bootVolumes",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("VOLUME_CREATE", Target::Body("compartmentId")),
            ("VOLUME_WRITE", Target::Reference("sourceDetails.id")),
        ],
        handler: handler!(boot_volumes::create),
    },
    Operation {
        name: "GetBootVolume",
        service: Service::Blockstorage,
        method: Method::GET,
        path: "/20160918/bootVolumes/{bootVolumeId}",
        query: &[],
        body: Body::None,
        permissions: &[("VOLUME_INSPECT", Target::Path("bootVolumeId"))],
        handler: handler!(boot_volumes::get),
    },
    Operation {
        name: "ListBootVolumes",
        service: Service::Blockstorage,
        method: Method::GET,
        path: "/20160918/bootVolumes",
        query: &[
            optional("availabilityDomain"),
            optional("compartmentId"),
            LIMIT,
            PAGE,
            optional("volumeGroupId"),
        ],
        body: Body::None,
        permissions: &[("VOLUME_INSPECT", Target::Query("compartmentId"))],
        handler: handler!(boot_volumes::list),
    },
    Operation {
        name: "DeleteBootVolume",
        service: Service::Blockstorage,
        method: Method::DELETE,
        path: "/20160918/bootVolumes/{bootVolumeId}",
        query: &[],
        body: Body::None,
        permissions: &[("VOLUME_DELETE", Target::Path("bootVolumeId"))],
        handler: handler!(boot_volumes::delete),
    },
    Operation {
        name: "UpdateBootVolume",
        service: Service::Blockstorage,
        method: Method::PUT,
        path: "/20160918/bootVolumes/{bootVolumeId}",
        query: &[],
        body: Body::Json,
        permissions: &[("VOLUME_UPDATE", Target::Path("bootVolumeId"))],
        handler: handler!(boot_volumes::update),
    },
    Operation {
        name: "ChangeBootVolumeCompartment",
        service: Service::Blockstorage,
        method: Method::POST,
        path: "/20160918/bootVolumes/{bootVolumeId}/actions/changeCompartment",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("VOLUME_MOVE", Target::Path("bootVolumeId")),
            ("VOLUME_MOVE", Target::Body("compartmentId")),
        ],
        handler: handler!(boot_volumes::change_compartment),
    },
];
