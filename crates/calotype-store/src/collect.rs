//! Garbage collection: mark, decide, sweep; safe while others commit and read.
//!
//! 1. *Mark*: everything that the roots and whatever is in use reach is touched in the collection's
//!    own epoch (see [`crate::index`]).
//! 2. *Decide*, in one moment under the registry's lock: manifests that are neither roots nor in use
//!    end; chunks touched neither by the marking nor by a commit that still runs are forgotten. If
//!    something came into use that was not marked, it is marked and the decision made anew.
//! 3. *Sweep*: files of manifests go first, and durably, so that a manifest that is there after a
//!    crash is always whole; then packs of which nothing is left; then packs with little left
//!    are moved into new ones.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;

use crate::backend::Key;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::index::{PackUse, Sweep};
use crate::limits::{PACK_LIVE_EIGHTHS_MIN, SMALL_PACKS_MAX};
use crate::manifest::{self, ROOT_BYTES};
use crate::pack::{PackId, PackWriter, Publish};

/// Packs that are moved together: the old ones go when the new ones are durable.
const MOVED_TOGETHER: usize = 8;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests that were neither roots nor in use.
    pub manifests_removed: u64,
    /// Chunks that no manifest needs.
    pub chunks_removed: u64,
    /// Packs of which nothing was left.
    pub packs_deleted: u64,
    /// Packs whose rest was moved to a new pack.
    pub packs_rewritten: u64,
    /// Bytes of all files deleted, those of new packs not counted against them.
    pub bytes_freed: u64,
}

/// A collection that has begun: everything committed or in use from now on is safe from it.
pub struct Collection<'store> {
    core: &'store Core,
    _only: MutexGuard<'store, ()>,
}

impl<'store> Collection<'store> {
    pub(crate) fn begin(core: &'store Core) -> Self {
        let only = core.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        core.registry.begin_collection();
        Self { core, _only: only }
    }

    /// Removes what is reachable neither from `roots` nor from anything in use.
    ///
    /// A root that the store does not have ([`ErrorKind::NotFound`]) or whose manifest is damaged
    /// ([`ErrorKind::Corrupt`]) ends the collection before anything is removed: what it
    /// reaches is not known.
    pub fn run(self, roots: &BTreeSet<ManifestId>) -> Result<Collected> {
        let core = self.core;
        let epoch = core.registry.lock().next_epoch();
        let mut mark = Mark { core, epoch, manifests: BTreeSet::new(), nodes: HashSet::new() };
        for &root in roots {
            if !core.registry.lock().manifests.contains(&root) {
                return Err(Error::no_manifest(root));
            }
            mark.manifest(root)?;
        }
        let (removed, sweep) = self.decide(&mut mark)?;
        let mut collected = Collected {
            manifests_removed: removed.len() as u64,
            chunks_removed: sweep.chunks_removed,
            bytes_freed: (removed.len() * ROOT_BYTES) as u64,
            ..Collected::default()
        };
        let dead: Vec<_> = sweep.dead.iter().map(|&(pack, _)| Key::Pack(pack)).collect();
        core.backend.delete(&dead)?;
        collected.packs_deleted = dead.len() as u64;
        collected.bytes_freed += sweep.dead.iter().map(|(_, length)| length).sum::<u64>();

        match rewrite(core, &candidates(core, &sweep.partly_alive), &mut collected) {
            // What could be freed without room has been freed; the next collection goes on.
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                tracing::warn!(%error, "no room to move the rest of sparse packs");
            }
            result => result?,
        }
        Ok(collected)
    }

    /// Marks until nothing is in use that is not marked, and decides in the same moment.
    fn decide(&self, mark: &mut Mark<'_>) -> Result<(Vec<ManifestId>, Sweep)> {
        let core = self.core;
        loop {
            let mut state = core.registry.lock();
            let mut unmarked: Vec<_> = state.protected().into_iter().collect();
            // What is in use but not visible is of a commit that runs, and protected by its epoch.
            unmarked.retain(|id| state.manifests.contains(id) && !mark.manifests.contains(id));
            if !unmarked.is_empty() {
                drop(state);
                for id in unmarked {
                    mark.manifest(id)?;
                }
                continue;
            }
            let protected = state.protected();
            let removed: Vec<_> = state
                .manifests
                .iter()
                .filter(|id| !mark.manifests.contains(id) && !protected.contains(id))
                .copied()
                .collect();
            let keys: Vec<_> = removed.iter().copied().map(Key::Manifest).collect();
            // Under the lock: a commit that publishes the same disk does so after this, or has it
            // pinned before.
            core.backend.delete(&keys)?;
            for id in &removed {
                state.manifests.remove(id);
            }
            let needed = mark.epoch.min(state.oldest_active().unwrap_or(u32::MAX));
            return Ok((removed, core.index.sweep(needed)));
        }
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        self.core.registry.end_collection();
    }
}

/// What was marked so far.
struct Mark<'a> {
    core: &'a Core,
    epoch: u32,
    manifests: BTreeSet<ManifestId>,
    nodes: HashSet<ChunkId>,
}

impl Mark<'_> {
    fn manifest(&mut self, id: ManifestId) -> Result<()> {
        let root = self.core.root(id)?;
        let mut stack = Vec::new();
        self.children(root.depth() - 1, root.children.iter().copied(), &mut stack);
        while let Some((level, node)) = stack.pop() {
            let node: Arc<[u8]> = self.core.node(node)?;
            self.children(level - 1, manifest::children(&node), &mut stack);
        }
        self.manifests.insert(id);
        Ok(())
    }

    /// Marks things at `level`; those that have children themselves and are new go on the stack.
    fn children(
        &mut self,
        level: u32,
        children: impl Iterator<Item = ChunkId> + Clone,
        stack: &mut Vec<(u32, ChunkId)>,
    ) {
        let children = children.filter(|child| !child.is_hole());
        let missing = self.core.index.touch_all(children.clone(), self.epoch);
        if level > 0 {
            stack
                .extend(children.filter(|&node| self.nodes.insert(node)).map(|node| (level, node)));
        } else if missing > 0 {
            tracing::error!(missing, "chunks of a manifest are missing");
        }
    }
}

/// The packs worth rewriting: little of them is in use, their footer is damaged, or they are small and many.
fn candidates(core: &Core, packs: &[PackUse]) -> Vec<PackId> {
    let small = |pack: &PackUse| pack.length_bytes < core.options.pack_bytes / 8;
    let many_small = packs.iter().filter(|pack| small(pack)).count() >= SMALL_PACKS_MAX;
    let worth = |pack: &&PackUse| {
        pack.live_bytes * 8 < pack.length_bytes * PACK_LIVE_EIGHTHS_MIN
            || pack.scanned
            || (many_small && small(pack))
    };
    packs.iter().filter(worth).map(|pack| pack.pack).collect()
}

fn rewrite(core: &Core, packs: &[PackId], collected: &mut Collected) -> Result<()> {
    for packs in packs.chunks(MOVED_TOGETHER) {
        move_chunks(core, packs)?;
        // A pack with a chunk that could not be moved, being damaged, stays: it is evidence.
        let unused = core.index.forget_packs(packs);
        let keys: Vec<_> = unused.iter().map(|&(pack, _)| Key::Pack(pack)).collect();
        core.backend.delete(&keys)?;
        collected.packs_rewritten += unused.len() as u64;
        collected.bytes_freed += unused.iter().map(|(_, length)| length).sum::<u64>();
    }
    Ok(())
}

/// Copies what is read from `packs` to new ones, and has it read from there.
fn move_chunks(core: &Core, packs: &[PackId]) -> Result<()> {
    thread::scope(|scope| {
        let mut writer = PackWriter::new(core, scope, Publish::Moved);
        for (pack, chunks) in core.index.chunks_of(packs) {
            for (id, location) in chunks {
                match core.load_packed(id, location) {
                    Ok((payload, plain_bytes)) => {
                        writer.append(id, location.codec, plain_bytes, &payload)?;
                    }
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        tracing::error!(%pack, %error, "a damaged chunk stays where it is");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        writer.finish()
    })
}
