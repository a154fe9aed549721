//! Verified chunks in memory: bounded, shared by all disks of a store, second chance (CLOCK).
//!
//! However many readers want the same chunk at the same time, it is loaded once: the first loads it,
//! the others wait for what it finds. Should it fail, each of them tries for itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::id::ChunkId;

/// Readers of different chunks seldom wait for each other.
const SHARDS: usize = 16;

/// What an entry costs beside its bytes.
const ENTRY_BYTES: usize = 128;

/// Never holds more than it was given, entries' overhead included.
pub(crate) struct Cache {
    shards: Vec<Mutex<Shard>>,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max / SHARDS;
        let shard = || Mutex::new(Shard { bytes_max, ..Shard::default() });
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }

    fn shard(&self, id: ChunkId) -> MutexGuard<'_, Shard> {
        // The index hashes by the first bytes; the last are as good here.
        lock(&self.shards[usize::from(id.0[31]) % SHARDS])
    }

    pub(crate) fn get(&self, id: ChunkId) -> Option<Arc<Vec<u8>>> {
        self.shard(id).get(id)
    }

    pub(crate) fn insert(&self, id: ChunkId, plain: Arc<Vec<u8>>) {
        self.shard(id).insert(id, plain);
    }

    /// The chunk, from memory or by `load`. Waits while another loads it.
    pub(crate) fn get_or_load(
        &self,
        id: ChunkId,
        load: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<Vec<u8>>> {
        let flight = loop {
            let mut shard = self.shard(id);
            if let Some(plain) = shard.get(id) {
                return Ok(plain);
            }
            let other = match shard.flights.entry(id) {
                Entry::Vacant(vacant) => {
                    let flight = Arc::clone(vacant.insert(Arc::default()));
                    break Takeoff { cache: self, id, flight, plain: None };
                }
                Entry::Occupied(occupied) => Arc::clone(occupied.get()),
            };
            drop(shard);
            if let Some(plain) = other.landed() {
                return Ok(plain);
            }
        };
        let plain: Arc<Vec<u8>> = load()?.into();
        flight.land(Arc::clone(&plain));
        Ok(plain)
    }
}

/// A chunk that is being loaded, and those who wait for it.
#[derive(Default)]
struct Flight {
    outcome: Mutex<Outcome>,
    landing: Condvar,
}

#[derive(Default)]
enum Outcome {
    #[default]
    InTheAir,
    Landed(Arc<Vec<u8>>),
    Failed,
}

impl Flight {
    /// Waits for the end; `None` if it failed.
    fn landed(&self) -> Option<Arc<Vec<u8>>> {
        let in_the_air = |outcome: &mut Outcome| matches!(outcome, Outcome::InTheAir);
        let outcome = self.landing.wait_while(lock(&self.outcome), in_the_air);
        match &*outcome.unwrap_or_else(PoisonError::into_inner) {
            Outcome::Landed(plain) => Some(Arc::clone(plain)),
            Outcome::InTheAir | Outcome::Failed => None,
        }
    }
}

/// The loader's side of a flight, which ends it however the loading ends.
struct Takeoff<'a> {
    cache: &'a Cache,
    id: ChunkId,
    flight: Arc<Flight>,
    plain: Option<Arc<Vec<u8>>>,
}

impl Takeoff<'_> {
    fn land(mut self, plain: Arc<Vec<u8>>) {
        self.plain = Some(plain);
    }
}

impl Drop for Takeoff<'_> {
    fn drop(&mut self) {
        let plain = self.plain.take();
        {
            let mut shard = self.cache.shard(self.id);
            shard.flights.remove(&self.id);
            if let Some(plain) = &plain {
                shard.insert(self.id, Arc::clone(plain));
            }
        }
        *lock(&self.flight.outcome) = plain.map_or(Outcome::Failed, Outcome::Landed);
        self.flight.landing.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Shard {
    /// What is being loaded: as many as there are threads that load.
    flights: HashMap<ChunkId, Arc<Flight>>,
    bytes_max: usize,
    bytes: usize,
    slots: Vec<Slot>,
    positions: HashMap<ChunkId, usize>,
    hand: usize,
}

struct Slot {
    id: ChunkId,
    plain: Arc<Vec<u8>>,
    /// Read since the hand came by.
    recent: bool,
}

impl Shard {
    fn get(&mut self, id: ChunkId) -> Option<Arc<Vec<u8>>> {
        let slot = &mut self.slots[*self.positions.get(&id)?];
        slot.recent = true;
        Some(slot.plain.clone())
    }

    fn insert(&mut self, id: ChunkId, plain: Arc<Vec<u8>>) {
        let needed = plain.len() + ENTRY_BYTES;
        if needed > self.bytes_max || self.positions.contains_key(&id) {
            return;
        }
        while self.bytes + needed > self.bytes_max {
            self.evict();
        }
        self.bytes += needed;
        self.positions.insert(id, self.slots.len());
        self.slots.push(Slot { id, plain, recent: false });
    }

    /// Drops the first entry from the hand on that was not read since the hand's last round.
    fn evict(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let Some(slot) = self.slots.get_mut(self.hand) else { return };
            if slot.recent {
                slot.recent = false;
                self.hand += 1;
                continue;
            }
            let slot = self.slots.swap_remove(self.hand);
            self.positions.remove(&slot.id);
            self.bytes -= slot.plain.len() + ENTRY_BYTES;
            if let Some(moved) = self.slots.get(self.hand) {
                self.positions.insert(moved.id, self.hand);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

    fn id(number: u32) -> ChunkId {
        ChunkId::of(&number.to_le_bytes())
    }

    #[test]
    fn holds_no_more_than_it_was_given() {
        let cache = Cache::new(1 << 20);
        for number in 0..1000 {
            cache.insert(id(number), vec![0; 4096].into());
        }
        let held = (0..1000).filter(|&number| cache.get(id(number)).is_some()).count();
        assert!(held > 100 && held * (4096 + ENTRY_BYTES) <= 1 << 20, "{held}");
        for shard in &cache.shards {
            let shard = lock(shard);
            assert_eq!(shard.bytes, shard.slots.len() * (4096 + ENTRY_BYTES));
            assert_eq!(shard.positions.len(), shard.slots.len());
            for (position, slot) in shard.slots.iter().enumerate() {
                assert_eq!(shard.positions[&slot.id], position);
            }
        }
    }

    #[test]
    fn keeps_what_is_read_again() {
        let cache = Cache::new(1 << 20);
        cache.insert(id(0), vec![0; 8192].into());
        for number in 1..2000 {
            assert!(cache.get(id(0)).is_some(), "{number}");
            cache.insert(id(number), vec![0; 8192].into());
        }
    }

    #[test]
    fn does_without_memory() {
        let cache = Cache::new(0);
        cache.insert(id(0), vec![0; 10].into());
        assert!(cache.get(id(0)).is_none());
    }

    /// Eight threads that want one chunk at once, of which the first to load waits for the others;
    /// how often it was loaded, and who got it. `outcomes` are those of the loads, good at the end.
    fn race(cache: &Cache, outcomes: &[bool]) -> (usize, Vec<bool>) {
        let loads = AtomicUsize::new(0);
        let barrier = Barrier::new(8);
        let load = || {
            let number = loads.fetch_add(1, Ordering::SeqCst);
            // The first is in the air until all others wait for it.
            while number == 0 && Arc::strong_count(&cache.shard(id(0)).flights[&id(0)]) < 9 {
                std::thread::yield_now();
            }
            match outcomes.get(number) {
                Some(false) => Err(Error::corrupt("damaged on purpose")),
                _ => Ok(vec![7; 100]),
            }
        };
        let read = || {
            barrier.wait();
            cache.get_or_load(id(0), load).map(|plain| assert_eq!(*plain, [7; 100])).is_ok()
        };
        let got = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..8).map(|_| scope.spawn(read)).collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        });
        assert!(cache.shard(id(0)).flights.is_empty());
        (loads.into_inner(), got)
    }

    #[test]
    fn many_readers_of_one_chunk_load_it_once() {
        // Also without room to keep it.
        for bytes_max in [1 << 20, 0] {
            assert_eq!(race(&Cache::new(bytes_max), &[]), (1, vec![true; 8]));
        }
    }

    #[test]
    fn a_failed_load_fails_nobody_else() {
        let (loads, got) = race(&Cache::new(1 << 20), &[false]);
        assert_eq!(loads, 2);
        assert_eq!(got.iter().filter(|&&good| good).count(), 7);
    }

    #[test]
    fn a_panic_while_loading_leaves_nobody_waiting() {
        let cache = Cache::new(1 << 20);
        let load = || cache.get_or_load(id(0), || panic!("on purpose"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).is_err());
        assert!(cache.get_or_load(id(0), || Ok(vec![1])).is_ok());
    }
}
