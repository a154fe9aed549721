//! What is attached to instances: boot volumes and VNICs.

use http::Method;

use super::{Body, COMPARTMENT, LIMIT, Operation, PAGE, Service, Target, optional, required};
use crate::app::{boot_volumes, network};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        name: "GetBootVolumeAttachment",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/bootVolumeAttachments/{bootVolumeAttachmentId}",
        query: &[],
        body: Body::None,
        permissions: &[("VOLUME_ATTACHMENT_READ", Target::Path("bootVolumeAttachmentId"))],
        handler: handler!(boot_volumes::get_attachment),
    },
    Operation {
        name: "ListBootVolumeAttachments",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/bootVolumeAttachments",
        query: &[
            required("availabilityDomain"),
            COMPARTMENT,
            LIMIT,
            PAGE,
            optional("instanceId"),
            optional("bootVolumeId"),
        ],
        body: Body::None,
        permissions: &[("VOLUME_ATTACHMENT_INSPECT", Target::Query("compartmentId"))],
        handler: handler!(boot_volumes::list_attachments),
    },
    Operation {
        name: "GetVnicAttachment",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/vnicAttachments/{vnicAttachmentId}",
        query: &[],
        body: Body::None,
        permissions: &[("VNIC_ATTACHMENT_READ", Target::Path("vnicAttachmentId"))],
        handler: handler!(network::get_vnic_attachment),
    },
    Operation {
        name: "ListVnicAttachments",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/vnicAttachments",
        query: &[
            optional("availabilityDomain"),
            COMPARTMENT,
            optional("instanceId"),
            LIMIT,
            PAGE,
            optional("vnicId"),
        ],
        body: Body::None,
        permissions: &[("VNIC_ATTACHMENT_READ", Target::Query("compartmentId"))],
        handler: handler!(network::list_vnic_attachments),
    },
    Operation {
        name: "AttachVnic",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/vnicAttachments",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("INSTANCE_ATTACH_SECONDARY_VNIC", Target::Reference("instanceId")),
            ("VNIC_ATTACH", Target::Reference("instanceId")),
            ("VNIC_CREATE", Target::Reference("instanceId")),
            ("SUBNET_ATTACH", Target::Reference("createVnicDetails.subnetId")),
        ],
        handler: handler!(network::attach_vnic),
    },
    Operation {
        name: "DetachVnic",
        service: Service::Compute,
        method: Method::DELETE,
        path: "/20160918/vnicAttachments/{vnicAttachmentId}",
        query: &[],
        body: Body::None,
        permissions: &[
            ("INSTANCE_DETACH_SECONDARY_VNIC", Target::Path("vnicAttachmentId")),
            ("VNIC_DETACH", Target::Path("vnicAttachmentId")),
            ("VNIC_DELETE", Target::Path("vnicAttachmentId")),
        ],
        handler: handler!(network::detach_vnic),
    },
    Operation {
        name: "AttachBootVolume",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/bootVolumeAttachments",
        query: &[],
        body: Body::Json,
        permissions: &[
            ("VOLUME_ATTACHMENT_CREATE", Target::Reference("instanceId")),
            ("INSTANCE_ATTACH_VOLUME", Target::Reference("instanceId")),
            ("VOLUME_WRITE", Target::Reference("bootVolumeId")),
        ],
        handler: handler!(boot_volumes::attach),
    },
    Operation {
        name: "DetachBootVolume",
        service: Service::Compute,
        method: Method::DELETE,
        path: "/20160918/bootVolumeAttachments/{bootVolumeAttachmentId}",
        query: &[],
        body: Body::None,
        permissions: &[
            ("VOLUME_ATTACHMENT_DELETE", Target::Path("bootVolumeAttachmentId")),
            ("INSTANCE_DETACH_VOLUME", Target::Path("bootVolumeAttachmentId")),
        ],
        handler: handler!(boot_volumes::detach),
    },
];
