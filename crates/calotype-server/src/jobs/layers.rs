//! The overlays of boot volumes, laid on their chains by steps of workflows, and who is held off meanwhile.

use std::sync::Arc;

use calotype_api::ErrorCode;
use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use calotype_vm::Machine;
use tokio::sync::OwnedMutexGuard;

use super::records::{instance, volume};
use super::{StepError, blocking};
use crate::db::{Batch, Versioned};
use crate::records::{BootVolumeRecord, InstanceRecord};
use crate::region::Region;
use crate::volumes;

/// Overlays of a volume from which on it is neither cloned nor grown: captures need one more.
const LAYERS_ROOM_MAX: usize = calotype_vm::LAYERS_MAX / 2;

/// Refuses a volume whose chain is so long that captures need what room is left.
pub(super) fn check_room(volume: &BootVolumeRecord) -> Result<(), StepError> {
    if volume.layers.len() < LAYERS_ROOM_MAX {
        return Ok(());
    }
    Err(StepError::Fail(ApiError::new(
        ErrorCode::LimitExceeded,
        format!(
            "boot volume {} has {LAYERS_ROOM_MAX} layers, left by clones and growth: create an image of an instance of \
             it, which makes them one",
            volume.resource.id
        ),
    )))
}

/// A volume, and the instance that has it. While this lives nobody removes the volume's files or lays one on them, and nobody
/// starts or stops the guest.
pub(super) struct Held {
    pub(super) volume: Versioned<BootVolumeRecord>,
    pub(super) instance: Option<Versioned<InstanceRecord>>,
    _locks: Vec<OwnedMutexGuard<()>>,
}

/// Waits until nobody else is at work on the volume's files.
pub(super) async fn hold(region: &Arc<Region>, id: &Ocid) -> Result<Held, StepError> {
    let mut locks = vec![region.guests.lock(id).await];
    let found = volume(region, id).await?;
    let Some(instance_id) = found.instance_id.clone() else {
        return Ok(Held { volume: found, instance: None, _locks: locks });
    };
    locks.push(region.guests.lock(&instance_id).await);
    let (found, instance) = (volume(region, id).await?, instance(region, &instance_id).await?);
    Ok(Held { volume: found, instance: Some(instance), _locks: locks })
}

impl Held {
    /// The guest that runs on the volume, if one does. Refuses, for the moment, a volume whose instance is on the way to
    /// something else.
    pub(super) async fn machine(&self, region: &Arc<Region>) -> Result<Option<Machine>, StepError> {
        let Some(instance) = &self.instance else { return Ok(None) };
        let id = &instance.resource.id;
        if region.guests.machine(id).is_none() {
            let adopted = region.guests.adopt(region, instance).await;
            adopted
                .map_err(|error| StepError::retry("The guest could not be looked for", &error))?;
        }
        let machine = region.guests.machine(id);
        let is_settled = match instance.resource.lifecycle_state {
            InstanceState::Running => machine.is_some(),
            InstanceState::Stopped => machine.is_none(),
            _ => false,
        };
        let is_its_disk = self.volume.instance_id.as_ref() == Some(id)
            && instance.boot_volume_id == self.volume.resource.id;
        if is_settled && is_its_disk && instance.capturing.is_none() {
            return Ok(machine);
        }
        Err(StepError::Retry(ApiError::instance_busy(id)))
    }

    /// Adds to `batch` that the guest is neither started nor stopped before it is written.
    pub(super) fn unless_changed(&self, batch: Batch) -> Batch {
        match &self.instance {
            Some(instance) => batch.require(instance),
            None => batch,
        }
    }
}

/// Makes the overlay, durably, and puts it into the record, which the caller writes.
pub(super) async fn lay(
    region: &Region,
    volume: &mut Versioned<BootVolumeRecord>,
    top: String,
) -> Result<(), StepError> {
    if volume.layers.len() >= calotype_vm::LAYERS_MAX {
        return Err(StepError::Fail(ApiError::new(
            ErrorCode::IncorrectState,
            "The disk has too many layers, left by captures that failed",
        )));
    }
    let (files, name) = (volume.value.clone(), top.clone());
    let paths = region.paths.clone();
    blocking("The overlay could not be created", move || {
        volumes::create_layer(&paths, &files, &name)
    })
    .await?;
    volume.value.layers.insert(0, top);
    Ok(())
}

/// As [`lay`], under the next name. What a job that ended early has left under that may have another size, or content.
pub(super) async fn lay_anew(
    region: &Region,
    volume: &mut Versioned<BootVolumeRecord>,
) -> Result<(), StepError> {
    remove_stray(region, volume).await?;
    let top = next_layer(&volume.layers);
    lay(region, volume, top).await
}

/// Removes the overlay that is laid next, if it was made and is not in the chain; of a volume that is gone, all that is left.
pub(super) async fn remove_stray(
    region: &Region,
    volume: &BootVolumeRecord,
) -> Result<(), StepError> {
    let (paths, files) = (region.paths.clone(), volume.clone());
    blocking("An overlay could not be removed", move || {
        if files.is_alive() {
            volumes::remove_layer(&paths, &files, &next_layer(&files.layers))
        } else {
            volumes::remove(&paths, &files)
        }
    })
    .await
}

/// The name after the highest in the chain. A file of that name is one that a workflow which failed had laid and
/// no guest has run on: as empty as a new one.
pub(super) fn next_layer(layers: &[String]) -> String {
    let number =
        |name: &String| name.strip_prefix("overlay-")?.strip_suffix(".qcow2")?.parse::<u64>().ok();
    let highest = layers.iter().filter_map(number).max().unwrap_or(0);
    format!("overlay-{}.qcow2", highest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_layer_has_a_name_that_none_in_the_chain_has() {
        let layers =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(next_layer(&layers(&["overlay-1.qcow2"])), "overlay-2.qcow2");
        assert_eq!(
            next_layer(&layers(&["overlay-9.qcow2", "overlay-10.qcow2"])),
            "overlay-11.qcow2"
        );
        assert_eq!(next_layer(&[]), "overlay-1.qcow2");
    }
}
