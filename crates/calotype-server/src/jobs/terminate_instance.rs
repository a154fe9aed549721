//! Terminate: power off, give back addresses, remove or keep the boot volume.
//!
//! It only goes forward: an instance that has lost its address or its disk cannot be given back, so
//! undoing a termination that failed is to finish it.

use std::sync::Arc;

use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::instance;
use super::{
    Seed, Seeded, Step, StepContext, StepError, Workflow, blocking, collect, guest, resource, seed,
};
use crate::app::{console_connections, network};
use crate::db::{Batch, Versioned};
use crate::records::{BootVolumeRecord, Booted, InstanceRecord};
use crate::region::Region;
use crate::volumes;

/// What a termination must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TerminateInstance {
    instance_id: Ocid,
    compartment_id: Ocid,
    preserve_boot_volume: bool,
}

impl TerminateInstance {
    /// The termination of `instance`, which is TERMINATING in the job's batch.
    pub fn new(instance: &InstanceRecord, preserve_boot_volume: bool) -> Self {
        Self {
            instance_id: instance.resource.id.clone(),
            compartment_id: instance.resource.compartment_id.clone(),
            preserve_boot_volume,
        }
    }
}

impl Seeded for TerminateInstance {
    fn seed(&self, region: &Region) -> Seed {
        let resources =
            vec![resource("instance", "instances", ActionType::Deleted, &self.instance_id)];
        seed(region, "Terminate Instance", &self.compartment_id, resources)
    }
}

impl Workflow for TerminateInstance {
    type Environment = Arc<Region>;

    const NAME: &'static str = "terminate_instance";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "stop guest",
            weight: 50,
            run: |context| Box::pin(stop(context)),
            undo: Some(|context| Box::pin(finish(context))),
        },
        Step { name: "remove", weight: 40, run: |context| Box::pin(remove(context)), undo: None },
        Step {
            name: "collect",
            weight: 10,
            run: |context| Box::pin(collect_base(context)),
            undo: None,
        },
    ];
}

type Context = StepContext<TerminateInstance>;

async fn stop(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let instance = instance(&region, &context.state.instance_id).await?;
    let _lock = region.guests.lock(&context.state.instance_id).await;
    guest::stop(&region, &instance, None).await.map(drop)
}

async fn finish(context: &mut Context) -> Result<(), StepError> {
    stop(context).await?;
    remove(context).await
}

async fn remove(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let mut instance = instance(&region, &context.state.instance_id).await?;
    // One that was detached may be deleted, and forgotten, by now.
    let volume = region.db.get::<BootVolumeRecord>(instance.boot_volume_id.as_str()).await?;
    for vnic in instance.vnic_ids() {
        network::release_vnic(&region.db, vnic).await?;
    }
    let directory = crate::guests::machine_directory(&region.paths, &instance);
    blocking("The guest's directory could not be removed", move || {
        volumes::remove_tree(&directory)
    })
    .await?;
    let now = Timestamp::now();
    console_connections::end_all(&region, &instance.resource.id, now).await?;
    instance.value.terminate(now);
    let mut batch = Batch::new().replace(&instance);
    // Done again after a crash, the volume may be somebody else's already.
    let is_its = |volume: &Versioned<BootVolumeRecord>| {
        volume.instance_id.as_ref() == Some(&context.state.instance_id)
    };
    if let Some(mut volume) = volume.filter(is_its) {
        volume.value.set_free(Booted::of(&instance.resource));
        if !context.state.preserve_boot_volume {
            volume.value.terminate(now);
            let (region, files) = (Arc::clone(&region), volume.value.clone());
            blocking("The boot volume could not be removed", move || {
                volumes::remove(&region.paths, &files)
            })
            .await?;
        }
        batch = batch.replace(&volume);
    }
    context.write(batch);
    Ok(())
}

async fn collect_base(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let instance = instance(&region, &context.state.instance_id).await?;
    let volume = region.db.get::<BootVolumeRecord>(instance.boot_volume_id.as_str()).await?;
    if let Some(volume) = volume {
        collect::unless_needed(&region, volume.base).await;
    }
    Ok(())
}
