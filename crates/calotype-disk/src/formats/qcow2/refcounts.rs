//! How often each cluster of a file being written is used.

use super::write::CLUSTER_BYTES;

/// Counts in one refcount block.
const BLOCK_COUNTS: u64 = CLUSTER_BYTES / 2;
/// Blocks in one cluster of the refcount table.
const TABLE_BLOCKS: u64 = CLUSTER_BYTES / 8;

/// The counts of all clusters so far: 2 bytes for every 64 KiB of file.
///
/// A count cannot run over: not even clusters of one repeated byte deflate to a byte each.
#[derive(Default)]
pub(super) struct Refcounts(Vec<u16>);

impl Refcounts {
    /// Counts one use of every cluster that the bytes at `offset` touch.
    pub(super) fn add(&mut self, offset: u64, length_bytes: u64) {
        let first = (offset / CLUSTER_BYTES) as usize;
        let end = (offset + length_bytes).div_ceil(CLUSTER_BYTES) as usize;
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        for count in self.0.iter_mut().take(end).skip(first) {
            *count += 1;
        }
    }

    /// The refcount blocks and the table that finds them, one behind the other from `offset`, the end of
    /// the file; they count themselves.
    pub(super) fn encode(&mut self, offset: u64) -> (Vec<u8>, Vec<u8>) {
        let used = offset / CLUSTER_BYTES;
        let (mut blocks, mut table_clusters) = (0, 0);
        // They grow until they have room for themselves as well.
        while blocks * BLOCK_COUNTS < used + blocks + table_clusters {
            blocks = (used + blocks + table_clusters).div_ceil(BLOCK_COUNTS);
            table_clusters = blocks.div_ceil(TABLE_BLOCKS);
        }
        self.add(offset, (blocks + table_clusters) * CLUSTER_BYTES);
        self.0.resize((blocks * BLOCK_COUNTS) as usize, 0);
        let counts = self.0.iter().flat_map(|count| count.to_be_bytes()).collect();
        let places = (0..blocks).map(|block| offset + block * CLUSTER_BYTES);
        (counts, places.flat_map(u64::to_be_bytes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_table_count_themselves() {
        // Around the places where one more block, and one more cluster of the table, is needed.
        for used in [1, 2, 32_765, 32_766, 32_767, 32_768, 65_533, 65_534, 65_535, 1 << 20] {
            let mut refcounts = Refcounts::default();
            refcounts.add(0, used * CLUSTER_BYTES);
            let (blocks, table) = refcounts.encode(used * CLUSTER_BYTES);
            let clusters = blocks.len() as u64 / CLUSTER_BYTES;
            assert_eq!(table.len() as u64, clusters * 8);
            let all = used + clusters + clusters.div_ceil(TABLE_BLOCKS);
            assert!(all <= clusters * BLOCK_COUNTS);
            let counted = blocks.as_chunks::<2>().0.iter().filter(|count| **count != [0, 0]);
            assert_eq!(counted.count() as u64, all);
        }
    }
}
