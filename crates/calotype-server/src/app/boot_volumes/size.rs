//! Sizes of boot volumes: they only grow.

use std::ops::RangeInclusive;

use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;

use crate::app::Context;
use crate::records::{BootVolumeRecord, InstanceRecord};

/// Bytes of what sizes are asked for in.
pub(in crate::app) const BYTES_PER_GIB: u64 = 1 << 30;
/// Sizes of a boot volume that may be asked for, in GiB.
pub(in crate::app) const BOOT_VOLUME_GIB: RangeInclusive<u64> = 50..=32_768;

/// The new size in bytes of a volume, or of a clone of it; `None` if that is what it has.
pub(super) fn grown(
    field: &str,
    asked_gib: u64,
    volume: &BootVolumeRecord,
) -> Result<Option<u64>, ApiError> {
    let has = volume.resource.size_in_gbs;
    if asked_gib == has {
        return Ok(None);
    }
    if asked_gib < has {
        let only = format!("is {asked_gib}, but the volume has {has}: it can only grow");
        return Err(ApiError::invalid_parameter(field, only));
    }
    if !BOOT_VOLUME_GIB.contains(&asked_gib) {
        let (least, most) = (BOOT_VOLUME_GIB.start(), BOOT_VOLUME_GIB.end());
        let range = format!("is {asked_gib}, but must be between {least} and {most}");
        return Err(ApiError::invalid_parameter(field, range));
    }
    Ok(Some(asked_gib * BYTES_PER_GIB))
}

/// Refuses a volume that is not whole, or whose instance is neither RUNNING nor STOPPED or is being captured.
pub(super) async fn may_grow(context: &Context, volume: &BootVolumeRecord) -> Result<(), ApiError> {
    let (id, state) = (&volume.resource.id, volume.resource.lifecycle_state);
    if state != BootVolumeState::Available {
        let what = format!("boot volume {id} is {state}: it can grow once it is AVAILABLE");
        return Err(ApiError::incorrect_state(what));
    }
    let Some(instance_id) = &volume.instance_id else { return Ok(()) };
    let instance = context.region.db.get::<InstanceRecord>(instance_id.as_str()).await?;
    let settled = instance.is_some_and(|instance| {
        let state = instance.resource.lifecycle_state;
        matches!(state, InstanceState::Running | InstanceState::Stopped)
            && instance.capturing.is_none()
    });
    if settled { Ok(()) } else { Err(ApiError::instance_busy(instance_id)) }
}
