//! Who is kept in bounded room: second chance (CLOCK). Nothing but the bookkeeping.

use std::collections::HashMap;

use super::Block;

/// Blocks with their lengths.
pub(super) struct Room {
    bytes_max: u64,
    bytes: u64,
    slots: Vec<Slot>,
    positions: HashMap<Block, usize>,
    hand: usize,
}

struct Slot {
    block: Block,
    bytes: u64,
    /// Read since the hand came by.
    recent: bool,
}

impl Room {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, slots: Vec::new(), positions: HashMap::new(), hand: 0 }
    }

    /// Whether it is there; then it was read now.
    pub(super) fn touch(&mut self, block: Block) -> bool {
        let Some(&position) = self.positions.get(&block) else { return false };
        self.slots[position].recent = true;
        true
    }

    /// Takes a block in and answers who has to leave for it: maybe the block itself.
    pub(super) fn insert(&mut self, block: Block, bytes: u64) -> Vec<Block> {
        self.remove(block);
        if bytes > self.bytes_max {
            return vec![block];
        }
        let mut leaving = Vec::new();
        while self.bytes + bytes > self.bytes_max
            && let Some(evicted) = self.evict()
        {
            leaving.push(evicted);
        }
        self.bytes += bytes;
        self.positions.insert(block, self.slots.len());
        self.slots.push(Slot { block, bytes, recent: false });
        leaving
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, block: Block) -> bool {
        let Some(position) = self.positions.get(&block).copied() else { return false };
        self.take(position);
        true
    }

    /// Removes and answers all that are not `wanted`.
    pub(super) fn retain(&mut self, wanted: impl Fn(Block) -> bool) -> Vec<Block> {
        let unwanted: Vec<_> =
            self.slots.iter().map(|slot| slot.block).filter(|&block| !wanted(block)).collect();
        for &block in &unwanted {
            self.remove(block);
        }
        unwanted
    }

    /// The first from the hand on that was not read since the hand's last round.
    fn evict(&mut self) -> Option<Block> {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = self.slots.get_mut(self.hand)?;
            if slot.recent {
                slot.recent = false;
                self.hand += 1;
                continue;
            }
            return Some(self.take(self.hand).block);
        }
    }

    fn take(&mut self, position: usize) -> Slot {
        let slot = self.slots.swap_remove(position);
        self.positions.remove(&slot.block);
        self.bytes -= slot.bytes;
        if let Some(moved) = self.slots.get(position) {
            self.positions.insert(moved.block, position);
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pack::PackId;

    proptest! {
        #[test]
        fn room_is_bounded_and_everybody_is_either_in_or_was_told_to_leave(
            steps in prop::collection::vec((0_u32..12, 1_u64..50, 0..4), 1..200),
        ) {
            let pack = PackId::fresh();
            let mut room = Room::new(100);
            let mut inside = HashMap::new();
            for (number, bytes, step) in steps {
                let block = (pack, number);
                match step {
                    0 => prop_assert_eq!(room.touch(block), inside.contains_key(&block)),
                    1 => prop_assert_eq!(room.remove(block), inside.remove(&block).is_some()),
                    _ => {
                        inside.insert(block, bytes);
                        for leaving in room.insert(block, bytes) {
                            prop_assert!(inside.remove(&leaving).is_some());
                        }
                    }
                }
                prop_assert_eq!(room.bytes, inside.values().sum::<u64>());
                prop_assert!(room.bytes <= 100);
                prop_assert_eq!(room.slots.len(), inside.len());
            }
        }
    }

    #[test]
    fn what_is_read_again_stays() {
        let pack = PackId::fresh();
        let mut room = Room::new(10);
        room.insert((pack, 0), 1);
        for number in 1..100 {
            assert!(room.touch((pack, 0)));
            assert!(!room.insert((pack, number), 1).contains(&(pack, 0)), "{number}");
        }
        // Larger than everything.
        assert_eq!(room.insert((pack, 200), 11), [(pack, 200)]);
        assert_eq!(room.retain(|(_, number)| number == 0).len(), 9);
        assert!(room.touch((pack, 0)));
    }
}
