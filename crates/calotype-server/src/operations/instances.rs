//! Instances.

use http::Method;

use super::{
    Body, COMPARTMENT, LIMIT, Operation, PAGE, Parameter, SORT_BY, SORT_ORDER, Service, Target,
    one_of, optional,
};
use crate::app::instances;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        name: "LaunchInstance",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/instances",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("INSTANCE_CREATE", Target::Body("compartmentId")),
            ("INSTANCE_IMAGE_READ", Target::Reference("sourceDetails.imageId")),
            ("VNIC_CREATE", Target::Reference("createVnicDetails.subnetId")),
            ("VNIC_ATTACH", Target::Reference("createVnicDetails.subnetId")),
            ("SUBNET_ATTACH", Target::Reference("createVnicDetails.subnetId")),
        ],
        handler: handler!(instances::launch),
    },
    Operation {
        name: "GetInstance",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/instances/{instanceId}",
        query: &[],
        body: Body::None,
        permissions: &[("INSTANCE_READ", Target::Path("instanceId"))],
        handler: handler!(instances::get),
    },
    Operation {
        name: "ListInstances",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/instances",
        query: &[
            optional("availabilityDomain"),
            optional("capacityReservationId"),
            optional("computeClusterId"),
            COMPARTMENT,
            optional("displayName"),
            LIMIT,
            PAGE,
            SORT_BY,
            SORT_ORDER,
            one_of(
                "lifecycleState",
                &[
                    "MOVING",
                    "PROVISIONING",
                    "RUNNING",
                    "STARTING",
                    "STOPPING",
                    "STOPPED",
                    "CREATING_IMAGE",
                    "TERMINATING",
                    "TERMINATED",
                ],
            ),
        ],
        body: Body::None,
        permissions: &[("INSTANCE_READ", Target::Query("compartmentId"))],
        handler: handler!(instances::list),
    },
    Operation {
        name: "UpdateInstance",
        service: Service::Compute,
        method: Method::PUT,
        path: "/20160918/instances/{instanceId}",
        query: &[],
        body: Body::Json,
        permissions: &[("INSTANCE_UPDATE", Target::Path("instanceId"))],
        handler: handler!(instances::update),
    },
    Operation {
        name: "InstanceAction",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/instances/{instanceId}",
        query: &[Parameter {
            name: "action",
            required: true,
            values: &[
                "STOP",
                "START",
                "SOFTRESET",
                "RESET",
                "SOFTSTOP",
                "SENDDIAGNOSTICINTERRUPT",
                "DIAGNOSTICREBOOT",
                "REBOOTMIGRATE",
            ],
        }],
        body: Body::OptionalJson,
        permissions: &[("INSTANCE_POWER_ACTIONS", Target::Path("instanceId"))],
        handler: handler!(instances::action),
    },
    Operation {
        name: "TerminateInstance",
        service: Service::Compute,
        method: Method::DELETE,
        path: "/20160918/instances/{instanceId}",
        query: &[
            optional("preserveBootVolume"),
            optional("preserveDataVolumesCreatedAtLaunch"),
            one_of("recycleLevel", &["FULL_RECYCLE"]),
        ],
        body: Body::None,
        permissions: &[
            ("INSTANCE_DELETE", Target::Path("instanceId")),
            ("VNIC_DELETE", Target::Path("instanceId")),
            ("SUBNET_DETACH", Target::Path("instanceId")),
        ],
        handler: handler!(instances::terminate),
    },
];
