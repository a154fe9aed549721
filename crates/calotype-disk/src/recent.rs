//! A few pieces of memory read last, bounded, the oldest dropped first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(crate) struct Recent<T> {
    pieces_max: usize,
    pieces: HashMap<u64, Arc<[T]>>,
    order: VecDeque<u64>,
}

impl<T> Recent<T> {
    /// Remembers `pieces_max` pieces, whatever the length of each.
    pub(crate) fn new(pieces_max: usize) -> Self {
        Self { pieces_max, pieces: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn get(&self, key: u64) -> Option<Arc<[T]>> {
        self.pieces.get(&key).cloned()
    }

    pub(crate) fn insert(&mut self, key: u64, piece: Arc<[T]>) {
        if self.pieces.insert(key, piece).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.pieces_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.pieces.remove(&oldest);
        }
    }
}
