//! Which manifests there are, and what must not be collected.
//!
//! Four things protect from a collection, and each hands over to the next without a gap: a running
//! commit protects what it found or wrote (see [`crate::liveness`]), a partial what a commit left; a [`Pin`]
//! protects a manifest; and a pin that is dropped while a collection runs protects until that collection
//! has ended, because the collection may have read its roots before the caller recorded the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::id::ManifestId;
use crate::liveness::{CommitNumber, Liveness};
use crate::partial::PartialId;

#[derive(Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// Told when files of manifests have been deleted.
    removed: Condvar,
    /// To be locked after the state, if both are.
    pub(crate) liveness: Arc<Liveness>,
}

#[derive(Default)]
pub(crate) struct State {
    /// The visible ones: everything they reach is stored.
    pub(crate) manifests: BTreeSet<ManifestId>,
    /// No longer visible, their files are being deleted.
    removing: BTreeSet<ManifestId>,
    /// Not visible, but their files may be there: of a commit that has not ended well, or of a deletion
    /// that failed. The next start would see them, so they go before anything that they reach.
    strays: BTreeSet<ManifestId>,
    /// With a number that changes whenever one is written.
    pub(crate) partials: BTreeMap<PartialId, u64>,
    /// Those that a running commit writes.
    pub(crate) partials_in_use: BTreeSet<PartialId>,
    pins: BTreeMap<ManifestId, u64>,
    last_number: u64,
    /// What was unpinned since the running collection began.
    unpinned: Option<BTreeSet<ManifestId>>,
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Everything in use, or in use since the running collection began.
    pub(crate) fn protected(&self) -> BTreeSet<ManifestId> {
        self.pins.keys().copied().chain(self.unpinned.iter().flatten().copied()).collect()
    }

    /// Those of which a file may be there that nobody is going to need.
    pub(crate) fn strays(&self) -> Vec<ManifestId> {
        self.strays.iter().filter(|id| !self.pins.contains_key(id)).copied().collect()
    }

    #[cfg(test)]
    pub(crate) fn is_removing(&self, id: ManifestId) -> bool {
        self.removing.contains(&id)
    }

    #[cfg(test)]
    pub(crate) fn is_collecting(&self) -> bool {
        self.unpinned.is_some()
    }

    /// Takes manifests away from everybody; their files are to be deleted, and then
    /// [`Registry::removed`] to be called.
    pub(crate) fn remove(&mut self, ids: &[ManifestId]) {
        for id in ids {
            self.manifests.remove(id);
            self.strays.remove(id);
            self.removing.insert(*id);
        }
    }

    fn pin(&mut self, id: ManifestId) {
        *self.pins.entry(id).or_default() += 1;
    }

    fn unpin(&mut self, id: ManifestId) {
        if let Some(count) = self.pins.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(&id);
            }
        }
        if let Some(unpinned) = &mut self.unpinned {
            unpinned.insert(id);
        }
    }
}

impl Registry {
    pub(crate) fn new(manifests: BTreeSet<ManifestId>, partials: BTreeSet<PartialId>) -> Arc<Self> {
        let partials = partials.into_iter().map(|id| (id, 0)).collect();
        let state = Mutex::new(State { manifests, partials, ..State::default() });
        Arc::new(Self { state, ..Self::default() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Protects a visible manifest; none if there is no such.
    pub(crate) fn pin(self: &Arc<Self>, id: ManifestId) -> Option<Pin> {
        let mut state = self.lock();
        state.manifests.contains(&id).then(|| {
            state.pin(id);
            Pin { registry: self.clone(), id }
        })
    }

    /// Protects a manifest that is about to be published. Waits while a file of that name is being
    /// deleted: what is written after this stays.
    pub(crate) fn pin_unpublished(self: &Arc<Self>, id: ManifestId) -> Pin {
        let mut state = self.lock();
        state.pin(id);
        while state.removing.contains(&id) {
            state = self.removed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Pin { registry: self.clone(), id }
    }

    /// A file of a manifest that is not visible is going to be written.
    pub(crate) fn begin_publishing(&self, id: ManifestId) {
        self.lock().strays.insert(id);
    }

    /// The files of the manifests that were being deleted are gone.
    pub(crate) fn removed(&self) {
        self.lock().removing.clear();
        self.removed.notify_all();
    }

    /// Begins a commit.
    pub(crate) fn begin_commit(self: &Arc<Self>, partial: Option<PartialId>) -> Active {
        let mut state = self.lock();
        let number = state.next_number();
        state.partials_in_use.extend(partial);
        self.liveness.begin_commit(number);
        Active { registry: self.clone(), number, partial }
    }

    /// Notes that a partial was written.
    pub(crate) fn wrote_partial(&self, id: PartialId) {
        let mut state = self.lock();
        let number = state.next_number();
        state.partials.insert(id, number);
    }

    /// Begins a collection. Only one runs at a time; the caller sees to it.
    pub(crate) fn begin_collection(&self) {
        self.lock().unpinned = Some(BTreeSet::new());
    }

    pub(crate) fn end_collection(&self) {
        let mut state = self.lock();
        state.unpinned = None;
        // What was not removed may still be there.
        let left = std::mem::take(&mut state.removing);
        state.strays.extend(left);
        drop(state);
        self.removed.notify_all();
    }
}

/// A running commit.
pub(crate) struct Active {
    registry: Arc<Registry>,
    pub(crate) number: CommitNumber,
    partial: Option<PartialId>,
}

impl Active {
    /// Ends the commit with a visible manifest, which the caller has pinned.
    pub(crate) fn publish(self, id: ManifestId) {
        let mut state = self.registry.lock();
        state.strays.remove(&id);
        // What the commit relied on is left, in this order, when it is dropped.
        state.manifests.insert(id);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        if let Some(partial) = self.partial {
            state.partials_in_use.remove(&partial);
        }
        self.registry.liveness.end_commit(self.number);
    }
}

/// Keeps one manifest and all that it reaches from being collected.
pub(crate) struct Pin {
    registry: Arc<Registry>,
    id: ManifestId,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pin({})", self.id)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.registry.lock().unpin(self.id);
    }
}
