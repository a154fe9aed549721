//! Clone a boot volume that is at rest: both lie on the same overlays from then on, and each has an empty one of its own on top.
//!
//! No block is copied. What is below the tops is not written any more, and is the same files under the names of both
//! volumes: each gives up its own names when it is captured or removed. If the clone fails, the source keeps its content; it may
//! have an empty overlay more.

use std::sync::Arc;

use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::layers::{Held, check_room, hold, lay_anew, next_layer, remove_stray};
use super::records::volume;
use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, blocking, resource, seed};
use crate::app::boot_volumes::at_rest;
use crate::db::{Batch, Versioned};
use crate::records::BootVolumeRecord;
use crate::region::Region;
use crate::volumes;

/// What a clone must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CloneBootVolume {
    source: Ocid,
    volume_id: Ocid,
    compartment_id: Ocid,
}

impl CloneBootVolume {
    /// A clone of `source` as `volume`, which is PROVISIONING in the job's batch.
    pub fn new(source: &BootVolumeRecord, volume: &BootVolumeRecord) -> Self {
        Self {
            source: source.resource.id.clone(),
            volume_id: volume.resource.id.clone(),
            compartment_id: volume.resource.compartment_id.clone(),
        }
    }
}

impl Seeded for CloneBootVolume {
    fn seed(&self, region: &Region) -> Seed {
        let resources = vec![
            resource("bootVolume", "bootVolumes", ActionType::Created, &self.volume_id),
            resource("bootVolume", "bootVolumes", ActionType::Related, &self.source),
        ];
        seed(region, "Create Boot Volume", &self.compartment_id, resources)
    }
}

impl Workflow for CloneBootVolume {
    type Environment = Arc<Region>;

    const NAME: &'static str = "clone_boot_volume";

    const STEPS: &'static [Step<Self>] = &[Step {
        name: "share layers",
        weight: 1,
        run: |context| Box::pin(share(context)),
        undo: Some(|context| Box::pin(forget(context))),
    }];
}

type Context = StepContext<CloneBootVolume>;

async fn share(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let mut clone = volume(&region, &context.state.volume_id).await?;
    if clone.resource.lifecycle_state != BootVolumeState::Provisioning {
        return Ok(());
    }
    let held = hold(&region, &context.state.source).await?;
    at_rest(&held.volume, held.instance.as_deref())?;
    // A disk is sealed only when nothing can be writing to it.
    held.machine(&region).await?;
    let kept = region.store.keep(held.volume.base);
    context.keep(kept.map_err(|error| StepError::retry("The disk could not be kept", &error))?);
    let (source, shared) = seal(&region, &held).await?;
    let own = next_layer(&shared);
    let (from, files) = (held.volume.value.clone(), clone.value.clone());
    let (names, top) = (shared.clone(), own.clone());
    blocking("The boot volume could not be cloned", move || {
        // What is left of an attempt may be of another chain.
        volumes::remove(&region.paths, &files)?;
        volumes::create_layer(&region.paths, &files, &top)?;
        volumes::share_layers(&region.paths, &from, &files, &names)
    })
    .await?;
    clone.value.base = held.volume.base;
    clone.value.layers = std::iter::once(own).chain(shared).collect();
    clone.value.resource.lifecycle_state = BootVolumeState::Available;
    context.write(held.unless_changed(source).replace(&clone));
    Ok(())
}

/// Sees to it that what the source holds is not written any more. Gives what must be written for that, and the overlays that
/// hold it.
async fn seal(region: &Arc<Region>, held: &Held) -> Result<(Batch, Vec<String>), StepError> {
    check_room(&held.volume)?;
    let (paths, files) = (region.paths.clone(), held.volume.value.clone());
    let mut source: Versioned<BootVolumeRecord> = held.volume.clone();
    let blank = tokio::task::spawn_blocking(move || volumes::is_blank(&paths, &files)).await;
    let failed = "The boot volume could not be looked at";
    let blank = match blank {
        Ok(Ok(blank)) => blank,
        Ok(Err(error)) => return Err(StepError::retry(failed, &error)),
        Err(error) => return Err(StepError::retry(failed, &error)),
    };
    if blank {
        return Ok((Batch::new().require(&source), source.layers[1..].to_vec()));
    }
    let shared = source.layers.clone();
    lay_anew(region, &mut source).await?;
    Ok((Batch::new().replace(&source), shared))
}

/// No clone, and no overlay that was made for it and is not in the source's chain.
async fn forget(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let held = hold(&region, &context.state.source).await?;
    remove_stray(&region, &held.volume).await?;
    let mut clone = volume(&region, &context.state.volume_id).await?;
    clone.value.layers.clear();
    clone.value.terminate(Timestamp::now());
    let files = clone.value.clone();
    blocking("The boot volume could not be removed", move || {
        volumes::remove(&region.paths, &files)
    })
    .await?;
    context.write(Batch::new().replace(&clone));
    Ok(())
}
