//! Sealing the disk of a guest that runs on, so that a crash at any moment leaves a chain that is
//! right.
//!
//! 1. The overlay's name is remembered, its file made, and the volume's record says it is on top.
//!    All that is durable before QEMU hears of it: whoever starts the guest anew (the host went
//!    down) lays the empty overlay over all that was written, which is where the guest's writes
//!    belong from then on.
//! 2. QEMU changes to the overlay. Killed before or after, the step runs again and asks QEMU.
//! 3. A quiesced seal counts when the guest was frozen from before the change to after it, which
//!    only this process can know. Killed in between, it is sealed once more, by another overlay.
//!
//! When the instance was stopped before its disk was sealed, there is no guest to ask: the disk is at
//! rest and sealed as that of any stopped instance.

use std::path::PathBuf;
use std::sync::Arc;

use calotype_api::ErrorCode;
use calotype_api::error::ApiError;
use calotype_vm::{Consistency, ErrorKind, Machine, Sealed};

use super::Context;
use crate::db::{Batch, Versioned};
use crate::jobs::StepError;
use crate::jobs::layers::{lay, next_layer};
use crate::jobs::records::{instance, volume_of};
use crate::records::{BootVolumeRecord, InstanceRecord};
use crate::volumes;

/// Lays an overlay on the chain of a guest that runs on.
pub(super) async fn seal(context: &mut Context, consistency: Consistency) -> Result<(), StepError> {
    if context.state.sealed_live {
        return Ok(());
    }
    let region = Arc::clone(&context.environment);
    let id = context.state.instance_id.clone();
    let _lock = region.guests.lock(&id).await;
    let instance = instance(&region, &id).await?;
    let mut volume = volume_of(&region, &instance).await?;
    let machine = machine(context, &instance).await?;
    if machine.is_none() && consistency == Consistency::Quiesced {
        return Err(StepError::Fail(ApiError::new(
            ErrorCode::IncorrectState,
            "The instance's guest has ended before its filesystems could be frozen: start it, or capture it STOPPED",
        )));
    }
    let top_now = match &machine {
        Some(machine) => Some(machine.top_layer().await.map_err(|error| failed(&error))?),
        None => None,
    };
    let is_top = |context: &Context, volume: &BootVolumeRecord| {
        top_now.is_some() && top_now == overlay(context, volume)
    };
    let once_more = consistency == Consistency::Quiesced && is_top(context, &volume);
    if context.state.top.is_none() || once_more {
        context.state.sealed.clone_from(&volume.layers);
        context.state.top = Some(next_layer(&volume.layers));
        context.save(Batch::new()).await?;
    }
    if let Some(top) = context.state.top.clone()
        && volume.layers.first() != Some(&top)
    {
        lay(&region, &mut volume, top).await?;
        context.save(Batch::new().replace(&volume)).await?;
    }
    if let (Some(machine), Some(overlay)) = (&machine, overlay(context, &volume))
        && !is_top(context, &volume)
    {
        let sealed = machine.seal(&overlay, consistency).await.map_err(|error| failed(&error))?;
        context.log(told(&sealed));
    }
    context.state.sealed_live = true;
    Ok(())
}

/// Takes the overlay back from QEMU; `false` when the guest writes to it, or may have.
pub(super) async fn withdraw(
    context: &Context,
    instance: &Versioned<InstanceRecord>,
    volume: &BootVolumeRecord,
) -> Result<bool, StepError> {
    let machine = machine(context, instance).await?;
    let (Some(machine), Some(overlay)) = (machine, overlay(context, volume)) else {
        return Ok(false);
    };
    let withdrawn = machine.withdraw(&overlay).await;
    withdrawn.map_err(|error| StepError::retry("The guest's disk could not be left", &error))
}

/// The instance's machine, also one that nobody had a handle on: it could be writing, too.
async fn machine(
    context: &Context,
    instance: &Versioned<InstanceRecord>,
) -> Result<Option<Machine>, StepError> {
    let region = &context.environment;
    let id = &context.state.instance_id;
    if region.guests.machine(id).is_none() {
        let adopted = region.guests.adopt(region, instance).await;
        adopted.map_err(|error| StepError::retry("The guest could not be looked for", &error))?;
    }
    Ok(region.guests.machine(id))
}

fn overlay(context: &Context, volume: &BootVolumeRecord) -> Option<PathBuf> {
    let directory = volumes::directory(&context.environment.paths, volume);
    context.state.top.as_ref().map(|name| directory.join(name))
}

/// One line for the work request's log.
fn told(sealed: &Sealed) -> String {
    let switch = sealed.switch.as_millis();
    match sealed.frozen {
        None => format!("guest's disk sealed while it ran: its writes waited for {switch} ms"),
        Some(frozen) => format!(
            "guest's disk sealed while it ran: its filesystems were frozen for {} ms",
            frozen.as_millis()
        ),
    }
}

/// What the client can do something about is for it to know.
fn failed(error: &calotype_vm::Error) -> StepError {
    let state =
        |message: String| StepError::Fail(ApiError::new(ErrorCode::IncorrectState, message));
    match error.kind() {
        ErrorKind::AgentMissing => state(
            "The instance cannot be quiesced: no agent answers in it. Install and start \
             qemu-guest-agent in the instance, or use another value of calotype.capture"
                .to_owned(),
        ),
        ErrorKind::NotFrozen => {
            state(format!("The instance cannot be quiesced: its agent did not freeze it: {error}"))
        }
        ErrorKind::InvalidSpec => state(
            "The instance's disk has too many layers, left by captures that failed".to_owned(),
        ),
        _ => StepError::retry("The running instance's disk could not be sealed", error),
    }
}
