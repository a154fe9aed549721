//! A few pieces of memory read last, bounded, the oldest dropped first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Result;

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

/// What is remembered at `key`, or what `read` brings. It works outside of the lock: two readers may
/// both do so, and neither waits for the other.
pub(crate) fn remembered<T>(
    recent: &Mutex<Recent<T>>,
    key: u64,
    read: impl FnOnce() -> Result<Vec<T>>,
) -> Result<Arc<[T]>> {
    let found = recent.lock().unwrap_or_else(PoisonError::into_inner).get(key);
    if let Some(found) = found {
        return Ok(found);
    }
    let read: Arc<[T]> = read()?.into();
    recent.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&read));
    Ok(read)
}
