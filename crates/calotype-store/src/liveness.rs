//! Which chunks running commits rely on, and which a collection is about to remove.
//!
//! A commit protects what it finds in the index by touching it, and what it stores by owning the pack. A
//! collection *dooms* chunks that nothing marked and no commit touched: from then on a commit that
//! looks for one does not find it, and stores it again. All of it is a bit for each chunk, by pack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::index::{Candidate, Slot};

/// Says which commit.
pub(crate) type CommitNumber = u64;

/// What became of a touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    /// The chunk stays for as long as the commit runs.
    Kept,
    /// It is being removed.
    Doomed,
    /// It may have been removed or moved since its location was read.
    LookAgain,
}

#[derive(Default)]
pub(crate) struct Liveness {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Changes whenever chunks may have left the place where they were.
    generation: u64,
    commits: BTreeMap<CommitNumber, Slots>,
    doomed: Slots,
}

/// A set of slots.
#[derive(Default)]
struct Slots {
    packs: BTreeMap<u32, Vec<u64>>,
    whole_packs: BTreeSet<u32>,
    /// It is not known which they are: it may be any.
    any: bool,
}

impl Slots {
    fn insert(&mut self, slot: Slot) {
        let words = self.packs.entry(slot.pack).or_default();
        let word = usize::from(slot.record / 64);
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        words[word] |= 1 << (slot.record % 64);
    }

    fn owns(&self, pack: u32) -> bool {
        self.any || self.whole_packs.contains(&pack)
    }

    fn contains(&self, slot: Slot) -> bool {
        let word = |words: &Vec<u64>| words.get(usize::from(slot.record / 64)).copied();
        self.packs.get(&slot.pack).and_then(word).unwrap_or(0) >> (slot.record % 64) & 1 == 1
            || self.owns(slot.pack)
    }
}

impl Liveness {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin_commit(&self, commit: CommitNumber) {
        self.lock().commits.insert(commit, Slots::default());
    }

    pub(crate) fn end_commit(&self, commit: CommitNumber) {
        self.lock().commits.remove(&commit);
    }

    /// To be read before a location is looked up that is going to be touched.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Has `commit` rely on the chunk at `slot`, which was looked up in `generation`.
    pub(crate) fn touch(&self, commit: CommitNumber, slot: Slot, generation: u64) -> Touch {
        let mut state = self.lock();
        if state.generation != generation {
            return Touch::LookAgain;
        }
        if state.doomed.contains(slot) {
            return Touch::Doomed;
        }
        if let Some(touched) = state.commits.get_mut(&commit) {
            touched.insert(slot);
        }
        Touch::Kept
    }

    /// Has `commit` rely on all that is going to be read from a pack.
    pub(crate) fn own(&self, commit: CommitNumber, pack: u32) {
        if let Some(touched) = self.lock().commits.get_mut(&commit) {
            touched.whole_packs.insert(pack);
        }
    }

    /// Dooms those of `candidates` that no commit relies on, and answers them.
    pub(crate) fn doom(&self, candidates: impl Iterator<Item = Candidate>) -> Vec<Candidate> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut doomed = Vec::new();
        for candidate in candidates {
            let slot = candidate.location.slot;
            if !state.commits.values().any(|touched| touched.contains(slot)) {
                state.doomed.insert(slot);
                doomed.push(candidate);
            }
        }
        doomed
    }

    /// The doomed are gone from the index.
    pub(crate) fn doomed_are_gone(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.doomed = Slots::default();
    }

    /// Chunks are read from other places now; who relied on them still does.
    pub(crate) fn moved(&self, places: &[(Slot, Slot)]) {
        let mut state = self.lock();
        state.generation += 1;
        for touched in state.commits.values_mut() {
            for &(from, to) in places {
                if touched.contains(from) {
                    touched.insert(to);
                }
            }
        }
    }

    /// Any chunk may be read from elsewhere now. Nothing is collected until the commits that run have
    /// ended.
    pub(crate) fn forget_places(&self) {
        let mut state = self.lock();
        state.generation += 1;
        for touched in state.commits.values_mut() {
            touched.any = true;
        }
    }

    /// Whether a running commit owns the pack.
    pub(crate) fn is_owned(&self, pack: u32) -> bool {
        self.lock().commits.values().any(|touched| touched.owns(pack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;
    use crate::index::Location;
    use crate::pack::Codec;

    fn slot(pack: u32, record: u16) -> Slot {
        Slot { pack, record }
    }

    fn candidate(slot: Slot) -> Candidate {
        let location =
            Location { slot, offset: 64, stored_bytes: 1, codec: Codec::Raw, node: false };
        Candidate { id: ChunkId::of(b"chunk"), location }
    }

    #[test]
    fn what_a_commit_touched_or_owns_is_not_doomed() {
        let liveness = Liveness::default();
        liveness.begin_commit(1);
        assert_eq!(liveness.touch(1, slot(1, 64), 0), Touch::Kept);
        liveness.own(1, 2);
        let all = [slot(1, 63), slot(1, 64), slot(2, 9), slot(3, 64)];
        let doomed = liveness.doom(all.into_iter().map(candidate));
        let doomed: Vec<_> = doomed.iter().map(|candidate| candidate.location.slot).collect();
        assert_eq!(doomed, [slot(1, 63), slot(3, 64)]);
        assert_eq!(liveness.touch(1, slot(3, 64), 0), Touch::Doomed);
        liveness.end_commit(1);
        assert_eq!(liveness.doom([candidate(slot(2, 9))].into_iter()).len(), 1);
    }

    #[test]
    fn a_location_from_before_a_removal_is_looked_up_again() {
        let liveness = Liveness::default();
        liveness.begin_commit(1);
        let before = liveness.generation();
        liveness.doom([candidate(slot(1, 1))].into_iter());
        liveness.doomed_are_gone();
        assert_eq!(liveness.touch(1, slot(1, 1), before), Touch::LookAgain);
        assert_eq!(liveness.touch(1, slot(1, 1), liveness.generation()), Touch::Kept);
    }

    #[test]
    fn when_places_are_forgotten_nothing_is_doomed_until_running_commits_end() {
        let liveness = Liveness::default();
        liveness.begin_commit(1);
        let before = liveness.generation();
        liveness.forget_places();
        assert_eq!(liveness.touch(1, slot(1, 1), before), Touch::LookAgain);
        liveness.begin_commit(2);
        assert!(liveness.doom([candidate(slot(7, 7))].into_iter()).is_empty());
        assert!(liveness.is_owned(7));
        liveness.end_commit(1);
        assert_eq!(liveness.doom([candidate(slot(7, 7))].into_iter()).len(), 1);
        assert!(!liveness.is_owned(7));
    }

    #[test]
    fn a_chunk_that_moves_takes_its_touch_along() {
        let liveness = Liveness::default();
        liveness.begin_commit(1);
        liveness.touch(1, slot(1, 1), liveness.generation());
        let before = liveness.generation();
        liveness.moved(&[(slot(1, 1), slot(2, 0)), (slot(1, 2), slot(2, 1))]);
        assert_eq!(liveness.touch(1, slot(1, 1), before), Touch::LookAgain);
        let doomed = liveness.doom([slot(2, 0), slot(2, 1)].into_iter().map(candidate));
        assert_eq!(doomed.len(), 1);
        assert_eq!(doomed[0].location.slot, slot(2, 1));
    }
}
