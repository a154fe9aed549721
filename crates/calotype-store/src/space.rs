//! What images share, and what deleting one would give back.
//!
//! One walk over the manifests, in which every distinct node is read and decoded once: chunks and
//! nodes get numbers, and from then on a tree is lists of numbers. A manifest's own walk looks at
//! everything that it reaches once, in memory. So the time is that of reading the distinct nodes, one
//! look into the index for each distinct chunk, and a few nanoseconds for each chunk of each manifest;
//! the memory about 40 bytes for each distinct chunk.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::CHUNK_BYTES;
use crate::manifest::{self, ROOT_BYTES};

/// The space of one disk, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// The size of the virtual disk.
    pub logical_bytes: u64,
    /// What of it is no hole, in whole chunks: what a plain copy without compression would take.
    pub data_bytes: u64,
    /// What is stored of it: compressed, each chunk once, the nodes and the root included.
    pub stored_bytes: u64,
    /// What of that no other disk needs. This is freed when the last holder of the disk is gone; as
    /// packs are only rewritten when less than half of them is in use, not all of it at once.
    pub unique_bytes: u64,
}

impl Space {
    /// What is stored of it and needed by other disks, too.
    pub fn shared_bytes(&self) -> u64 {
        self.stored_bytes - self.unique_bytes
    }
}

/// The space of several disks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpaceOfAll {
    /// Of each.
    pub disks: BTreeMap<ManifestId, Space>,
    /// What is stored of all of them, each chunk once.
    pub stored_bytes: u64,
    /// Disks that are damaged so that it cannot be told, or that the store does not have. What they
    /// share with others counts as unique to those.
    pub unknown: BTreeSet<ManifestId>,
}

/// See [`crate::Store::space`].
pub(crate) fn space(core: &Core, disks: &BTreeSet<ManifestId>) -> Result<SpaceOfAll> {
    let mut forest = Forest { core, numbers: HashMap::new(), things: Vec::new() };
    let mut of_all = SpaceOfAll::default();
    let mut order = Vec::new();
    for (&id, disk) in disks.iter().zip(1..) {
        // What the walk before it found stays counted; it is little.
        match forest.disk(id, disk) {
            Ok(space) => {
                of_all.disks.insert(id, space);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                tracing::warn!(%error, manifest = %id, "the space of a disk cannot be told");
                of_all.unknown.insert(id);
            }
            Err(error) => return Err(error),
        }
        order.push(id);
    }
    for thing in &forest.things {
        if thing.holders == 0 {
            continue;
        }
        of_all.stored_bytes += u64::from(thing.stored_bytes);
        if thing.holders == 1
            && let Some(id) = order.get(thing.last_holder as usize - 1)
            && let Some(space) = of_all.disks.get_mut(id)
        {
            space.unique_bytes += u64::from(thing.stored_bytes);
        }
    }
    for space in of_all.disks.values_mut() {
        space.unique_bytes += ROOT_BYTES as u64;
        of_all.stored_bytes += ROOT_BYTES as u64;
    }
    Ok(of_all)
}

/// A chunk or a node.
struct Thing {
    stored_bytes: u32,
    /// The disk that was last found to reach it, counted from 1.
    last_holder: u32,
    /// How many disks reach it; more than one is all that matters.
    holders: u8,
    /// Of a node.
    children: Option<Box<[u32]>>,
}

/// All trees that were seen so far.
struct Forest<'a> {
    core: &'a Core,
    numbers: HashMap<u64, u32>,
    things: Vec<Thing>,
}

impl Forest<'_> {
    fn disk(&mut self, id: ManifestId, disk: u32) -> Result<Space> {
        let core = self.core;
        let _pin = core.registry.pin(id).ok_or_else(|| Error::no_manifest(id))?;
        let root = core.root(id)?;
        let mut space = Space {
            logical_bytes: root.size_bytes,
            stored_bytes: ROOT_BYTES as u64,
            ..Space::default()
        };
        let level = root.depth() - 1;
        let mut stack = Vec::new();
        for number in self.read(level, root.children.iter().copied())? {
            stack.push((level, number));
        }
        while let Some((level, number)) = stack.pop() {
            let thing = &mut self.things[number as usize];
            if level == 0 {
                space.data_bytes += CHUNK_BYTES as u64;
            }
            if thing.last_holder != disk {
                thing.last_holder = disk;
                thing.holders = thing.holders.saturating_add(1);
                space.stored_bytes += u64::from(thing.stored_bytes);
            }
            // A node that occurs twice in a disk is data twice.
            if let Some(children) = &thing.children {
                stack.extend(children.iter().map(|&child| (level - 1, child)));
            }
        }
        Ok(space)
    }

    /// The numbers of things at `level`, after those below them have theirs. No deeper than a tree is.
    fn read(&mut self, level: u32, ids: impl Iterator<Item = ChunkId>) -> Result<Box<[u32]>> {
        let numbers = ids.filter(|id| !id.is_hole()).map(|id| self.number(level, id));
        numbers.collect()
    }

    fn number(&mut self, level: u32, id: ChunkId) -> Result<u32> {
        if let Some(&number) = self.numbers.get(&id.mark()) {
            return Ok(number);
        }
        let location = self.core.index.get(id)?;
        let stored_bytes = location.map_or(0, |location| location.stored_bytes);
        let children = if level == 0 {
            None
        } else {
            let node = self.core.node(id)?;
            Some(self.read(level - 1, manifest::children(&node))?)
        };
        let number = u32::try_from(self.things.len())
            .map_err(|_| Error::new(ErrorKind::TooLarge, "more chunks than can be counted"))?;
        self.things.push(Thing { stored_bytes, last_holder: 0, holders: 0, children });
        self.numbers.insert(id.mark(), number);
        Ok(number)
    }
}
