//! What happens to guests when the service starts: those that run are taken over, those that should
//! run and do not are started again, those that belong to nobody are ended.

use std::collections::HashSet;
use std::sync::Arc;

use calotype_api::instances::{InstanceState, RecoveryAction};

use crate::db::{Query, Versioned};
use crate::error::{Error, Result};
use crate::guests::{machine_directory, mark_stopped};
use crate::records::InstanceRecord;
use crate::region::Region;
use crate::volumes;

/// Takes over every guest that runs, and ends those whose instance is not (or no more) in the
/// catalog.
pub(crate) async fn adopt_guests(region: &Arc<Region>) -> Result<()> {
    let mut known = HashSet::new();
    for instance in alive(region).await? {
        known.insert(machine_directory(&region.paths, &instance));
        match region.guests.adopt(region, &instance).await {
            Ok(true) => tracing::info!(instance = %instance.resource.id, "guest taken over"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, instance = %instance.resource.id, "cannot take a guest over");
            }
        }
    }
    let directory = region.paths.instances();
    let entries =
        std::fs::read_dir(&directory).map_err(|source| Error::io("list", &directory, source))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if known.contains(&path) {
            continue;
        }
        if let Some(machine) = region.guests.hypervisor().adopt(&path).await? {
            tracing::warn!(directory = %path.display(), "ending a guest that belongs to nobody");
            machine.kill().await?;
        }
        volumes::remove_tree(&path)?;
    }
    Ok(())
}

/// Starts again the guests of RUNNING instances that do not run: the host was restarted, or QEMU
/// died. Unless the instance's recovery action says otherwise.
pub(crate) async fn restore_guests(region: &Arc<Region>) -> Result<()> {
    for instance in alive(region).await? {
        let id = &instance.resource.id;
        let should_run = instance.resource.lifecycle_state == InstanceState::Running;
        if !should_run || region.guests.machine(id).is_some() {
            continue;
        }
        let _lock = region.guests.lock(id).await;
        let stay_off = instance.resource.availability_config.recovery_action
            == Some(RecoveryAction::StopInstance);
        if stay_off {
            mark_stopped(region, id).await?;
            continue;
        }
        tracing::info!(instance = %id, "starting the guest again");
        if let Err(error) = region.guests.start(region, id).await {
            tracing::error!(%error, instance = %id, "cannot start the guest again");
            mark_stopped(region, id).await?;
        }
    }
    Ok(())
}

async fn alive(region: &Region) -> Result<Vec<Versioned<InstanceRecord>>> {
    let mut instances = region.db.list_all::<InstanceRecord>(Query::new()).await?;
    instances.retain(|instance| instance.resource.lifecycle_state != InstanceState::Terminated);
    Ok(instances)
}
