//! Capture: an instance's boot disk becomes an image, while the instance is down only for its own
//! shutdown and boot.
//!
//! ```text
//!   lock ── shut down ── seal ── restart ── commit ── shorten ── publish
//!            (running instances only)  │      behind the guest's back
//!                                      └ the guest is back here
//! ```
//!
//! * **seal**: a new empty overlay is laid on the chain. What is below it never changes again.
//! * **commit**: the sealed overlays, over the manifest they lie on, become a new manifest; only what
//!   they hold is read. The manifest is written into the image at once, so it is a root.
//! * **shorten**: the new manifest has the same content as what is below the new overlay, so the
//!   overlay is hung on it, in the running guest too, and the sealed files go.
//! * **publish**: only now is the image AVAILABLE and the instance free for another capture.
//!
//! An instance that is captured live is not shut down: it stays RUNNING, *seal* lays the overlay on
//! the chain of its running guest ([`live`]), and *shut down* and *restart* do nothing.
//!
//! If a step fails, or 20 minutes are over, the image is DELETED, the instance runs on if it ran
//! before, and its chain stays as it is: longer, never different.

use std::sync::Arc;
use std::time::Duration;

use calotype_api::ErrorCode;
use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::commit::{self, commit};
use super::layers::{lay, next_layer};
use super::records::{image, instance, volume_of};
use super::{
    Deadline, Seed, Seeded, Step, StepContext, StepError, Workflow, blocking, guest, resource, seed,
};
use crate::app::images::lifecycle;
use crate::config::CaptureConfig;
use crate::db::{Batch, Versioned};
use crate::error::Error;
use crate::guests::{self, PowerOff};
use crate::records::{BootVolumeRecord, ImageRecord, InstanceRecord};
use crate::region::Region;
use crate::volumes;

mod live;
mod way;

pub use way::{CAPTURE_TAG, Way};

/// How long shortening waits for somebody else who is changing the machine.
const SHORTEN_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a capture must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaptureImage {
    image_id: Ocid,
    instance_id: Ocid,
    compartment_id: Ocid,
    /// What happens to the instance meanwhile.
    way: Way,
    shutdown_seconds: u64,
    timeout_seconds: u64,
    deadline: Timestamp,
    /// File names of the overlays that were sealed, top first.
    sealed: Vec<String>,
    /// File name of the overlay that was laid on them.
    top: Option<String>,
    /// Whether a guest may have written to that overlay.
    restarted: bool,
    /// Whether the overlay is the guest's, and what is below it as it was asked for.
    sealed_live: bool,
    /// Whether the image is complete; from then on there is no deadline.
    committed: bool,
}

impl CaptureImage {
    /// A capture of `instance` into `image`; the job's batch locks the instance.
    pub fn new(
        image: &ImageRecord,
        instance: &InstanceRecord,
        way: Way,
        now: Timestamp,
        config: &CaptureConfig,
    ) -> Self {
        let timeout = i64::try_from(config.timeout_seconds).unwrap_or(i64::MAX);
        let compartment = image.resource.compartment_id.as_ref();
        Self {
            image_id: image.resource.id.clone(),
            instance_id: instance.resource.id.clone(),
            compartment_id: compartment.unwrap_or(&instance.resource.compartment_id).clone(),
            way,
            shutdown_seconds: config.shutdown_seconds,
            timeout_seconds: config.timeout_seconds,
            deadline: now
                .saturating_add(SignedDuration::from_secs(timeout))
                .unwrap_or(Timestamp::MAX),
            sealed: Vec::new(),
            top: None,
            restarted: false,
            sealed_live: false,
            committed: false,
        }
    }
}

impl Seeded for CaptureImage {
    fn seed(&self, region: &Region) -> Seed {
        let resources = vec![
            resource("image", "images", ActionType::Created, &self.image_id),
            resource("instance", "instances", ActionType::Related, &self.instance_id),
        ];
        seed(region, "Create Image", &self.compartment_id, resources)
    }
}

impl Workflow for CaptureImage {
    type Environment = Arc<Region>;

    const NAME: &'static str = "capture_image";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "lock",
            weight: 1,
            run: |_| Box::pin(async { Ok(()) }),
            undo: Some(|context| Box::pin(unlock(context))),
        },
        Step {
            name: "shut down",
            weight: 20,
            run: |context| Box::pin(shut_down(context)),
            undo: None,
        },
        Step {
            name: "seal",
            weight: 2,
            run: |context| Box::pin(seal(context)),
            undo: Some(|context| Box::pin(unseal(context))),
        },
        Step { name: "restart", weight: 7, run: |context| Box::pin(restart(context)), undo: None },
        Step {
            name: "commit",
            weight: 65,
            run: |context| Box::pin(commit_sealed(context)),
            undo: Some(|context| Box::pin(commit::forget(context))),
        },
        Step { name: "shorten", weight: 3, run: |context| Box::pin(shorten(context)), undo: None },
        Step { name: "publish", weight: 2, run: |context| Box::pin(publish(context)), undo: None },
    ];

    fn deadline(&self) -> Option<Deadline> {
        if self.committed {
            return None;
        }
        let failure = ApiError::new(
            ErrorCode::InternalServerError,
            format!(
                "The image was not complete after {} seconds and was given up",
                self.timeout_seconds
            ),
        );
        Some(Deadline { at: self.deadline, failure })
    }
}

type Context = StepContext<CaptureImage>;

async fn shut_down(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let instance = instance(&region, &context.state.instance_id).await?;
    if instance.resource.lifecycle_state != InstanceState::CreatingImage {
        return Ok(());
    }
    let grace = Duration::from_secs(context.state.shutdown_seconds);
    let _lock = region.guests.lock(&context.state.instance_id).await;
    // Of a stopped instance too: a disk is sealed only when nothing can be writing to it.
    let was_running = context.state.way != Way::Stopped;
    let end = guest::stop(&region, &instance, was_running.then_some(grace)).await?;
    if was_running {
        context.log(match end {
            PowerOff::Obeyed => "guest shut down".to_owned(),
            PowerOff::Cut => format!(
                "guest did not shut down within {} s: its power was cut, so its filesystems are as after a power failure",
                grace.as_secs()
            ),
        });
    }
    Ok(())
}

/// Lays a new overlay on the chain. Its name is remembered before it is made.
async fn seal(context: &mut Context) -> Result<(), StepError> {
    if let Some(consistency) = context.state.way.live() {
        return live::seal(context, consistency).await;
    }
    let region = Arc::clone(&context.environment);
    let _lock = region.guests.lock(&context.state.instance_id).await;
    let instance = instance(&region, &context.state.instance_id).await?;
    let mut volume = volume_of(&region, &instance).await?;
    let top = if let Some(top) = &context.state.top {
        top.clone()
    } else {
        let top = next_layer(&volume.layers);
        context.state.sealed.clone_from(&volume.layers);
        context.state.top = Some(top.clone());
        context.save(Batch::new()).await?;
        top
    };
    if volume.layers.first() == Some(&top) {
        return Ok(());
    }
    lay(&region, &mut volume, top).await?;
    context.write(Batch::new().replace(&volume));
    Ok(())
}

/// Takes the overlay off again, if no guest has run on it, and removes the files that are no part of
/// the chain: that overlay, or sealed ones that were shortened away already.
async fn unseal(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let Some(top) = context.state.top.clone() else { return Ok(()) };
    let is_live = context.state.way.live().is_some();
    let _lock = region.guests.lock(&context.state.instance_id).await;
    let instance = instance(&region, &context.state.instance_id).await?;
    let mut volume = volume_of(&region, &instance).await?;
    let mut files = context.state.sealed.clone();
    files.insert(0, top);
    let unused = !context.state.restarted && volume.layers == files;
    if unused && (!is_live || live::withdraw(context, &instance, &volume).await?) {
        volume.value.layers.remove(0);
        context.save(Batch::new().replace(&volume)).await?;
    }
    blocking("An overlay could not be removed", move || {
        let mut strays = files.iter().filter(|file| !volume.layers.contains(file));
        strays.try_for_each(|file| volumes::remove_layer(&region.paths, &volume, file))
    })
    .await
}

/// Gives the instance back: running if it ran, stopped if not.
async fn restart(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let id = context.state.instance_id.clone();
    let _lock = region.guests.lock(&id).await;
    let before = instance(&region, &id).await?;
    if before.resource.lifecycle_state != InstanceState::CreatingImage {
        return Ok(());
    }
    if context.state.way != Way::Stopped {
        context.state.restarted = true;
        context.save(Batch::new()).await?;
        guest::start(&region, &id).await?;
        context.log("guest restarted");
    }
    let settled = region.guests.settle(&region, &id, &[InstanceState::CreatingImage]).await;
    settled.map_err(|error| StepError::retry("The instance could not be given back", &error))
}

async fn commit_sealed(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let instance = instance(&region, &context.state.instance_id).await?;
    let volume = volume_of(&region, &instance).await?;
    let sealed = context.state.sealed.clone();
    let (paths, files, base) = (region.paths.clone(), volume.value.clone(), volume.base);
    let open = move || {
        volumes::open_layers(&paths, &files, &sealed)?
            .ok_or_else(|| Error::Missing { kind: "overlay", id: files.resource.id.to_string() })
    };
    let committed = commit(context, open, Some(base)).await?;
    let mut image = image(&region, &context.state.image_id).await?;
    image.value.manifest = Some(committed.manifest);
    image.value.size_bytes = committed.size_bytes;
    context.log(commit::summary(&committed));
    context.state.committed = true;
    // The image is a root of collection before the commit stops protecting what it wrote.
    context.save(Batch::new().replace(&image)).await
}

/// Hangs the instance's overlay on the new manifest and drops the sealed ones. The image is complete
/// by now, so nothing here makes the capture fail: a chain that is not shortened is longer, but right.
async fn shorten(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let lock = region.guests.lock(&context.state.instance_id);
    // Somebody may be waiting for the guest to shut down, with the lock in hand.
    let Ok(_lock) = tokio::time::timeout(SHORTEN_WAIT_MAX, lock).await else {
        context.log("the disk's chain stays long: the instance is busy");
        return Ok(());
    };
    if let Err(error) = hang_on_new_base(context, &region).await {
        tracing::warn!(%error, instance = %context.state.instance_id, "the chain stays long");
        context.log("the disk's chain could not be shortened");
    }
    Ok(())
}

async fn hang_on_new_base(context: &mut Context, region: &Arc<Region>) -> Result<(), StepError> {
    let id = context.state.instance_id.clone();
    let instance = instance(region, &id).await?;
    let mut volume = volume_of(region, &instance).await?;
    let image = image(region, &context.state.image_id).await?;
    let Some(manifest) = image.manifest else { return Ok(()) };
    let sealed = context.state.sealed.clone();
    if volume.next_base.is_some_and(|pending| pending != manifest) {
        // Of a capture before: until the guest starts anew it may read from that, which must stay.
        context.log("the disk's chain stays long: it was being shortened before");
        return Ok(());
    }
    if volume.layers.iter().any(|layer| sealed.contains(layer)) {
        if let Some(machine) = region.guests.machine(&id) {
            // From here on the guest may read from either, whatever happens to this process.
            volume.value.next_base = Some(manifest);
            context.save(Batch::new().replace(&volume)).await?;
            volume = volume_of(region, &instance).await?;
            let kept = volume.layers.iter().filter(|layer| !sealed.contains(layer)).count();
            let target = guests::export_of(&region.paths, manifest);
            let rebased = machine.rebase(kept, target).await;
            rebased.map_err(|error| StepError::retry("The guest could not be rebased", &error))?;
        }
        let shorten = |volume: &mut BootVolumeRecord| {
            volume.layers.retain(|layer| !sealed.contains(layer));
            volume.base = manifest;
            volume.next_base = None;
            Ok(())
        };
        volume = context.change(volume.resource.id.as_str(), shorten).await?;
    }
    let region = Arc::clone(region);
    blocking("A sealed overlay could not be removed", move || {
        sealed.iter().try_for_each(|name| volumes::remove_layer(&region.paths, &volume, name))
    })
    .await
}

async fn publish(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let mut image = image(&region, &context.state.image_id).await?;
    let instance = instance(&region, &context.state.instance_id).await?;
    let schema = commit::publish(&region, &mut image.value).await?;
    let batch = schema.replace(&image);
    context.write(unlocked(instance, &image.resource.id, batch));
    Ok(())
}

/// Adds to `batch` that the instance is free for another capture.
fn unlocked(mut instance: Versioned<InstanceRecord>, image: &Ocid, batch: Batch) -> Batch {
    if instance.capturing.as_ref() != Some(image) {
        return batch;
    }
    instance.value.capturing = None;
    batch.replace(&instance)
}

/// The end of a capture that failed: the instance as it was, no image. An instance whose guest cannot
/// be started again is STOPPED rather than locked for ever.
async fn unlock(context: &mut Context) -> Result<(), StepError> {
    if let Err(error) = restart(context).await {
        context.log(format!("the instance stays stopped: {error}"));
        let region = Arc::clone(&context.environment);
        let id = &context.state.instance_id;
        let _lock = region.guests.lock(id).await;
        let settled = region.guests.settle(&region, id, &[InstanceState::CreatingImage]).await;
        settled
            .map_err(|error| StepError::retry("The instance could not be given back", &error))?;
    }
    let region = Arc::clone(&context.environment);
    let mut image = image(&region, &context.state.image_id).await?;
    let instance = instance(&region, &context.state.instance_id).await?;
    let batch = lifecycle::never_was(&region.db, &mut image, Timestamp::now()).await?;
    context.write(unlocked(instance, &image.resource.id, batch));
    Ok(())
}
