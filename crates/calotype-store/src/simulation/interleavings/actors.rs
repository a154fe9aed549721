//! Those beside a collection: commits, as `ingest` and `pack::writer` do them.

use super::{Actor, Step, World, id_of};
use crate::ManifestId;
use crate::index::Slot;
use crate::liveness::Touch;
use crate::registry::{Active, Pin};

/// How a commit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its manifest is recorded, then let go.
    Recorded,
    /// Its manifest is let go.
    Dropped,
    /// Before its root is written.
    Failed,
    /// After its root was written, but not for certain.
    Stray,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Begin,
    Generation(usize),
    LookUp(usize, u64),
    Touch(usize, u64, Option<Slot>),
    Write,
    Own(u32),
    Enter(u32),
    Moved,
    Pin,
    BeginPublishing,
    Publish,
    Announce,
    Record,
    Unpin,
}

pub(super) struct Commit {
    chunks: Vec<u8>,
    end: End,
    at: At,
    new: Vec<u8>,
    moved: Vec<(Slot, Slot)>,
    active: Option<Active>,
    pin: Option<Pin>,
}

impl Commit {
    pub(super) fn new(chunks: &[u8], end: End) -> Self {
        Self {
            chunks: chunks.to_vec(),
            end,
            at: At::Begin,
            new: Vec::new(),
            moved: Vec::new(),
            active: None,
            pin: None,
        }
    }

    fn number(&self) -> u64 {
        self.active.as_ref().unwrap().number
    }

    fn touch(&mut self, world: &World, number: usize, generation: u64, slot: Option<Slot>) -> At {
        let touch = |slot| world.registry.liveness.touch(self.number(), slot, generation);
        match slot.map(touch) {
            Some(Touch::LookAgain) => return At::Generation(number),
            Some(Touch::Kept) => {}
            Some(Touch::Doomed) | None => self.new.push(self.chunks[number]),
        }
        if number + 1 < self.chunks.len() { At::Generation(number + 1) } else { At::Write }
    }

    fn store(&mut self, world: &mut World) -> At {
        match self.at {
            At::Write if self.new.is_empty() => At::Pin,
            At::Write => {
                world.next_pack += 1;
                world.packs.insert(world.next_pack, self.new.clone());
                At::Own(world.next_pack)
            }
            At::Own(pack) => {
                world.registry.liveness.own(self.number(), pack);
                At::Enter(pack)
            }
            At::Enter(pack) => {
                self.moved = world.enter(pack, |_, _| true);
                At::Moved
            }
            at => {
                assert!(matches!(at, At::Moved));
                world.registry.liveness.moved(&self.moved);
                At::Pin
            }
        }
    }

    fn publish(&mut self, world: &mut World, id: ManifestId) -> At {
        match self.at {
            At::Pin => {
                self.pin = Some(world.registry.pin_unpublished(id));
                At::BeginPublishing
            }
            At::BeginPublishing if world.registry.lock().manifests.contains(&id) => At::Announce,
            At::BeginPublishing => {
                world.registry.begin_publishing(id);
                At::Publish
            }
            At::Publish => {
                world.roots.insert(id, self.chunks.clone());
                At::Announce
            }
            At::Announce => {
                self.active.take().unwrap().publish(id);
                At::Record
            }
            at => {
                assert!(matches!(at, At::Record));
                if self.end == End::Recorded {
                    world.catalog.insert(id);
                }
                At::Unpin
            }
        }
    }
}

impl Actor for Commit {
    fn step(&mut self, world: &mut World) -> Step {
        let id = id_of(&self.chunks);
        self.at = match self.at {
            At::Begin => {
                self.active = Some(world.registry.begin_commit(None));
                At::Generation(0)
            }
            At::Generation(number) => At::LookUp(number, world.registry.liveness.generation()),
            At::LookUp(number, generation) => {
                At::Touch(number, generation, world.index.get(&self.chunks[number]).copied())
            }
            At::Touch(number, generation, slot) => self.touch(world, number, generation, slot),
            At::Write | At::Own(_) | At::Enter(_) | At::Moved => self.store(world),
            At::Pin if self.end == End::Failed => {
                self.active = None;
                return Step::Last;
            }
            At::Pin if world.registry.lock().is_removing(id) => return Step::Blocked,
            // As when its folder could not be synced.
            At::Announce if self.end == End::Stray => {
                self.pin = None;
                self.end = End::Failed;
                At::Pin
            }
            At::Unpin => {
                self.pin = None;
                return Step::Last;
            }
            _ => self.publish(world, id),
        };
        Step::Taken
    }
}
