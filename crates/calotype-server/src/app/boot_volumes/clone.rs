//! `CreateBootVolume`: a clone of another one.

use calotype_api::boot_volumes::{
    BootVolumeSourceDetails, BootVolumeSourceType, BootVolumeState, CreateBootVolumeDetails,
};
use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use serde_json::json;

use super::{size, vpus_per_gb};
use crate::app::{Context, identity, instances, load, refuse_given, submit, tags};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::clone_boot_volume::CloneBootVolume;
use crate::records::{BootVolumeRecord, Booted, InstanceRecord};

/// A clone that was checked: everything it will write, put together before anything is written.
pub struct VolumeClone {
    /// The new volume, PROVISIONING.
    pub volume: Versioned<BootVolumeRecord>,
    /// It; fails if the source has changed meanwhile.
    pub batch: Batch,
    /// What makes it.
    pub job: CloneBootVolume,
}

/// `CreateBootVolume`.
pub async fn create(context: Context, request: Request) -> Result<Reply, ApiError> {
    let VolumeClone { volume, batch, job } =
        VolumeClone::prepare(&context, request.json()?).await?;
    let reply = Reply::ok(&volume.resource)?.etag(volume.etag());
    submit(&context, job, batch, reply).await
}

impl VolumeClone {
    /// Checks what was asked for and chooses what was not.
    pub async fn prepare(
        context: &Context,
        mut details: CreateBootVolumeDetails,
    ) -> Result<Self, ApiError> {
        refuse_unsupported(&details)?;
        let compartment = &details.compartment_id;
        identity::compartment_exists(context, compartment).await?;
        let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.take());
        let defined_tags = tags::on_create(context, compartment, freeform, defined).await?;
        let source_id = source_id(&details.source_details)?;
        let source = load::<BootVolumeRecord>(context, &source_id).await?;
        let instance = match &source.instance_id {
            Some(id) => context.region.db.get::<InstanceRecord>(id.as_str()).await?,
            None => None,
        };
        at_rest(&source, instance.as_deref())?;
        if let Some(domain) = &details.availability_domain {
            identity::availability_domain_exists(context, domain).await?;
        }
        let grown = match details.size_in_gbs {
            Some(asked) => size::grown("sizeInGBs", asked, &source)?,
            None => None,
        };
        let vpus = details.vpus_per_gb.or(source.resource.vpus_per_gb);
        let id = context.region.new_id("bootvolume");
        let mut volume = source.value.clone();
        volume.directory = instances::short_name(&id);
        volume.size_bytes = grown.unwrap_or(source.size_bytes);
        volume.show_size(volume.size_bytes);
        volume.layers = Vec::new();
        volume.next_base = None;
        volume.instance_id = None;
        volume.booted = instance.as_ref().map(|of| Booted::of(&of.resource)).or(volume.booted);
        let resource = &mut volume.resource;
        resource.id = id;
        resource.compartment_id = details.compartment_id;
        resource.defined_tags = defined_tags;
        resource.display_name = details.display_name.map_or_else(
            || format!("bootvolume{}", context.now.strftime("%Y%m%d%H%M%S")),
            String::from,
        );
        resource.freeform_tags = details.freeform_tags.unwrap_or_default();
        resource.lifecycle_state = BootVolumeState::Provisioning;
        resource.source_details = Some(json!({"type": "bootVolume", "id": source_id}));
        resource.time_created = context.now.into();
        resource.vpus_per_gb = Some(vpus_per_gb("vpusPerGB", vpus)?);
        let job = CloneBootVolume::new(&source, &volume);
        let volume = Versioned::first(volume);
        let batch = Batch::new().require(&source).create(&volume);
        Ok(Self { volume, batch, job })
    }
}

fn refuse_unsupported(details: &CreateBootVolumeDetails) -> Result<(), ApiError> {
    let has = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    refuse_given(&[
        ("autotunePolicies", has(&details.autotune_policies)),
        ("backupPolicyId", details.backup_policy_id.is_some()),
        ("bootVolumeReplicas", has(&details.boot_volume_replicas)),
        ("clusterPlacementGroupId", details.cluster_placement_group_id.is_some()),
        ("isAutoTuneEnabled", details.is_auto_tune_enabled == Some(true)),
        ("kmsKeyId", details.kms_key_id.is_some()),
        ("xrcKmsKeyId", details.xrc_kms_key_id.is_some()),
    ])
}

/// The volume that is to be cloned.
fn source_id(source: &BootVolumeSourceDetails) -> Result<Ocid, ApiError> {
    let BootVolumeSourceDetails { source_type, id, .. } = source;
    if *source_type != BootVolumeSourceType::BootVolume {
        return Err(ApiError::invalid_parameter(
            "sourceDetails.type",
            format!("is {source_type}, of which this region has none: it must be bootVolume"),
        ));
    }
    refuse_given(&[
        ("sourceDetails.firstBackupId", source.first_backup_id.is_some()),
        ("sourceDetails.secondBackupId", source.second_backup_id.is_some()),
        ("sourceDetails.changeBlockSizeInBytes", source.change_block_size_in_bytes.is_some()),
    ])?;
    id.clone().ok_or_else(|| ApiError::missing_parameter("sourceDetails.id"))
}

/// Refuses a volume that a guest may be writing to, or that is not whole.
pub(crate) fn at_rest(
    volume: &BootVolumeRecord,
    instance: Option<&InstanceRecord>,
) -> Result<(), ApiError> {
    let (id, state) = (&volume.resource.id, volume.resource.lifecycle_state);
    match state {
        BootVolumeState::Available => {}
        BootVolumeState::Terminating | BootVolumeState::Terminated => {
            return Err(ApiError::not_authorized_or_not_found());
        }
        _ => {
            let what =
                format!("boot volume {id} is {state}: it can be cloned once it is AVAILABLE");
            return Err(ApiError::incorrect_state(what));
        }
    }
    let Some(instance) = instance else { return Ok(()) };
    let (instance_id, state) = (&instance.resource.id, instance.resource.lifecycle_state);
    if instance.capturing.is_some() {
        return Err(ApiError::instance_busy(instance_id));
    }
    if state == InstanceState::Stopped {
        return Ok(());
    }
    Err(ApiError::incorrect_state(format!(
        "boot volume {id} is the disk of instance {instance_id}, which is {state}: stop the instance, or detach the volume, \
         to clone it. To copy the disk of a running instance, create an image of it"
    )))
}
