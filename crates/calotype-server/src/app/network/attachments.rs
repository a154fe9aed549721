//! Second and further network cards of an instance. They come and go while it is STOPPED: the guest finds them when it
//! starts.

use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::networks::AttachVnicDetails;

use super::plug::{VnicOwner, plan_vnic, released};
use super::records::{ATTACHMENT, VnicRecord};
use super::vnics::{attachment, load};
use crate::app::{Context, instances, refuse_given};
use crate::db::Versioned;
use crate::http::{Reply, Request};
use crate::records::InstanceRecord;

/// How often an attachment is tried when addresses or the instance are changed meanwhile.
const ATTEMPTS_MAX: u32 = 8;

/// `AttachVnic`: a card that is ATTACHED at once.
pub async fn attach_vnic(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: AttachVnicDetails = request.json()?;
    // An instance has one physical card here.
    refuse_given(&[("nicIndex", details.nic_index.is_some_and(|index| index != 0))])?;
    let mut attempt = 1;
    loop {
        let mut instance = instances::load(&context, &details.instance_id).await?;
        may_change(&instance)?;
        check_count(&instance)?;
        let resource = &instance.resource;
        let owner = VnicOwner {
            instance_id: resource.id.clone(),
            compartment_id: resource.compartment_id.clone(),
            display_name: resource.display_name.clone(),
            availability_domain: resource.availability_domain.clone(),
            is_primary: false,
            attachment_name: details.display_name.clone().map(String::from),
        };
        let planned = plan_vnic(&context, &owner, &details.create_vnic_details).await?;
        instance.value.secondary_vnic_ids.push(planned.vnic_id);
        let shown = attachment(&planned.record).ok_or_else(ApiError::internal)?;
        let reply = Reply::ok(&shown)?.etag(planned.record.etag());
        let batch = planned.batch.replace(&instance);
        match context.region.db.apply(context.prepare(batch, &reply)).await {
            Ok(()) => return Ok(reply),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS_MAX => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// `DetachVnic`: of any card but the primary one, which goes with its instance.
pub async fn detach_vnic(context: Context, request: Request) -> Result<Reply, ApiError> {
    let vnic: Versioned<VnicRecord> =
        load(&context, &request.path("vnicAttachmentId")?, ATTACHMENT).await?;
    if !vnic.is_alive() {
        return Err(ApiError::not_authorized_or_not_found());
    }
    request.check_etag(&vnic.etag())?;
    if vnic.resource.is_primary {
        let primary = "The primary VNIC of an instance cannot be detached: terminate the instance";
        return Err(ApiError::conflict(primary));
    }
    let mut instance = instances::load(&context, &vnic.instance_id).await?;
    may_change(&instance)?;
    instance.value.secondary_vnic_ids.retain(|id| *id != vnic.resource.id);
    let batch = released(&context.region.db, vnic, context.now).await?.replace(&instance);
    context.commit(batch, Reply::no_content()).await
}

/// Only while no guest runs do its cards change.
fn may_change(instance: &InstanceRecord) -> Result<(), ApiError> {
    let id = &instance.resource.id;
    match instance.resource.lifecycle_state {
        InstanceState::Stopped if instance.capturing.is_none() => Ok(()),
        InstanceState::Terminating | InstanceState::Terminated => {
            Err(ApiError::not_authorized_or_not_found())
        }
        InstanceState::Running => Err(ApiError::incorrect_state(format!(
            "instance {id} is RUNNING: its network cards can be changed only while it is STOPPED"
        ))),
        _ => Err(ApiError::instance_busy(id)),
    }
}

fn check_count(instance: &InstanceRecord) -> Result<(), ApiError> {
    let resource = &instance.resource;
    let most = resource.shape_config.max_vnic_attachments.unwrap_or(1);
    let has = 1 + instance.secondary_vnic_ids.len() as u64;
    if has < most {
        return Ok(());
    }
    Err(ApiError::limit_exceeded(format!(
        "instance {} has {has} VNICs, which is the limit of shape {} in its size",
        resource.id, resource.shape
    )))
}
