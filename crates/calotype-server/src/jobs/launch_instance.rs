//! Launch: an empty overlay over the image's disk, a guest on it.
//!
//! The instance, its volume and its network card are in the catalog before the first step, written
//! with the job itself. When a step fails for good the instance ends TERMINATED, nothing of it stays,
//! and the reason is in the work request.

use std::sync::Arc;

use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Seeded, Step, StepContext, StepError, Workflow, blocking, guest, resource, seed};
use crate::app::network;
use crate::db::{Batch, Versioned};
use crate::jobs::Seed;
use crate::jobs::records::{instance, volume_of};
use crate::records::InstanceRecord;
use crate::region::Region;
use crate::volumes;

/// What a launch must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchInstance {
    instance_id: Ocid,
    compartment_id: Ocid,
}

impl LaunchInstance {
    /// A launch of `instance`, whose documents are written together with the job.
    pub fn new(instance: &InstanceRecord) -> Self {
        Self {
            instance_id: instance.resource.id.clone(),
            compartment_id: instance.resource.compartment_id.clone(),
        }
    }
}

impl Seeded for LaunchInstance {
    fn seed(&self, region: &Region) -> Seed {
        let resources =
            vec![resource("instance", "instances", ActionType::Created, &self.instance_id)];
        seed(region, "Launch Instance", &self.compartment_id, resources)
    }
}

impl Workflow for LaunchInstance {
    type Environment = Arc<Region>;

    const NAME: &'static str = "launch_instance";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "reserve",
            weight: 1,
            run: |_| Box::pin(async { Ok(()) }),
            undo: Some(|context| Box::pin(release(context))),
        },
        Step {
            name: "create boot volume",
            weight: 10,
            run: |context| Box::pin(create_volume(context)),
            undo: None,
        },
        Step {
            name: "start guest",
            weight: 80,
            run: |context| Box::pin(start(context)),
            undo: Some(|context| Box::pin(stop(context))),
        },
        Step { name: "publish", weight: 9, run: |context| Box::pin(publish(context)), undo: None },
    ];
}

type Context = StepContext<LaunchInstance>;

async fn load(context: &Context) -> Result<Versioned<InstanceRecord>, StepError> {
    instance(&context.environment, &context.state.instance_id).await
}

async fn create_volume(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let instance = load(context).await?;
    let volume = volume_of(&region, &instance).await?;
    blocking("The boot volume could not be created", move || {
        let Some(name) = volume.layers.first() else { return Ok(()) };
        volumes::create_layer(&region.paths, &volume, name)
    })
    .await
}

async fn start(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let _lock = region.guests.lock(&context.state.instance_id).await;
    guest::start(&region, &context.state.instance_id).await?;
    context.log("guest started");
    Ok(())
}

async fn stop(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let instance = load(context).await?;
    let _lock = region.guests.lock(&context.state.instance_id).await;
    guest::stop(&region, &instance, None).await.map(drop)
}

async fn publish(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let instance = load(context).await?;
    let mut volume = volume_of(&region, &instance).await?;
    if volume.resource.lifecycle_state == BootVolumeState::Provisioning {
        volume.value.resource.lifecycle_state = BootVolumeState::Available;
        context.save(Batch::new().replace(&volume)).await?;
    }
    let id = &context.state.instance_id;
    let _lock = region.guests.lock(id).await;
    let settled = region.guests.settle(&region, id, &[InstanceState::Provisioning]).await;
    settled.map_err(|error| StepError::retry("The instance could not be published", &error))
}

/// Gives everything back that was reserved with the job: address, volume, the instance itself.
async fn release(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let mut instance = load(context).await?;
    let mut volume = volume_of(&region, &instance).await?;
    for vnic in instance.vnic_ids() {
        network::release_vnic(&region.db, vnic).await?;
    }
    // A volume that was there before the launch is only free again.
    let is_new = volume.resource.lifecycle_state != BootVolumeState::Available;
    volume.value.instance_id = None;
    if is_new {
        volume.value.terminate(Timestamp::now());
    }
    let directory = crate::guests::machine_directory(&region.paths, &instance);
    let files = volume.value.clone();
    blocking("What was launched could not be removed", move || {
        if is_new {
            volumes::remove(&region.paths, &files)?;
        }
        volumes::remove_tree(&directory)
    })
    .await?;
    instance.value.terminate(Timestamp::now());
    context.write(Batch::new().replace(&instance).replace(&volume));
    Ok(())
}
