//! Verified chunks in memory: bounded, shared by all disks of a store, second chance (CLOCK).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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

    fn shard(&self, id: ChunkId) -> &Mutex<Shard> {
        // The index hashes by the first bytes; the last are as good here.
        &self.shards[usize::from(id.0[31]) % SHARDS]
    }

    pub(crate) fn get(&self, id: ChunkId) -> Option<Arc<[u8]>> {
        self.shard(id).lock().unwrap_or_else(PoisonError::into_inner).get(id)
    }

    pub(crate) fn insert(&self, id: ChunkId, plain: Arc<[u8]>) {
        self.shard(id).lock().unwrap_or_else(PoisonError::into_inner).insert(id, plain);
    }
}

#[derive(Default)]
struct Shard {
    bytes_max: usize,
    bytes: usize,
    slots: Vec<Slot>,
    positions: HashMap<ChunkId, usize>,
    hand: usize,
}

struct Slot {
    id: ChunkId,
    plain: Arc<[u8]>,
    /// Read since the hand came by.
    recent: bool,
}

impl Shard {
    fn get(&mut self, id: ChunkId) -> Option<Arc<[u8]>> {
        let slot = &mut self.slots[*self.positions.get(&id)?];
        slot.recent = true;
        Some(slot.plain.clone())
    }

    fn insert(&mut self, id: ChunkId, plain: Arc<[u8]>) {
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
    use super::*;

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
            let shard = shard.lock().unwrap();
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
}
