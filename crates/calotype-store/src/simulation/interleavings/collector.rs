//! A collection, in the steps of `collect`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Actor, Step, World, candidate};
use crate::ManifestId;
use crate::index::{Candidate, Slot};

#[derive(Debug, Clone, Copy, Default)]
enum At {
    #[default]
    Begin,
    Roots,
    Mark,
    MarkInUse,
    ScanPacks,
    ScanIndex,
    Decide,
    DeleteManifests,
    RemoveChunks,
    DeletePacks,
    Copy,
    EnterCopy(u32),
    MovedCopy,
    DeleteCopied,
    DoomedAreGone,
    End,
}

#[derive(Default)]
pub(super) struct Collect {
    at: At,
    to_mark: Vec<ManifestId>,
    marked: BTreeSet<ManifestId>,
    marks: BTreeSet<u8>,
    packs: Vec<u32>,
    index: BTreeMap<u8, Slot>,
    ending: Vec<ManifestId>,
    doomed: Vec<Candidate>,
    dead: Vec<u32>,
    copied: Option<u32>,
    moved: Vec<(Slot, Slot)>,
}

impl Collect {
    /// Marks one thing in use that is not marked; answers whether there was one.
    fn mark_in_use(&mut self, world: &World) -> bool {
        let unmarked = {
            let state = world.registry.lock();
            let mut protected = state.protected().into_iter();
            protected.find(|id| state.manifests.contains(id) && !self.marked.contains(id))
        };
        unmarked.inspect(|&id| self.mark(world, id)).is_some()
    }

    fn mark(&mut self, world: &World, id: ManifestId) {
        self.marks.extend(&world.roots[&id]);
        self.marked.insert(id);
    }

    fn decide(&mut self, world: &World) {
        let mut state = world.registry.lock();
        let protected = state.protected();
        let ends = |id: &&ManifestId| !self.marked.contains(id) && !protected.contains(id);
        self.ending = state.manifests.iter().filter(ends).copied().collect();
        let strays = state.strays();
        self.ending.extend(strays);
        state.remove(&self.ending);
        let unmarked = self.index.iter().filter(|(chunk, _)| !self.marks.contains(chunk));
        let candidates = unmarked.map(|(&chunk, &slot)| candidate(chunk, slot));
        self.doomed = world.registry.liveness.doom(candidates);
    }

    fn is_doomed(&self, slot: Slot) -> bool {
        self.doomed.iter().any(|doomed| doomed.location.slot == slot)
    }

    /// How many of the scanned chunks of a pack stay.
    fn living(&self, pack: u32) -> usize {
        let slots = self.index.values().filter(|slot| slot.pack == pack);
        slots.filter(|slot| !self.is_doomed(**slot)).count()
    }

    fn remove_chunks(&mut self, world: &mut World) {
        let owned = |pack| world.registry.liveness.is_owned(pack);
        let packs = self.packs.iter().copied();
        self.dead = packs.filter(|&pack| self.living(pack) == 0 && !owned(pack)).collect();
        world.index.retain(|_, slot| !self.is_doomed(*slot));
    }

    /// Copies what is read from a pack that has lost something.
    fn copy(&mut self, world: &mut World) -> At {
        let sparse = self.packs.iter().copied().find(|&pack| {
            let all = self.index.values().filter(|slot| slot.pack == pack).count();
            (1..all).contains(&self.living(pack))
        });
        let Some(pack) = sparse else { return At::DoomedAreGone };
        let read_from_it = world.index.iter().filter(|(_, slot)| slot.pack == pack);
        let chunks: Vec<_> = read_from_it.map(|(&chunk, _)| chunk).collect();
        self.copied = Some(pack);
        world.next_pack += 1;
        world.packs.insert(world.next_pack, chunks);
        At::EnterCopy(world.next_pack)
    }

    fn look(&mut self, world: &World) -> At {
        match self.at {
            At::Mark => match self.to_mark.pop() {
                Some(id) => {
                    self.mark(world, id);
                    At::Mark
                }
                None => At::MarkInUse,
            },
            At::MarkInUse => {
                if self.mark_in_use(world) {
                    return At::MarkInUse;
                }
                At::ScanPacks
            }
            At::ScanPacks => {
                // A pack is known once its chunks can be read.
                self.packs = world.known.iter().copied().collect();
                At::ScanIndex
            }
            At::ScanIndex => {
                self.index.clone_from(&world.index);
                At::Decide
            }
            at => {
                assert!(matches!(at, At::Decide));
                if !self.mark_in_use(world) {
                    self.decide(world);
                    return At::DeleteManifests;
                }
                At::Decide
            }
        }
    }

    fn sweep(&mut self, world: &mut World) -> At {
        match self.at {
            At::DeleteManifests => {
                if let Some(id) = self.ending.pop() {
                    world.roots.remove(&id);
                    return At::DeleteManifests;
                }
                world.registry.removed();
                At::RemoveChunks
            }
            At::RemoveChunks => {
                self.remove_chunks(world);
                At::DeletePacks
            }
            At::DeletePacks => {
                for pack in &self.dead {
                    world.delete_pack(*pack);
                }
                At::Copy
            }
            At::Copy => self.copy(world),
            At::EnterCopy(pack) => {
                self.moved = world.enter(pack, |index, chunk| index.contains_key(&chunk));
                At::MovedCopy
            }
            At::MovedCopy => {
                world.registry.liveness.moved(&self.moved);
                At::DeleteCopied
            }
            at => {
                assert!(matches!(at, At::DeleteCopied));
                world.delete_pack(self.copied.take().unwrap());
                At::DoomedAreGone
            }
        }
    }
}

impl Actor for Collect {
    fn step(&mut self, world: &mut World) -> Step {
        self.at = match self.at {
            At::Begin if world.registry.lock().is_collecting() => return Step::Blocked,
            At::Begin => {
                world.registry.begin_collection();
                At::Roots
            }
            At::Roots => {
                self.to_mark = world.catalog.iter().copied().collect();
                At::Mark
            }
            At::Mark | At::MarkInUse | At::ScanPacks | At::ScanIndex | At::Decide => {
                self.look(world)
            }
            At::DoomedAreGone => {
                world.registry.liveness.doomed_are_gone();
                At::End
            }
            At::End => {
                world.registry.end_collection();
                return Step::Last;
            }
            _ => self.sweep(world),
        };
        Step::Taken
    }
}
