//! Boot volumes: an instance's disk, which may outlive it.

use calotype_api::boot_volumes::{
    BootVolumeState, ChangeBootVolumeCompartmentDetails, UpdateBootVolumeDetails,
};
use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;

use super::{Context, identity, tags};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::delete_boot_volume::DeleteBootVolume;
use crate::jobs::grow_boot_volume::GrowBootVolume;
use crate::records::BootVolumeRecord;

mod attachments;
mod clone;
mod size;

pub use attachments::{attach, detach, get_attachment, list_attachments};
pub use clone::{VolumeClone, create};

pub(crate) use clone::at_rest;
pub(super) use size::{BOOT_VOLUME_GIB, BYTES_PER_GIB};

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

/// Performance units for each GiB that a boot volume can have: steps of ten.
const VPUS_PER_GB: std::ops::RangeInclusive<u64> = 10..=120;
const VPUS_STEP: u64 = 10;
const VPUS_DEFAULT: u64 = 10;

/// The performance that was asked for, or the usual. It is recorded only: all volumes here are as fast as
/// the host's disks.
pub(super) fn vpus_per_gb(field: &str, asked: Option<u64>) -> Result<u64, ApiError> {
    let asked = asked.unwrap_or(VPUS_DEFAULT);
    if VPUS_PER_GB.contains(&asked) && asked.is_multiple_of(VPUS_STEP) {
        return Ok(asked);
    }
    let (least, most) = (VPUS_PER_GB.start(), VPUS_PER_GB.end());
    let wrong = format!("is {asked}, but must be a multiple of {VPUS_STEP} from {least} to {most}");
    Err(ApiError::invalid_parameter(field, wrong))
}

/// Refuses a volume that an instance has, or that is not whole.
pub(super) fn is_free(volume: &BootVolumeRecord) -> Result<(), ApiError> {
    let resource = &volume.resource;
    match resource.lifecycle_state {
        BootVolumeState::Available if volume.instance_id.is_none() => return Ok(()),
        BootVolumeState::Terminating | BootVolumeState::Terminated => {
            return Err(ApiError::not_authorized_or_not_found());
        }
        _ => {}
    }
    Err(ApiError::incorrect_state(format!(
        "boot volume {} is {} and attached to {}: it must be AVAILABLE and free",
        resource.id,
        resource.lifecycle_state,
        volume.instance_id.as_ref().map_or("nothing", |id| id.as_str()),
    )))
}

/// A boot volume that is not being removed, in the version that the request is meant for.
async fn load_alive(
    context: &Context,
    request: &Request,
) -> Result<Versioned<BootVolumeRecord>, ApiError> {
    let id = request.path("bootVolumeId")?;
    let volume = super::load::<BootVolumeRecord>(context, &id).await?;
    request.check_etag(&volume.etag())?;
    match volume.resource.lifecycle_state {
        BootVolumeState::Terminating | BootVolumeState::Terminated => {
            Err(ApiError::not_authorized_or_not_found())
        }
        _ => Ok(volume),
    }
}

/// `UpdateBootVolume`: name, tags, performance and size, which can only grow.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateBootVolumeDetails = request.json()?;
    let mut volume = load_alive(&context, &request).await?;
    super::refuse_given(&[
        ("autotunePolicies", details.autotune_policies.is_some_and(|list| !list.is_empty())),
        ("bootVolumeReplicas", details.boot_volume_replicas.is_some_and(|list| !list.is_empty())),
        ("isAutoTuneEnabled", details.is_auto_tune_enabled == Some(true)),
    ])?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(
        &context,
        (&volume.resource.freeform_tags, &volume.resource.defined_tags),
        freeform,
        defined,
    )
    .await?;
    let grown = match details.size_in_gbs {
        Some(asked) => size::grown("sizeInGBs", asked, &volume)?,
        None => None,
    };
    let resource = &mut volume.value.resource;
    if details.vpus_per_gb.is_some() {
        resource.vpus_per_gb = Some(vpus_per_gb("vpusPerGB", details.vpus_per_gb)?);
    }
    if let Some(name) = details.display_name {
        resource.display_name = name.into();
    }
    if let Some(tags) = details.freeform_tags {
        resource.freeform_tags = tags;
    }
    if let Some(tags) = details.defined_tags {
        resource.defined_tags = tags;
    }
    let Some(size_bytes) = grown else {
        return super::replace(&context, volume, |record| Reply::ok(&record.resource)).await;
    };
    size::may_grow(&context, &volume).await?;
    volume.value.show_size(size_bytes);
    volume.value.resource.lifecycle_state = BootVolumeState::Provisioning;
    let job = GrowBootVolume::new(&volume, size_bytes);
    let reply = Reply::ok(&volume.resource)?.etag(volume.next_etag());
    super::submit(&context, job, Batch::new().replace(&volume), reply).await
}

/// `ChangeBootVolumeCompartment`: also of one that an instance has.
pub async fn change_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: ChangeBootVolumeCompartmentDetails = request.json()?;
    let mut volume = load_alive(&context, &request).await?;
    identity::compartment_exists(&context, &details.compartment_id).await?;
    volume.value.resource.compartment_id = details.compartment_id;
    super::replace(&context, volume, |_| Ok(Reply::no_content())).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn performance_comes_in_steps_of_ten() {
        assert_eq!(vpus_per_gb("vpusPerGB", None).unwrap(), 10);
        assert_eq!(vpus_per_gb("vpusPerGB", Some(120)).unwrap(), 120);
        for wrong in [0, 15, 130] {
            let refused = vpus_per_gb("vpusPerGB", Some(wrong)).unwrap_err();
            assert!(refused.message.contains(&wrong.to_string()), "{}", refused.message);
        }
    }
}
