//! Disks in memory, and the shortest way to a store.

use std::path::Path;

use calotype_disk::{Disk, Error, ErrorKind, Extent, ExtentKind, Result};
use calotype_store::{ManifestId, Options, Store};

/// The grain of a [`MemoryDisk`]: smaller than a chunk, so that chunks of several runs occur.
pub(crate) const GRAIN: usize = 4096;
pub(crate) const CHUNK: usize = 65_536;

/// A disk whose every grain has a kind.
#[derive(Debug, Clone)]
pub(crate) struct MemoryDisk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kinds: Vec<ExtentKind>,
}

impl MemoryDisk {
    pub(crate) fn full_of(bytes: Vec<u8>) -> Self {
        let kinds = vec![ExtentKind::Data; bytes.len().div_ceil(GRAIN)];
        Self { bytes, kinds }
    }

    pub(crate) fn empty_layer(size_bytes: usize) -> Self {
        let kinds = vec![ExtentKind::Parent; size_bytes.div_ceil(GRAIN)];
        Self { bytes: vec![0; size_bytes], kinds }
    }

    /// Makes whole grains data.
    pub(crate) fn write(&mut self, offset: usize, data: &[u8]) {
        assert!(offset.is_multiple_of(GRAIN));
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
        self.kinds[offset / GRAIN..(offset + data.len()).div_ceil(GRAIN)].fill(ExtentKind::Data);
    }

    /// What is seen through this layer over `below`.
    pub(crate) fn over(&self, below: &[u8]) -> Vec<u8> {
        let mut seen = vec![0; self.bytes.len()];
        for (index, kind) in self.kinds.iter().enumerate() {
            let range = index * GRAIN..((index + 1) * GRAIN).min(seen.len());
            match kind {
                ExtentKind::Data => seen[range.clone()].copy_from_slice(&self.bytes[range]),
                ExtentKind::Zero => {}
                ExtentKind::Parent => {
                    let end = range.end.min(below.len()).max(range.start);
                    if let Some(below) = below.get(range.start..end) {
                        seen[range.start..end].copy_from_slice(below);
                    }
                }
            }
        }
        seen
    }
}

impl Disk for MemoryDisk {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = offset as usize;
        let bytes = self
            .bytes
            .get(start..start + buf.len())
            .ok_or_else(|| Error::new(ErrorKind::OutOfBounds, "past the end"))?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let first = offset as usize / GRAIN;
        let kind = self.kinds[first];
        let run = self.kinds[first..].iter().take_while(|other| **other == kind).count();
        let end = ((first + run) * GRAIN).min(self.bytes.len());
        Ok(Extent { length_bytes: end as u64 - offset, kind })
    }
}

/// Small packs, so that many occur; a small cache, so that it does not hide what is stored.
pub(crate) fn small() -> Options {
    Options { pack_bytes: 256 << 10, cache_bytes: 1 << 20, ..Options::default() }
}

pub(crate) fn open(directory: &Path) -> Store {
    Store::open_with(directory, &small()).unwrap()
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// All bytes of a stored disk, read in pieces that do not fall on chunks.
pub(crate) fn read_all(store: &Store, id: ManifestId) -> Vec<u8> {
    let disk = store.disk(id).unwrap();
    let mut bytes = vec![0; disk.size_bytes() as usize];
    for (index, piece) in bytes.chunks_mut(100_000).enumerate() {
        disk.read_at(index as u64 * 100_000, piece).unwrap();
    }
    bytes
}

/// The extents of a disk as a list, checked to cover it without a gap.
pub(crate) fn extents(disk: &dyn Disk) -> Vec<(u64, u64, ExtentKind)> {
    let mut extents = Vec::new();
    let mut offset = 0;
    while offset < disk.size_bytes() {
        let extent = disk.extent_at(offset).unwrap();
        assert!(extent.length_bytes > 0);
        extents.push((offset, extent.length_bytes, extent.kind));
        offset += extent.length_bytes;
    }
    assert_eq!(offset, disk.size_bytes());
    extents
}
