//! Delete a boot volume that no instance uses. It only goes forward: undoing is to finish it.

use std::sync::Arc;

use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::volume;
use super::{
    Seed, Seeded, Step, StepContext, StepError, Workflow, blocking, collect, resource, seed,
};
use crate::db::Batch;
use crate::records::BootVolumeRecord;
use crate::region::Region;
use crate::volumes;

/// What a deletion must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteBootVolume {
    volume_id: Ocid,
    compartment_id: Ocid,
}

impl DeleteBootVolume {
    /// The deletion of `volume`, which is TERMINATING in the job's batch.
    pub fn new(volume: &BootVolumeRecord) -> Self {
        Self {
            volume_id: volume.resource.id.clone(),
            compartment_id: volume.resource.compartment_id.clone(),
        }
    }
}

impl Seeded for DeleteBootVolume {
    fn seed(&self, region: &Region) -> Seed {
        let resources =
            vec![resource("bootVolume", "bootVolumes", ActionType::Deleted, &self.volume_id)];
        seed(region, "Delete Boot Volume", &self.compartment_id, resources)
    }
}

impl Workflow for DeleteBootVolume {
    type Environment = Arc<Region>;

    const NAME: &'static str = "delete_boot_volume";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "remove",
            weight: 9,
            run: |context| Box::pin(remove(context)),
            undo: Some(|context| Box::pin(remove(context))),
        },
        Step {
            name: "collect",
            weight: 1,
            run: |context| Box::pin(collect_base(context)),
            undo: None,
        },
    ];
}

type Context = StepContext<DeleteBootVolume>;

async fn remove(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    // Somebody may be cloning it.
    let _lock = region.guests.lock(&context.state.volume_id).await;
    let mut volume = volume(&region, &context.state.volume_id).await?;
    let files = volume.value.clone();
    blocking("The boot volume could not be removed", move || {
        volumes::remove(&region.paths, &files)
    })
    .await?;
    volume.value.terminate(Timestamp::now());
    context.write(Batch::new().replace(&volume));
    Ok(())
}

async fn collect_base(context: &mut Context) -> Result<(), StepError> {
    let volume = volume(&context.environment, &context.state.volume_id).await?;
    collect::unless_needed(&context.environment, volume.base).await;
    Ok(())
}
