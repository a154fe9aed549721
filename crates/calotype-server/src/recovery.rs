//! What happens to guests when the service starts: those that run are taken over, those that should
//! run and do not are started again, those that belong to nobody are ended.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calotype_api::instances::{InstanceState, RecoveryAction};
use calotype_api::ocid::Ocid;

use crate::db::{Query, Versioned};
use crate::error::{Error, Result};
use crate::guests::machine_directory;
use crate::records::InstanceRecord;
use crate::region::Region;
use crate::volumes;

/// Takes over every guest that runs, and ends those whose instance is not (or no more) in the
/// catalog. What cannot be taken over is logged and left: one odd guest must not keep the region
/// from starting.
pub(crate) async fn adopt_guests(region: &Arc<Region>) -> Result<()> {
    let mut known = HashSet::new();
    for instance in alive(region).await? {
        known.insert(machine_directory(&region.paths, &instance));
        let id = &instance.resource.id;
        let _lock = region.guests.lock(id).await;
        match region.guests.adopt(region, &instance).await {
            Ok(true) => {
                tracing::info!(instance = %id, "guest taken over");
                // Its ports may be others than before.
                settle(region, id).await;
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, instance = %id, "cannot take a guest over"),
        }
    }
    for directory in directories(&region.paths.instances()).await? {
        if known.contains(&directory) {
            continue;
        }
        if let Err(error) = end_stray(region, &directory).await {
            tracing::error!(%error, directory = %directory.display(), "cannot end a stray guest");
        }
    }
    Ok(())
}

async fn directories(parent: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| Error::io("list", parent, source);
    let mut entries = tokio::fs::read_dir(parent).await.map_err(io)?;
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(io)? {
        if entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

async fn end_stray(region: &Region, directory: &Path) -> Result<()> {
    if let Some(machine) = region.guests.hypervisor().adopt(directory).await? {
        tracing::warn!(directory = %directory.display(), "ending a guest that belongs to nobody");
        machine.kill().await?;
    }
    volumes::remove_tree(directory)
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
        if !stay_off {
            tracing::info!(instance = %id, "starting the guest again");
            if let Err(error) = region.guests.start(region, id).await {
                tracing::error!(%error, instance = %id, "cannot start the guest again");
            }
        }
        settle(region, id).await;
    }
    Ok(())
}

/// Writes down whether a guest runs. What cannot be said of one stays as it was.
async fn settle(region: &Region, id: &Ocid) {
    if let Err(error) = region.guests.settle(region, id, &[InstanceState::Running]).await {
        tracing::error!(%error, instance = %id, "cannot say whether the guest runs");
    }
}

async fn alive(region: &Region) -> Result<Vec<Versioned<InstanceRecord>>> {
    let states = InstanceState::ALL.iter().filter(|state| **state != InstanceState::Terminated);
    let alive = states.fold(Query::new(), |query, state| query.state(state.as_str()));
    Ok(region.db.list_all::<InstanceRecord>(alive).await?)
}
