//! VNICs and their attachments: read, and what of a VNIC can be changed.

use calotype_api::boot_volumes::AttachmentState;
use calotype_api::error::ApiError;
use calotype_api::networks::{UpdateVnicDetails, VnicAttachment};
use calotype_api::ocid::Ocid;

use super::plug::{check_groups, check_hostname, hostname_claim};
use super::records::{ATTACHMENT, SubnetRecord, VNIC, VcnRecord, VnicRecord, sibling};
use super::uses;
use crate::app::claims::Claim;
use crate::app::{Context, identity, refuse_given, tags};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};

/// `GetVnic`: not of one that was released.
pub async fn get_vnic(context: Context, request: Request) -> Result<Reply, ApiError> {
    let vnic = load(&context, &request.path("vnicId")?, VNIC).await?;
    if !vnic.is_alive() {
        return Err(ApiError::not_authorized_or_not_found());
    }
    Ok(Reply::ok(&vnic.resource)?.etag(vnic.etag()))
}

/// `UpdateVnic`: its name, tags and groups, and its guest's host name, which the guest learns by DHCP at its next start.
pub async fn update_vnic(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateVnicDetails = request.json()?;
    refuse_given(&[
        ("routeTableId", details.route_table_id.is_some()),
        ("securityAttributes", details.security_attributes.is_some_and(|map| !map.is_empty())),
    ])?;

    let mut vnic = load(&context, &request.path("vnicId")?, VNIC).await?;
    if !vnic.is_alive() {
        return Err(ApiError::not_authorized_or_not_found());
    }
    request.check_etag(&vnic.etag())?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(
        &context,
        (&vnic.resource.freeform_tags, &vnic.resource.defined_tags),
        freeform,
        defined,
    )
    .await?;
    let mut batch = Batch::new();
    if let Some(groups) = details.nsg_ids {
        batch = batch.and(regroup(&context, &mut vnic.value, groups).await?);
    }
    if let Some(name) = details.hostname_label {
        batch = batch.and(rename_host(&context, &mut vnic.value, &name, "hostnameLabel").await?);
    }
    let resource = &mut vnic.value.resource;
    if let Some(name) = details.display_name {
        resource.display_name = name.into();
    }
    if let Some(tags) = details.defined_tags {
        resource.defined_tags = tags;
    }
    if let Some(tags) = details.freeform_tags {
        resource.freeform_tags = tags;
    }
    if let Some(skip) = details.skip_source_dest_check {
        resource.skip_source_dest_check = skip;
    }
    let reply = Reply::ok(&vnic.resource)?.etag(vnic.next_etag());
    context.commit(batch.replace(&vnic), reply).await
}

/// Moves the VNIC into these groups and out of all others.
async fn regroup(
    context: &Context,
    vnic: &mut VnicRecord,
    groups: Vec<Ocid>,
) -> Result<Batch, ApiError> {
    check_groups("nsgIds", Some(&groups))?;
    let subnet = crate::app::load::<SubnetRecord>(context, &vnic.resource.subnet_id).await?;
    let vcn = crate::app::load::<VcnRecord>(context, &subnet.resource.vcn_id).await?;
    let (db, id) = (&context.region.db, vnic.resource.id.clone());
    let before = std::mem::replace(&mut vnic.resource.nsg_ids, groups);
    let after = &vnic.resource.nsg_ids;
    let batch = uses::change(db, &vcn, &id, &before, after, context.now).await?;
    vnic.claims.retain(|claim| !before.iter().any(|group| *claim == uses::name(group, &id)));
    vnic.claims.extend(after.iter().map(|group| uses::name(group, &id)));
    Ok(batch)
}

/// Gives the guest another host name, unique in its subnet.
pub(super) async fn rename_host(
    context: &Context,
    vnic: &mut VnicRecord,
    label: &str,
    field: &str,
) -> Result<Batch, ApiError> {
    check_hostname(field, label)?;
    let (db, subnet) = (&context.region.db, vnic.resource.subnet_id.clone());
    let (id, what) = (vnic.resource.id.to_string(), hostname_claim(&subnet, label));
    let before = vnic.resource.hostname_label.replace(label.to_owned());
    vnic.hostname = Some(label.to_owned());
    let before = before.map(|label| hostname_claim(&subnet, &label));
    if before.as_ref() == Some(&what) {
        return Ok(Batch::new());
    }
    if db.get::<Claim>(&what).await?.is_some() {
        let taken = format!("{field} {label} is in use in the subnet already");
        return Err(ApiError::conflict(taken));
    }
    let mut batch = Batch::new();
    if let Some(before) = before
        && let Some(claim) = db.get::<Claim>(&before).await?
    {
        vnic.claims.retain(|claim| *claim != before);
        batch = batch.delete(&claim);
    }
    vnic.claims.push(what.clone());
    let scope = Some(subnet.to_string());
    Ok(batch.insert(&Claim { what, scope, owner: id, time_created: context.now }))
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
        display_name: vnic.attachment_name.clone().unwrap_or_else(|| resource.display_name.clone()),
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
