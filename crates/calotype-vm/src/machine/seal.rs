//! Sealing the disk of a guest that runs on: an empty layer is laid on its chain, and what is below
//! never changes again.
//!
//! QEMU waits for the guest's requests in flight, makes the old top durable and closes it for
//! writing, all before it answers. So the guest's writes stand still for as long as that takes, and
//! what can be done before is: the new file is opened, and what the old one has not written to the
//! disk yet is written, while the guest runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Machine;
use super::chain::layer_nodes;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::freeze::Frozen;
use crate::limits::LAYERS_MAX;
use crate::qemu;
use crate::spec::MachineSpec;

/// In what state a running guest's disk is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// As after a cut of power at that moment: what the guest had flushed is there, and its
    /// filesystems replay their journals.
    Crash,
    /// The guest's agent has flushed and frozen its filesystems meanwhile: they are clean.
    Quiesced,
}

/// How a seal went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// How long QEMU took to change to the new layer: the guest's requests waited at most so long.
    pub switch: Duration,
    /// From the order to freeze to the confirmed thaw; none if nothing was frozen.
    pub frozen: Option<Duration>,
}

impl Machine {
    /// Lays `overlay`, an empty layer whose file exists, on the running guest's chain. When this
    /// returns, the layers below hold all that the guest wrote before, durably, and are not written
    /// any more. The machine's spec has the new layer then.
    ///
    /// # Errors
    /// `AgentMissing`, `NotFrozen`: nothing was sealed. `ThawedEarly`: it was sealed as if by
    /// [`Consistency::Crash`]. `InvalidSpec` when the chain is too long or has that layer already.
    /// After any other failure [`Machine::top_layer`] says whether it was sealed. A frozen guest is
    /// thawed in every case, also when this future is dropped or the process killed.
    pub async fn seal(&self, overlay: &Path, consistency: Consistency) -> Result<Sealed> {
        let _one_at_a_time = self.inner.graph.lock().await;
        let before = self.known_chain().await?;
        let after = self.prepare(&before, overlay).await?;
        let frozen = match consistency {
            Consistency::Crash => None,
            Consistency::Quiesced => {
                let frozen = Frozen::begin(&self.inner.host.guard, &self.inner.layout).await;
                match frozen {
                    Ok(frozen) => Some(frozen),
                    Err(error) => {
                        self.remember(before).await?;
                        return Err(error);
                    }
                }
            }
        };
        let switching = Instant::now();
        let top = qemu::layer_node_name(&before.boot_disk.layers[0]);
        let snapshot = json!({ "node": top, "overlay": qemu::layer_node_name(overlay) });
        let switched = self.change_graph("blockdev-snapshot", snapshot).await;
        let switch = switching.elapsed();
        let thawed = match frozen {
            Some(frozen) => {
                let since = frozen.since;
                frozen.thaw().await.map(|()| Some(since.elapsed()))
            }
            None => Ok(None),
        };
        if switched.is_err() {
            // Unless QEMU cannot say now: then it is asked before the chain is next used.
            let _ = self.known_chain().await;
        }
        switched?;
        debug_assert_eq!(self.spec(), after, "the spec was made durable before the switch");
        Ok(Sealed { switch, frozen: thawed? })
    }

    /// All that can be done while the guest writes to the old top. Gives the spec as it will be,
    /// which is durable already.
    async fn prepare(&self, before: &MachineSpec, overlay: &Path) -> Result<MachineSpec> {
        let layers = &before.boot_disk.layers;
        if layers.len() >= LAYERS_MAX {
            let context = format!("the chain has {LAYERS_MAX} layers already");
            return Err(Error::new(ErrorKind::InvalidSpec, context));
        }
        if layers.iter().any(|layer| layer == overlay) {
            let context = format!("{} is in the chain already", overlay.display());
            return Err(Error::new(ErrorKind::InvalidSpec, context));
        }
        let file_node = qemu::layer_file_node(overlay, true)?;
        let (file, top, owner) = (overlay.to_owned(), layers[0].clone(), self.inner.host.owner);
        tokio::task::spawn_blocking(move || {
            files::give(&file, owner)?;
            write_back(&top)
        })
        .await
        .map_err(|error| Error::because(ErrorKind::Io, "cannot prepare a layer", error))??;
        let present = self.node_names().await?;
        if !present.contains(&qemu::layer_file_node_name(overlay)) {
            self.change_graph("blockdev-add", file_node).await?;
        }
        if !present.contains(&qemu::layer_node_name(overlay)) {
            let node = qemu::layer_node(overlay, true, None);
            self.change_graph("blockdev-add", node).await?;
        }
        let mut after = before.clone();
        after.boot_disk.layers.insert(0, overlay.to_owned());
        self.remember(after.clone()).await?;
        Ok(after)
    }

    /// Takes `overlay` back if the guest does not write to it: the end of a seal that failed, after
    /// which its file is closed and may be deleted. `false` when the guest does.
    pub async fn withdraw(&self, overlay: &Path) -> Result<bool> {
        let _one_at_a_time = self.inner.graph.lock().await;
        let spec = self.known_chain().await?;
        if spec.boot_disk.layers.iter().any(|layer| layer == overlay) {
            return Ok(false);
        }
        let present = self.node_names().await?;
        for name in layer_nodes(overlay).iter().filter(|name| present.contains(name)) {
            self.change_graph("blockdev-del", json!({ "node-name": name })).await?;
        }
        self.remember(spec).await?;
        Ok(true)
    }
}

/// Writes what a file's cache holds to the disk, so that little is left when the guest waits.
fn write_back(layer: &PathBuf) -> Result<()> {
    let file = std::fs::File::open(layer).map_err(Error::io("open", layer))?;
    file.sync_data().map_err(Error::io("sync", layer))
}
