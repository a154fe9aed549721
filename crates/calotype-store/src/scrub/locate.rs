//! Which disks a chunk belongs to, and where in them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Affected, Watch, cancelled};
use crate::core::Core;
use crate::error::Result;
use crate::id::{ChunkId, ManifestId};
use crate::limits::{AFFECTED_MAX, CHUNK_BYTES};
use crate::manifest;

/// Where one chunk is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) affected: Vec<Affected>,
    /// Ranges beside those.
    pub(super) affected_more: u64,
    /// The disks of all ranges.
    pub(super) manifests: BTreeSet<ManifestId>,
}

/// Walks all manifests, each node once unless something below it is looked for.
pub(super) fn locate(
    core: &Core,
    chunks: impl Iterator<Item = ChunkId>,
    watch: &Watch<'_>,
) -> Result<BTreeMap<ChunkId, Needed>> {
    let found = chunks.map(|id| (id, Needed::default())).collect();
    let mut search = Search { core, watch, found, clean: HashSet::new(), manifest: None };
    let manifests = core.registry.lock().manifests.clone();
    for id in manifests {
        let Some(_pin) = core.registry.pin(id) else { continue };
        let Ok(root) = core.root(id) else { continue };
        search.manifest = Some((id, root.size_bytes));
        let level = root.depth() - 1;
        for (child, slot) in root.children.iter().zip(0..) {
            search.below(level, *child, slot * manifest::span(level))?;
        }
    }
    Ok(search.found)
}

struct Search<'a> {
    core: &'a Core,
    watch: &'a Watch<'a>,
    found: BTreeMap<ChunkId, Needed>,
    /// Nodes below which there is nothing that is looked for.
    clean: HashSet<u64>,
    manifest: Option<(ManifestId, u64)>,
}

impl Search<'_> {
    /// Looks at what is at `level` and covers the disk from chunk `first` on; answers whether anything
    /// was found there. No deeper than a tree is.
    fn below(&mut self, level: u32, id: ChunkId, first: u64) -> Result<bool> {
        if id.is_hole() {
            return Ok(false);
        }
        let mut hit = self.note(level, id, first);
        if level == 0 || self.clean.contains(&id.mark()) {
            return Ok(hit);
        }
        if self.watch.cancelled() {
            return Err(cancelled());
        }
        // What is below a node that is lost is not known; the node says it for all of it.
        let Ok(node) = self.core.node(id) else { return Ok(true) };
        for (child, slot) in manifest::children(&node).zip(0..) {
            hit |= self.below(level - 1, child, first + slot * manifest::span(level - 1))?;
        }
        if !hit {
            self.clean.insert(id.mark());
        }
        Ok(hit)
    }

    fn note(&mut self, level: u32, id: ChunkId, first: u64) -> bool {
        let Some(needed) = self.found.get_mut(&id) else { return false };
        let Some((manifest, size_bytes)) = self.manifest else { return true };
        needed.manifests.insert(manifest);
        let begin = first * CHUNK_BYTES as u64;
        let end = (begin + manifest::span(level) * CHUNK_BYTES as u64).min(size_bytes);
        let room = needed.affected.len() < AFFECTED_MAX;
        match needed.affected.last_mut() {
            Some(last) if last.manifest == manifest && last.range.end == begin => {
                last.range.end = end;
            }
            _ if room => needed.affected.push(Affected { manifest, range: begin..end }),
            _ => needed.affected_more += 1,
        }
        true
    }
}
