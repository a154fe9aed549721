//! The protocol of collection, explored: commits and a collection take their steps in
//! every order with a bounded number of preemptions. [`Registry`] and [`Liveness`](crate::liveness) are the
//! real ones; packs, roots and index are sets in memory; a step is what happens under one lock.
//!
//! After every step, whatever is published and needed is whole in the index, and every root there is has
//! all its chunks in packs there are, so that a crash at that step loses nothing either.

mod actors;
mod collector;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::actors::{Commit, End};
use self::collector::Collect;
use crate::ManifestId;
use crate::id::ChunkId;
use crate::index::{Candidate, Location, Slot};
use crate::pack::Codec;
use crate::registry::Registry;

/// Everything that the actors share.
struct World {
    registry: Arc<Registry>,
    index: BTreeMap<u8, Slot>,
    packs: BTreeMap<u32, Vec<u8>>,
    /// Those that the index knows.
    known: BTreeSet<u32>,
    roots: BTreeMap<ManifestId, Vec<u8>>,
    catalog: BTreeSet<ManifestId>,
    next_pack: u32,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Taken,
    /// Somebody else has to go first; nothing happened.
    Blocked,
    Last,
}

trait Actor {
    fn step(&mut self, world: &mut World) -> Step;
}

fn id_of(chunks: &[u8]) -> ManifestId {
    ManifestId::of(chunks)
}

fn candidate(chunk: u8, slot: Slot) -> Candidate {
    let location = Location { slot, offset: 64, stored_bytes: 1, codec: Codec::Raw, node: false };
    Candidate { id: ChunkId::of(&[chunk]), location }
}

impl World {
    /// One pack of three chunks; a recorded disk of two of them, and one that is not recorded.
    fn new() -> Self {
        let mut world = Self {
            registry: Registry::new(BTreeSet::new(), BTreeSet::new()),
            index: BTreeMap::new(),
            packs: BTreeMap::new(),
            known: BTreeSet::new(),
            roots: BTreeMap::new(),
            catalog: [id_of(&[1, 2])].into(),
            next_pack: 1,
        };
        world.packs.insert(1, vec![1, 2, 3]);
        world.enter(1, |_, _| true);
        for chunks in [vec![1, 2], vec![2, 3]] {
            world.registry.lock().manifests.insert(id_of(&chunks));
            world.roots.insert(id_of(&chunks), chunks);
        }
        world
    }

    /// Has the chunks of a pack read from it, those that are wanted; answers which were read from where.
    fn enter(
        &mut self,
        number: u32,
        wanted: impl Fn(&BTreeMap<u8, Slot>, u8) -> bool,
    ) -> Vec<(Slot, Slot)> {
        self.known.insert(number);
        let mut moved = Vec::new();
        for (record, &chunk) in (0..).zip(&self.packs[&number]) {
            let slot = Slot { pack: number, record };
            if wanted(&self.index, chunk)
                && let Some(before) = self.index.insert(chunk, slot)
            {
                moved.push((before, slot));
            }
        }
        moved
    }

    fn delete_pack(&mut self, number: u32) {
        self.known.remove(&number);
        self.packs.remove(&number);
    }

    fn has(&self, chunk: u8, slot: Slot) -> bool {
        let pack = self.packs.get(&slot.pack);
        pack.and_then(|chunks| chunks.get(usize::from(slot.record))) == Some(&chunk)
    }

    fn is_readable(&self, chunk: u8) -> bool {
        self.index.get(&chunk).is_some_and(|slot| self.has(chunk, *slot))
    }

    fn check(&self) {
        let state = self.registry.lock();
        let needed = self.catalog.iter().copied().chain(state.protected());
        for id in needed.filter(|id| state.manifests.contains(id)) {
            let chunks = &self.roots[&id];
            assert!(chunks.iter().all(|&chunk| self.is_readable(chunk)), "{chunks:?} is not whole");
        }
        for id in &self.catalog {
            assert!(state.manifests.contains(id), "{:?} is lost", self.roots.get(id));
        }
        for chunks in self.roots.values() {
            let there = |chunk| self.packs.values().any(|pack| pack.contains(chunk));
            assert!(chunks.iter().all(there), "a crash would leave {chunks:?} without a chunk");
        }
    }
}

/// Takes one order of steps, beginning as `plan` says and then with as few preemptions as can be.
/// Answers, for every step, who was chosen and who else could have been.
fn run(actors: &mut [Option<Box<dyn Actor>>], plan: &[usize]) -> Vec<(usize, Vec<usize>)> {
    let mut world = World::new();
    let mut taken: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut blocked = BTreeSet::new();
    loop {
        let able: Vec<_> = (0..actors.len())
            .filter(|who| actors[*who].is_some() && !blocked.contains(who))
            .collect();
        if able.is_empty() {
            assert!(actors.iter().all(Option::is_none), "all wait for each other");
            return taken;
        }
        let last = taken.last().map_or(0, |(who, _)| *who);
        let usual = if able.contains(&last) { last } else { able[0] };
        let who = plan.get(taken.len()).copied().filter(|who| able.contains(who)).unwrap_or(usual);
        match actors[who].as_mut().unwrap().step(&mut world) {
            Step::Blocked => {
                blocked.insert(who);
                continue;
            }
            Step::Taken => {}
            Step::Last => actors[who] = None,
        }
        blocked.clear();
        taken.push((who, able));
        world.check();
    }
}

/// Takes all orders with at most so many preemptions; answers how many there were.
fn explore(preemptions_max: usize, actors: impl Fn() -> Vec<Box<dyn Actor>>) -> usize {
    let mut plans = vec![Vec::new()];
    let mut count = 0;
    while let Some(plan) = plans.pop() {
        let mut fresh: Vec<_> = actors().into_iter().map(Some).collect();
        let taken = run(&mut fresh, &plan);
        count += 1;
        let who: Vec<_> = taken.iter().map(|(who, _)| *who).collect();
        let mut preemptions = 0;
        for step in 0..taken.len() {
            let before = step.checked_sub(1).map(|before| who[before]);
            // Whoever could go on and does not is preempted.
            let goes_on = before.filter(|before| taken[step].1.contains(before));
            if step >= plan.len() {
                for &other in taken[step].1.iter().filter(|other| **other != who[step]) {
                    let preempts = goes_on.is_some_and(|before| before != other);
                    if preemptions + usize::from(preempts) <= preemptions_max {
                        plans.push([&who[..step], &[other]].concat());
                    }
                }
            }
            preemptions += usize::from(goes_on.is_some_and(|before| before != who[step]));
        }
    }
    count
}

fn commit(chunks: &[u8], end: End) -> Box<dyn Actor> {
    Box::new(Commit::new(chunks, end))
}

fn collect() -> Box<dyn Actor> {
    Box::new(Collect::default())
}

#[test]
fn a_commit_beside_a_collection_keeps_its_chunks_in_every_order() {
    for end in [End::Recorded, End::Dropped, End::Failed, End::Stray] {
        for chunks in [&[2, 3][..], &[3, 4], &[1, 3, 4], &[1, 2]] {
            let count = explore(2, || vec![commit(chunks, end), collect()]);
            assert!(count > 100, "{count}");
        }
    }
}

#[test]
fn two_commits_of_the_same_chunks_beside_a_collection_keep_them_in_every_order() {
    for ends in
        [(End::Recorded, End::Failed), (End::Recorded, End::Dropped), (End::Stray, End::Recorded)]
    {
        let actors = || vec![commit(&[3, 4], ends.0), commit(&[4, 5], ends.1), collect()];
        assert!(explore(1, actors) > 50);
        let actors = || vec![commit(&[3, 4], ends.0), commit(&[3, 4], ends.1), collect()];
        assert!(explore(1, actors) > 50);
    }
}
