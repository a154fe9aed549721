//! Boot volumes: an instance's disk, which may outlive it.

use calotype_api::boot_volumes::{AttachmentState, BootVolumeAttachment, BootVolumeState};
use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;

use super::{Context, identity};
use crate::db::Batch;
use crate::http::{Reply, Request};
use crate::jobs::delete_boot_volume::DeleteBootVolume;
use crate::records::{BootVolumeRecord, InstanceRecord};

/// `GetBootVolume`.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let volume = super::load::<BootVolumeRecord>(&context, &request.path("bootVolumeId")?).await?;
    Ok(Reply::ok(&volume.resource)?.etag(volume.etag()))
}

/// `ListBootVolumes`.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    // The published API marks the compartment optional; without it the tenancy is meant.
    let compartment = match request.query::<Ocid>("compartmentId")? {
        Some(compartment) => compartment,
        None => context.principal.tenancy.clone(),
    };
    identity::compartment_exists(&context, &compartment).await?;
    super::refuse_queries(&request, &["volumeGroupId"])?;
    let domain = request.query::<String>("availabilityDomain")?;
    super::list(&context, &request, &compartment, |record: &BootVolumeRecord| {
        let here = domain.as_ref().is_none_or(|name| *name == record.resource.availability_domain);
        here.then(|| record.resource.clone())
    })
    .await
}

/// `DeleteBootVolume`: only one that no instance uses.
pub async fn delete(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut volume =
        super::load::<BootVolumeRecord>(&context, &request.path("bootVolumeId")?).await?;
    request.check_etag(&volume.etag())?;
    match volume.resource.lifecycle_state {
        BootVolumeState::Available if volume.instance_id.is_none() => {}
        BootVolumeState::Terminated => return Err(ApiError::not_authorized_or_not_found()),
        state => {
            let what = volume.instance_id.as_ref().map_or_else(
                || format!("is {state}"),
                |instance| format!("is attached to instance {instance}: terminate that first"),
            );
            return Err(ApiError::incorrect_state(format!("boot volume {what}")));
        }
    }
    volume.value.resource.lifecycle_state = BootVolumeState::Terminating;
    let job = DeleteBootVolume::new(&volume);
    super::submit(&context, job, Batch::new().replace(&volume), Reply::accepted()).await
}

/// `ListBootVolumeAttachments`.
pub async fn list_attachments(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let instance_id = request.query::<Ocid>("instanceId")?;
    let volume_id = request.query::<Ocid>("bootVolumeId")?;
    let domain = request.query::<String>("availabilityDomain")?;
    super::list(&context, &request, &compartment, |instance: &InstanceRecord| {
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
    let instance = super::load::<InstanceRecord>(&context, &id).await?;
    Ok(Reply::ok(&attachment(&instance))?.etag(instance.etag()))
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
            InstanceState::Provisioning => AttachmentState::Attaching,
            InstanceState::Terminating => AttachmentState::Detaching,
            InstanceState::Terminated => AttachmentState::Detached,
            _ => AttachmentState::Attached,
        },
        time_created: resource.time_created,
        time_updated: None,
    }
}
