//! VNICs and their attachments, read.

use calotype_api::boot_volumes::AttachmentState;
use calotype_api::error::ApiError;
use calotype_api::networks::VnicAttachment;
use calotype_api::ocid::Ocid;

use super::records::{ATTACHMENT, VNIC, VnicRecord, sibling};
use crate::app::{Context, identity};
use crate::db::Versioned;
use crate::http::{Reply, Request};

/// `GetVnic`: not of one that was released.
pub async fn get_vnic(context: Context, request: Request) -> Result<Reply, ApiError> {
    let vnic = load(&context, &request.path("vnicId")?, VNIC).await?;
    if !vnic.is_alive() {
        return Err(ApiError::not_authorized_or_not_found());
    }
    Ok(Reply::ok(&vnic.resource)?.etag(vnic.etag()))
}

/// `GetVnicAttachment`: also of a VNIC that was released, as DETACHED.
pub async fn get_vnic_attachment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let vnic = load(&context, &request.path("vnicAttachmentId")?, ATTACHMENT).await?;
    let shown = attachment(&vnic).ok_or_else(ApiError::not_authorized_or_not_found)?;
    Ok(Reply::ok(&shown)?.etag(vnic.etag()))
}

/// `ListVnicAttachments`, newest first.
pub async fn list_vnic_attachments(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let domain = request.query::<String>("availabilityDomain")?;
    let instance = request.query::<Ocid>("instanceId")?;
    let wanted = request.query::<Ocid>("vnicId")?;
    crate::app::list(&context, &request, &compartment, |vnic: &VnicRecord| {
        let resource = &vnic.resource;
        let matches = domain.as_ref().is_none_or(|name| *name == resource.availability_domain)
            && instance.as_ref().is_none_or(|id| *id == vnic.instance_id)
            && wanted.as_ref().is_none_or(|id| *id == resource.id);
        matches.then(|| attachment(vnic)).flatten()
    })
    .await
}

/// The VNIC that `id`, of the type `kind`, stands for.
pub(super) async fn load(
    context: &Context,
    id: &Ocid,
    kind: &str,
) -> Result<Versioned<VnicRecord>, ApiError> {
    let vnic = Some(id).filter(|id| id.resource_type() == kind).and_then(|id| sibling(id, VNIC));
    let vnic = vnic.ok_or_else(ApiError::not_authorized_or_not_found)?;
    crate::app::load(context, &vnic).await
}

pub(super) fn attachment(vnic: &VnicRecord) -> Option<VnicAttachment> {
    let resource = &vnic.resource;
    let state = if vnic.is_alive() { AttachmentState::Attached } else { AttachmentState::Detached };
    Some(VnicAttachment {
        id: sibling(&resource.id, ATTACHMENT)?,
        availability_domain: resource.availability_domain.clone(),
        compartment_id: resource.compartment_id.clone(),
        display_name: resource.display_name.clone(),
        instance_id: vnic.instance_id.clone(),
        lifecycle_state: state,
        nic_index: Some(0),
        subnet_id: resource.subnet_id.clone(),
        time_created: resource.time_created,
        vlan_id: None,
        vlan_tag: Some(vnic.vlan_tag.into()),
        vnic_id: Some(resource.id.clone()),
    })
}
