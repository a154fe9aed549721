//! What a server hands on without copying it: pieces of a disk that are in memory already.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A piece of a disk, as far as it is known without reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// So many zeros; at least one.
    Zeros(u64),
    /// Bytes that are in memory; at least one.
    Bytes(SharedBytes),
    /// So many bytes that one [`crate::Disk::read_piece`] brings; at least one.
    Unread(u64),
}

/// Bytes that others hold too: a part of a larger piece of memory, which lives as long as any part.
#[derive(Clone)]
pub struct SharedBytes {
    /// Not `Arc<[u8]>`: a disk that made a vector would have to copy it into one.
    memory: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl SharedBytes {
    /// The part of `memory` that lies in `range`; cut off where the memory ends.
    pub fn new(memory: Arc<Vec<u8>>, range: Range<usize>) -> Self {
        let end = range.end.min(memory.len());
        Self { range: range.start.min(end)..end, memory }
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), memory: bytes.into() }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.get(self.range.clone()).unwrap_or_default()
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SharedBytes({} of {})", self.len(), self.memory.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_never_reaches_beyond_its_memory() {
        let memory: Arc<Vec<u8>> = vec![1, 2, 3].into();
        let part = |range| SharedBytes::new(Arc::clone(&memory), range).to_vec();
        assert_eq!(part(1..3), [2, 3]);
        assert_eq!(part(2..9), [3]);
        assert!(part(7..9).is_empty());
        #[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake is harmless")]
        let reversed = part(3..1);
        assert!(reversed.is_empty());
    }
}
