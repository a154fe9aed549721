//! What manifests and unfinished commits reach must be there, and sound.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::pass::Passed;
use super::{Watch, cancelled};
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::{CHUNK_BYTES, DAMAGES_MAX, NODE_BYTES};
use crate::manifest;
use crate::partial::{Partial, PartialId};

/// What is reached, and is not as it should be.
#[derive(Default)]
pub(super) struct Reach {
    pub(super) manifests: u64,
    pub(super) partials: u64,
    /// Chunks that cannot be read, with the lengths of their plain bytes.
    pub(super) wanted: BTreeMap<ChunkId, usize>,
    /// Beside those.
    pub(super) wanted_more: u64,
    pub(super) manifests_damaged: BTreeSet<ManifestId>,
    pub(super) partials_damaged: u64,
    /// Partials that reach something that cannot be read.
    pub(super) partials_lacking: Vec<PartialId>,
}

impl Reach {
    fn wanted_total(&self) -> u64 {
        self.wanted.len() as u64 + self.wanted_more
    }
}

/// Walks everything that is there now. Nodes that cannot be read hide what is below them.
pub(super) fn walk(core: &Core, passed: &Passed, watch: &Watch<'_>) -> Result<Reach> {
    let mut walk = Walk { core, passed, watch, nodes: HashSet::new(), reach: Reach::default() };
    let (manifests, partials) = {
        let state = core.registry.lock();
        let partials: Vec<_> = state.partials.keys().copied().collect();
        (state.manifests.clone(), partials)
    };
    for id in manifests {
        // Pinned: what it reaches stays until it has been looked at.
        let Some(_pin) = core.registry.pin(id) else { continue };
        walk.reach.manifests += 1;
        match core.root(id) {
            Ok(root) => walk.below(root.depth(), root.children.iter().copied())?,
            Err(error) => {
                tracing::error!(%error, manifest = %id, "a manifest is damaged");
                walk.reach.manifests_damaged.insert(id);
            }
        }
    }
    for id in partials {
        match Partial::read(core, id) {
            Ok(partial) => {
                walk.reach.partials += 1;
                let wanted_before = walk.reach.wanted_total();
                for (level, child) in partial.children() {
                    walk.below(level + 1, std::iter::once(child))?;
                }
                if walk.reach.wanted_total() > wanted_before {
                    walk.reach.partials_lacking.push(id);
                }
            }
            // Its commit ended meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // The commit begins anew.
            Err(error) => {
                tracing::warn!(%error, partial = %id, "what a commit left is damaged");
                walk.reach.partials += 1;
                walk.reach.partials_damaged += 1;
            }
        }
    }
    Ok(walk.reach)
}

struct Walk<'a> {
    core: &'a Core,
    passed: &'a Passed,
    watch: &'a Watch<'a>,
    nodes: HashSet<ChunkId>,
    reach: Reach,
}

impl Walk<'_> {
    /// Looks at the children of something at `level`, and all that is below them.
    fn below(&mut self, level: u32, children: impl Iterator<Item = ChunkId>) -> Result<()> {
        let mut stack = Vec::new();
        self.children(level, children, &mut stack)?;
        while let Some((level, id)) = stack.pop() {
            if self.watch.cancelled() {
                return Err(cancelled());
            }
            match self.core.node(id) {
                Ok(node) => self.children(level, manifest::children(&node), &mut stack)?,
                Err(error) => self.want(id, NODE_BYTES, &error)?,
            }
        }
        Ok(())
    }

    fn children(
        &mut self,
        level: u32,
        children: impl Iterator<Item = ChunkId>,
        stack: &mut Vec<(u32, ChunkId)>,
    ) -> Result<()> {
        for id in children.filter(|id| !id.is_hole()) {
            if level == 1 {
                self.chunk(id, CHUNK_BYTES)?;
            } else if self.nodes.insert(id) {
                self.chunk(id, NODE_BYTES)?;
                stack.push((level - 1, id));
            }
        }
        Ok(())
    }

    /// A chunk must be read from where the pass found it sound, or, if it is not, be sound now: what was
    /// committed or moved since the pass began was not seen by it.
    fn chunk(&mut self, id: ChunkId, plain_bytes: usize) -> Result<()> {
        if let Some(location) = self.core.index.get(id)? {
            if self.passed.is_sound(id, location) {
                return Ok(());
            }
            if self.passed.missing.contains(&location.slot.pack) {
                let missing = Error::corrupt(format!("chunk {id} is in a pack that is missing"));
                return self.want(id, plain_bytes, &missing);
            }
            // It may be read from a cache all the same.
            if self.passed.is_lost(id, location) {
                let lost = Error::corrupt(format!("chunk {id} is damaged where it is stored"));
                return self.want(id, plain_bytes, &lost);
            }
        }
        match self.core.load(id, plain_bytes) {
            Ok(_) => Ok(()),
            Err(error) => self.want(id, plain_bytes, &error),
        }
    }

    fn want(&mut self, id: ChunkId, plain_bytes: usize, error: &Error) -> Result<()> {
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Io) {
            return Err(Error::new(error.kind(), format!("chunk {id} cannot be read: {error}")));
        }
        if self.reach.wanted.len() < DAMAGES_MAX {
            if self.reach.wanted.insert(id, plain_bytes).is_none() {
                tracing::error!(%error, "a disk needs a chunk that cannot be read");
            }
        } else if !self.reach.wanted.contains_key(&id) {
            self.reach.wanted_more += 1;
        }
        Ok(())
    }
}
