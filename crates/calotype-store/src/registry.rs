//! Which manifests there are, and what must not be collected.
//!
//! Three things protect from a collection, and each hands over to the next without a gap: a running
//! commit protects what it found or wrote (by its *epoch*, see [`crate::index`]); a [`Pin`] protects a
//! manifest; and a pin that is dropped while a collection runs protects until that collection has ended,
//! because the collection may have read its roots before the caller recorded the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::ManifestId;

#[derive(Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// The visible ones: everything they reach is stored.
    pub(crate) manifests: BTreeSet<ManifestId>,
    pins: BTreeMap<ManifestId, u64>,
    /// The last epoch that was handed out.
    epoch: u32,
    /// The epochs of running commits.
    active: BTreeSet<u32>,
    /// What was unpinned since the running collection began.
    unpinned: Option<BTreeSet<ManifestId>>,
}

impl State {
    pub(crate) fn next_epoch(&mut self) -> u32 {
        self.epoch += 1;
        self.epoch
    }

    pub(crate) fn oldest_active(&self) -> Option<u32> {
        self.active.first().copied()
    }

    /// Everything in use, or in use since the running collection began.
    pub(crate) fn protected(&self) -> BTreeSet<ManifestId> {
        self.pins.keys().copied().chain(self.unpinned.iter().flatten().copied()).collect()
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
    pub(crate) fn new(manifests: BTreeSet<ManifestId>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { manifests, ..State::default() }) })
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

    /// Protects a manifest that is about to be published.
    pub(crate) fn pin_unpublished(self: &Arc<Self>, id: ManifestId) -> Pin {
        self.lock().pin(id);
        Pin { registry: self.clone(), id }
    }

    /// Begins a commit.
    pub(crate) fn begin_commit(self: &Arc<Self>) -> Active {
        let mut state = self.lock();
        let epoch = state.next_epoch();
        state.active.insert(epoch);
        Active { registry: self.clone(), epoch }
    }

    /// Begins a collection. Only one runs at a time; the caller sees to it.
    pub(crate) fn begin_collection(&self) {
        self.lock().unpinned = Some(BTreeSet::new());
    }

    pub(crate) fn end_collection(&self) {
        self.lock().unpinned = None;
    }
}

/// A running commit.
pub(crate) struct Active {
    registry: Arc<Registry>,
    pub(crate) epoch: u32,
}

impl Active {
    /// Ends the commit with a visible manifest, which the caller has pinned.
    pub(crate) fn publish(self, id: ManifestId) {
        let mut state = self.registry.lock();
        state.manifests.insert(id);
        state.active.remove(&self.epoch);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.registry.lock().active.remove(&self.epoch);
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
