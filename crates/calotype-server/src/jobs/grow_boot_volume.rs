//! Grow a boot volume. Of one at rest, an empty overlay of the new size is laid on it; a running guest's overlay grows, and the
//! guest is told.

use std::sync::Arc;

use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use serde::{Deserialize, Serialize};

use super::layers::{check_room, hold, lay_anew, remove_stray};
use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, resource, seed};
use crate::db::Batch;
use crate::records::BootVolumeRecord;
use crate::region::Region;

/// What growth must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GrowBootVolume {
    volume_id: Ocid,
    compartment_id: Ocid,
    size_bytes: u64,
}

impl GrowBootVolume {
    /// The growth of `volume`, which is PROVISIONING in the job's batch.
    pub fn new(volume: &BootVolumeRecord, size_bytes: u64) -> Self {
        Self {
            volume_id: volume.resource.id.clone(),
            compartment_id: volume.resource.compartment_id.clone(),
            size_bytes,
        }
    }
}

impl Seeded for GrowBootVolume {
    fn seed(&self, region: &Region) -> Seed {
        let id = &self.volume_id;
        let resources = vec![resource("bootVolume", "bootVolumes", ActionType::Updated, id)];
        seed(region, "Update Boot Volume", &self.compartment_id, resources)
    }
}

impl Workflow for GrowBootVolume {
    type Environment = Arc<Region>;

    const NAME: &'static str = "grow_boot_volume";

    const STEPS: &'static [Step<Self>] = &[Step {
        name: "grow",
        weight: 1,
        run: |context| Box::pin(grow(context)),
        undo: Some(|context| Box::pin(stay(context))),
    }];
}

type Context = StepContext<GrowBootVolume>;

async fn grow(context: &mut Context) -> Result<(), StepError> {
    let (region, size_bytes) = (Arc::clone(&context.environment), context.state.size_bytes);
    let held = hold(&region, &context.state.volume_id).await?;
    let mut volume = held.volume.clone();
    match volume.resource.lifecycle_state {
        BootVolumeState::Provisioning => {}
        // Done before.
        BootVolumeState::Available => return Ok(()),
        _ => return Err(StepError::Fail(ApiError::not_authorized_or_not_found())),
    }
    let machine = held.machine(&region).await?;
    volume.value.size_bytes = size_bytes;
    if let Some(machine) = machine {
        // Whatever is laid on the overlay from here on is no smaller than it.
        context.save(held.unless_changed(Batch::new().replace(&volume))).await?;
        volume.version += 1;
        let grown = machine.grow(size_bytes).await;
        grown.map_err(|error| StepError::retry("The guest's disk could not grow", &error))?;
    } else {
        check_room(&volume)?;
        lay_anew(&region, &mut volume).await?;
    }
    volume.value.resource.lifecycle_state = BootVolumeState::Available;
    context.write(held.unless_changed(Batch::new().replace(&volume)));
    Ok(())
}

/// As large as it was; or, if a guest may have been told, as large as it is.
async fn stay(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let held = hold(&region, &context.state.volume_id).await?;
    let mut volume = held.volume.clone();
    remove_stray(&region, &volume).await?;
    if volume.resource.lifecycle_state == BootVolumeState::Provisioning {
        let size_bytes = volume.size_bytes;
        volume.value.show_size(size_bytes);
        volume.value.resource.lifecycle_state = BootVolumeState::Available;
        context.write(Batch::new().replace(&volume));
    }
    Ok(())
}
