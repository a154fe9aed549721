//! Update: the guest is started anew as another machine, or on another disk.
//!
//! ```text
//!   reserve ── stop guest ── create boot volume ── start guest ── publish ── collect
//!               (if it runs)   (if there is a new one)  (if it ran)
//! ```
//!
//! The instance as it shall be is written with the job itself. When a step fails, for example because
//! the host has no memory for the larger guest, the instance is given back its hardware and its disk of
//! before, and runs again if it ran. A boot volume that was replaced goes only after the new one is
//! in use; from then on there is no way back, and undoing is to finish.

use std::sync::Arc;
use std::time::Duration;

use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::images::{LaunchMode, LaunchOptions};
use calotype_api::instances::{InstanceShapeConfig, InstanceState};
use calotype_api::ocid::Ocid;
use calotype_api::platform_config::PlatformConfig;
use calotype_api::sources::InstanceSourceDetails;
use calotype_api::work_requests::ActionType;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::records::{instance, volume};
use super::{
    Seed, Seeded, Step, StepContext, StepError, Workflow, blocking, collect, guest, resource, seed,
};
use crate::db::Batch;
use crate::records::{BootVolumeRecord, Booted, InstanceRecord};
use crate::region::Region;
use crate::volumes;

/// What an update may change of an instance, and its undoing must give back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    shape: String,
    shape_config: InstanceShapeConfig,
    launch_mode: LaunchMode,
    launch_options: LaunchOptions,
    fault_domain: String,
    #[serde(default)]
    platform_config: Option<PlatformConfig>,
    image_id: Option<Ocid>,
    source_details: InstanceSourceDetails,
    boot_volume_id: Ocid,
    boot_volume_detached: bool,
}

impl Hardware {
    /// That of an instance.
    pub fn of(instance: &InstanceRecord) -> Self {
        let resource = &instance.resource;
        Self {
            shape: resource.shape.clone(),
            shape_config: resource.shape_config.clone(),
            launch_mode: resource.launch_mode,
            launch_options: resource.launch_options.clone(),
            fault_domain: resource.fault_domain.clone(),
            platform_config: resource.platform_config.clone(),
            image_id: resource.image_id.clone(),
            source_details: resource.source_details.clone(),
            boot_volume_id: instance.boot_volume_id.clone(),
            boot_volume_detached: instance.boot_volume_detached,
        }
    }

    fn give_back(&self, instance: &mut InstanceRecord) {
        let before = self.clone();
        let resource = &mut instance.resource;
        resource.shape = before.shape;
        resource.shape_config = before.shape_config;
        resource.launch_mode = before.launch_mode;
        resource.launch_options = before.launch_options;
        resource.fault_domain = before.fault_domain;
        resource.platform_config = before.platform_config;
        resource.image_id = before.image_id;
        resource.source_details = before.source_details;
        instance.boot_volume_id = before.boot_volume_id;
        instance.boot_volume_detached = before.boot_volume_detached;
    }

    /// Whether a running guest must be started anew to be `next`. All fault domains are on this host.
    pub fn needs_restart(&self, next: &Self) -> bool {
        (&self.shape, &self.shape_config, &self.launch_options, &self.boot_volume_id)
            != (&next.shape, &next.shape_config, &next.launch_options, &next.boot_volume_id)
    }
}

/// What an update must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpdateInstance {
    instance_id: Ocid,
    compartment_id: Ocid,
    before: Hardware,
    /// The boot volume that it gets; none if it keeps its own.
    new_volume: Option<Ocid>,
    preserve_boot_volume: bool,
    restarts: bool,
    soft_stop_seconds: u64,
    /// Whether the instance is what it shall be, for good.
    done: bool,
}

impl UpdateInstance {
    /// An update of what was `before` to `instance`.
    pub fn new(
        instance: &InstanceRecord,
        before: Hardware,
        restarts: bool,
        preserve_boot_volume: bool,
        soft_stop_seconds: u64,
    ) -> Self {
        let is_new = instance.boot_volume_id != before.boot_volume_id;
        Self {
            instance_id: instance.resource.id.clone(),
            compartment_id: instance.resource.compartment_id.clone(),
            new_volume: is_new.then(|| instance.boot_volume_id.clone()),
            before,
            preserve_boot_volume,
            restarts,
            soft_stop_seconds,
            done: false,
        }
    }

    /// Whether there is anything to do but to write the instance down.
    pub fn has_work(&self) -> bool {
        self.restarts || self.new_volume.is_some()
    }
}

impl Seeded for UpdateInstance {
    fn seed(&self, region: &Region) -> Seed {
        let resources =
            vec![resource("instance", "instances", ActionType::Updated, &self.instance_id)];
        seed(region, "Update Instance", &self.compartment_id, resources)
    }
}

impl Workflow for UpdateInstance {
    type Environment = Arc<Region>;

    const NAME: &'static str = "update_instance";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "reserve",
            weight: 1,
            run: |_| Box::pin(async { Ok(()) }),
            undo: Some(|context| Box::pin(give_back(context))),
        },
        Step { name: "stop guest", weight: 40, run: |context| Box::pin(stop(context)), undo: None },
        Step {
            name: "create boot volume",
            weight: 9,
            run: |context| Box::pin(create_volume(context)),
            undo: None,
        },
        Step {
            name: "start guest",
            weight: 40,
            run: |context| Box::pin(start(context)),
            undo: Some(|context| Box::pin(stop_again(context))),
        },
        Step { name: "publish", weight: 9, run: |context| Box::pin(publish(context)), undo: None },
        Step {
            name: "collect",
            weight: 1,
            run: |context| Box::pin(collect_base(context)),
            undo: None,
        },
    ];
}

type Context = StepContext<UpdateInstance>;

async fn stop(context: &mut Context) -> Result<(), StepError> {
    if !context.state.restarts {
        return Ok(());
    }
    let region = Arc::clone(&context.environment);
    let instance = instance(&region, &context.state.instance_id).await?;
    let grace = Duration::from_secs(context.state.soft_stop_seconds);
    let _lock = region.guests.lock(&context.state.instance_id).await;
    guest::stop(&region, &instance, Some(grace)).await.map(drop)
}

async fn create_volume(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let Some(id) = &context.state.new_volume else { return Ok(()) };
    let volume = volume(&region, id).await?;
    if volume.resource.lifecycle_state != BootVolumeState::Provisioning {
        return Ok(());
    }
    blocking("The boot volume could not be created", move || {
        let Some(name) = volume.layers.first() else { return Ok(()) };
        volumes::create_layer(&region.paths, &volume, name)
    })
    .await
}

async fn start(context: &mut Context) -> Result<(), StepError> {
    if !context.state.restarts {
        return Ok(());
    }
    let region = Arc::clone(&context.environment);
    let _lock = region.guests.lock(&context.state.instance_id).await;
    guest::start(&region, &context.state.instance_id).await?;
    context.log("guest started");
    Ok(())
}

/// The guest may be the new machine; it makes room for that of before.
async fn stop_again(context: &mut Context) -> Result<(), StepError> {
    if context.state.done || !context.state.restarts {
        return Ok(());
    }
    let region = Arc::clone(&context.environment);
    let instance = instance(&region, &context.state.instance_id).await?;
    let _lock = region.guests.lock(&context.state.instance_id).await;
    guest::stop(&region, &instance, None).await.map(drop)
}

/// From here on there is no way back: the volume of before may be gone.
async fn publish(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    if !context.state.done {
        context.state.done = true;
        let mut batch = Batch::new();
        if let Some(id) = &context.state.new_volume {
            let mut volume = volume(&region, id).await?;
            if volume.resource.lifecycle_state == BootVolumeState::Provisioning {
                volume.value.resource.lifecycle_state = BootVolumeState::Available;
                batch = batch.replace(&volume);
            }
        }
        context.save(batch).await?;
    }
    let before = context.state.before.boot_volume_id.clone();
    if context.state.new_volume.is_some() && !context.state.before.boot_volume_detached {
        let preserve = context.state.preserve_boot_volume;
        let_go(context, &before, preserve).await?;
    }
    settle(context).await
}

/// Frees a volume that was the instance's, or removes it.
async fn let_go(context: &mut Context, id: &Ocid, preserve: bool) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let mut volume = volume(&region, id).await?;
    // Done again after a crash, the volume may be somebody else's already.
    if volume.instance_id.as_ref() != Some(&context.state.instance_id) {
        return Ok(());
    }
    let before = &context.state.before;
    if *id == before.boot_volume_id {
        volume.value.set_free(Booted {
            launch_mode: before.launch_mode,
            launch_options: before.launch_options.clone(),
        });
    } else {
        volume.value.instance_id = None;
    }
    if !preserve {
        volume.value.terminate(Timestamp::now());
        let files = volume.value.clone();
        blocking("The boot volume could not be removed", move || {
            volumes::remove(&region.paths, &files)
        })
        .await?;
    }
    context.save(Batch::new().replace(&volume)).await
}

/// Undoes everything: hardware and disk of before, and the guest on them.
async fn give_back(context: &mut Context) -> Result<(), StepError> {
    if context.state.done {
        return publish(context).await;
    }
    let region = Arc::clone(&context.environment);
    let mut instance = instance(&region, &context.state.instance_id).await?;
    if Hardware::of(&instance) != context.state.before {
        context.state.before.give_back(&mut instance.value);
        context.save(Batch::new().replace(&instance)).await?;
    }
    if let Some(id) = context.state.new_volume.clone() {
        // One that was there before the update is only free again.
        let was_there = volume(&region, &id).await?.resource.lifecycle_state;
        let_go(context, &id, was_there == BootVolumeState::Available).await?;
    }
    if context.state.restarts {
        let _lock = region.guests.lock(&context.state.instance_id).await;
        // Its room may be taken meanwhile, or QEMU broken: the instance is whole, and STOPPED rather than locked
        // for ever.
        if let Err(error) = guest::start(&region, &context.state.instance_id).await {
            context.log(format!("the instance stays stopped: {error}"));
        }
    }
    settle(context).await
}

async fn settle(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let id = &context.state.instance_id;
    let _lock = region.guests.lock(id).await;
    let settled = region.guests.settle(&region, id, &[InstanceState::Stopping]).await;
    settled.map_err(|error| StepError::retry("The instance could not be published", &error))
}

async fn collect_base(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    if context.state.new_volume.is_some() && !context.state.preserve_boot_volume {
        let before = &context.state.before.boot_volume_id;
        // One that was detached may be deleted, and forgotten, by now.
        if let Some(before) = region.db.get::<BootVolumeRecord>(before.as_str()).await? {
            collect::unless_needed(&region, before.base).await;
        }
    }
    Ok(())
}
