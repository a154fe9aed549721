//! The running guest's chain of layers: what it is, and how it gets shorter.
//!
//! Which layer the guest writes is asked of QEMU, not remembered: a change of the chain is made
//! durable before QEMU is told of it, so after a crash the spec may be one layer ahead.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Machine, boot_disk_of};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::limits::QMP_GRAPH_TIMEOUT;
use crate::qemu;
use crate::spec::{MachineSpec, NbdTarget};

impl Machine {
    /// The layer that the guest writes, as QEMU says.
    pub async fn top_layer(&self) -> Result<PathBuf> {
        let _one_at_a_time = self.inner.graph.lock().await;
        let mut spec = self.known_chain().await?;
        // A machine has at least one layer.
        Ok(spec.boot_disk.layers.swap_remove(0))
    }

    /// The spec with the chain that QEMU has: layers that were to be laid on it and were not are
    /// left out. The caller holds the graph's lock.
    pub(super) async fn known_chain(&self) -> Result<MachineSpec> {
        let answer = self.inner.qmp.execute("query-block", json!({})).await?;
        let top = boot_disk_of(&answer).and_then(|disk| disk["inserted"]["node-name"].as_str());
        let Some(top) = top else {
            return Err(Error::new(ErrorKind::Protocol, "QEMU does not name the boot disk's node"));
        };
        let mut spec = self.locked_spec();
        let layers = &mut spec.boot_disk.layers;
        let Some(above) = layers.iter().position(|layer| qemu::layer_node_name(layer) == top)
        else {
            let context = format!("QEMU writes to {top}, which is no layer of the machine");
            return Err(Error::new(ErrorKind::Protocol, context));
        };
        layers.drain(..above);
        Ok(spec.clone())
    }

    /// Shortens the running guest's chain: keeps the top `layers_kept` layers (at least one) and
    /// hangs them on `base`, which must read exactly as what is dropped. Repeating it is harmless.
    /// The dropped files are closed on return and may be deleted.
    ///
    /// # Errors
    /// `InvalidSpec` when that many layers are not there, `Refused` when QEMU cannot reach `base`.
    /// Half-done work is finished by repeating.
    pub async fn rebase(&self, layers_kept: usize, base: NbdTarget) -> Result<()> {
        let _one_at_a_time = self.inner.graph.lock().await;
        qemu::validate_target(&base)?;
        let mut spec = self.known_chain().await?;
        let layers = &spec.boot_disk.layers;
        if layers_kept == 0 || layers_kept > layers.len() {
            let there = layers.len();
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                format!("cannot keep {layers_kept} of {there} layers"),
            ));
        }
        let present = self.node_names().await?;
        let base_node = qemu::base_node_name(&base);
        if !present.contains(&base_node) {
            self.change_graph("blockdev-add", qemu::base_node(&base)?).await?;
        }
        let (kept, dropped) = layers.split_at(layers_kept);
        let bottom = qemu::layer_node(&kept[layers_kept - 1], layers_kept == 1, Some(&base_node));
        self.change_graph("blockdev-reopen", json!({ "options": [bottom] })).await?;
        // From the top down, since each holds the next, then the bases.
        let dropped = dropped.iter().flat_map(|layer| layer_nodes(layer));
        let bases = present.iter().filter(|name| name.starts_with("base-") && **name != base_node);
        for name in dropped.chain(bases.cloned()).filter(|name| present.contains(name)) {
            self.change_graph("blockdev-del", json!({ "node-name": name })).await?;
        }
        spec.boot_disk.layers.truncate(layers_kept);
        spec.boot_disk.base = base;
        self.remember(spec).await
    }

    /// Makes the running guest's disk larger, and tells the guest. Repeating it is harmless.
    pub async fn grow(&self, size_bytes: u64) -> Result<()> {
        let _one_at_a_time = self.inner.graph.lock().await;
        let mut spec = self.known_chain().await?;
        // A machine has at least one layer.
        let top = qemu::layer_node_name(&spec.boot_disk.layers[0]);
        let size = json!({ "node-name": top, "size": size_bytes });
        self.change_graph("block_resize", size).await?;
        spec.boot_disk.size_bytes = size_bytes;
        self.remember(spec).await
    }

    /// Makes a spec durable, and the one that is known.
    pub(super) async fn remember(&self, spec: MachineSpec) -> Result<()> {
        let layout = self.inner.layout.clone();
        let saved = spec.clone();
        tokio::task::spawn_blocking(move || files::save_spec(&layout, &saved))
            .await
            .map_err(|error| Error::because(ErrorKind::Io, "cannot save the machine", error))??;
        *self.locked_spec() = spec;
        Ok(())
    }

    pub(super) async fn change_graph(&self, command: &'static str, arguments: Value) -> Result<()> {
        self.inner.qmp.execute_within(QMP_GRAPH_TIMEOUT, command, arguments).await.map(drop)
    }

    pub(super) async fn node_names(&self) -> Result<Vec<String>> {
        let flat = json!({ "flat": true });
        let nodes = self.inner.qmp.execute("query-named-block-nodes", flat).await?;
        let names = nodes.as_array().into_iter().flatten();
        Ok(names.filter_map(|node| node["node-name"].as_str()).map(str::to_owned).collect())
    }
}

/// The nodes of a layer, in the order in which they can be deleted.
pub(super) fn layer_nodes(layer: &std::path::Path) -> [String; 2] {
    [qemu::layer_node_name(layer), qemu::layer_file_node_name(layer)]
}
