//! What boot volumes are attached to. An attachment is a part of its instance and has its id, as in OCI.

use calotype_api::boot_volumes::{
    AttachBootVolumeDetails, AttachmentState, BootVolumeAttachment, EncryptionInTransitType,
};
use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;

use crate::app::{Context, identity, instances};
use crate::db::Batch;
use crate::http::{Reply, Request};
use crate::records::{BootVolumeRecord, Booted, InstanceRecord};

/// `ListBootVolumeAttachments`.
pub async fn list_attachments(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let instance_id = request.query::<Ocid>("instanceId")?;
    let volume_id = request.query::<Ocid>("bootVolumeId")?;
    let domain = request.query::<String>("availabilityDomain")?;
    crate::app::list(&context, &request, &compartment, |instance: &InstanceRecord| {
        let wanted = instance_id.as_ref().is_none_or(|id| *id == instance.resource.id)
            && volume_id.as_ref().is_none_or(|id| *id == instance.boot_volume_id)
            && domain.as_ref().is_none_or(|name| *name == instance.resource.availability_domain);
        wanted.then(|| attachment(instance))
    })
    .await
}

/// `GetBootVolumeAttachment`. Its id is that of the instance, as in OCI.
pub async fn get_attachment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("bootVolumeAttachmentId")?;
    let instance = crate::app::load::<InstanceRecord>(&context, &id).await?;
    Ok(Reply::ok(&attachment(&instance))?.etag(instance.etag()))
}

/// `AttachBootVolume`: to a stopped instance whose boot volume was detached. It is then an instance of the image that
/// the volume was made of.
pub async fn attach(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: AttachBootVolumeDetails = request.json()?;
    let encrypted = [EncryptionInTransitType::BmEncryptionInTransit];
    crate::app::refuse_given(&[(
        "encryptionInTransitType",
        details.encryption_in_transit_type.is_some_and(|kind| encrypted.contains(&kind)),
    )])?;
    let mut instance = crate::app::load::<InstanceRecord>(&context, &details.instance_id).await?;
    must_be_stopped(&instance)?;
    let id = &instance.resource.id;
    if !instance.boot_volume_detached {
        return Err(ApiError::incorrect_state(format!(
            "instance {id} has boot volume {}: detach that first",
            instance.boot_volume_id
        )));
    }
    let batch =
        instances::attach_volume(&context, &mut instance.value, &details.boot_volume_id).await?;
    let reply = Reply::ok(&attachment(&instance))?.etag(instance.next_etag());
    context.commit(batch.replace(&instance), reply).await
}

/// `DetachBootVolume`: from a stopped instance, which cannot start until it is given another.
pub async fn detach(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("bootVolumeAttachmentId")?;
    let mut instance = crate::app::load::<InstanceRecord>(&context, &id).await?;
    request.check_etag(&instance.etag())?;
    must_be_stopped(&instance)?;
    if instance.boot_volume_detached {
        return Err(ApiError::not_authorized_or_not_found());
    }
    let mut volume =
        crate::app::load::<BootVolumeRecord>(&context, &instance.boot_volume_id).await?;
    volume.value.set_free(Booted::of(&instance.resource));
    instance.value.boot_volume_detached = true;
    context.commit(Batch::new().replace(&volume).replace(&instance), Reply::no_content()).await
}

/// Only then nobody writes the instance's disk, and nobody reads it.
fn must_be_stopped(instance: &InstanceRecord) -> Result<(), ApiError> {
    let id = &instance.resource.id;
    if instance.capturing.is_some() {
        return Err(ApiError::instance_busy(id));
    }
    match instance.resource.lifecycle_state {
        InstanceState::Stopped => Ok(()),
        InstanceState::Terminating | InstanceState::Terminated => {
            Err(ApiError::not_authorized_or_not_found())
        }
        state => Err(ApiError::incorrect_state(format!(
            "instance {id} is {state}: its boot volume can be changed only while it is STOPPED"
        ))),
    }
}

fn attachment(instance: &InstanceRecord) -> BootVolumeAttachment {
    let resource = &instance.resource;
    BootVolumeAttachment {
        id: resource.id.clone(),
        availability_domain: resource.availability_domain.clone(),
        boot_volume_id: instance.boot_volume_id.clone(),
        compartment_id: resource.compartment_id.clone(),
        display_name: format!("Remote boot attachment for instance {}", resource.display_name),
        encryption_in_transit_type: None,
        instance_id: resource.id.clone(),
        is_encryption_in_transit_enabled: Some(false),
        is_pv_encryption_in_transit_enabled: Some(false),
        lifecycle_state: match resource.lifecycle_state {
            _ if instance.boot_volume_detached => AttachmentState::Detached,
            InstanceState::Provisioning => AttachmentState::Attaching,
            InstanceState::Terminating => AttachmentState::Detaching,
            InstanceState::Terminated => AttachmentState::Detached,
            _ => AttachmentState::Attached,
        },
        time_created: resource.time_created,
        time_updated: None,
    }
}
