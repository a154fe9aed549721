//! Disks by the seeds of their chunks: what the store is given, and what it must give back.

use std::sync::LazyLock;

use calotype_disk::{Disk, Error, ErrorKind, Extent, ExtentKind, Result};

use super::random::Random;
use crate::id::ChunkId;
use crate::limits::CHUNK_BYTES;

const CHUNK: u64 = CHUNK_BYTES as u64;

/// Few, so that disks have chunks in common.
const SEEDS: u8 = 24;

/// The chunk of each seed: holes, bytes that compress, noise.
static CHUNKS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..=SEEDS).map(chunk).collect());

fn chunk(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; CHUNK_BYTES];
    let noisy = match seed {
        0 => 0,
        seed if seed % 3 == 0 => CHUNK_BYTES,
        _ => 256,
    };
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes[..noisy]);
    bytes
}

/// One chunk: the seed of its bytes (0 is a hole), and how many of them there are before zeros.
type Chunk = (u8, usize);

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) size_bytes: u64,
    pub(super) chunks: Vec<Chunk>,
}

impl Image {
    /// The bytes from `offset`.
    pub(super) fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let within = (at % CHUNK) as usize;
            let part = (CHUNK_BYTES - within).min(length - done);
            let (seed, full) = self.chunks[(at / CHUNK) as usize];
            let there = full.clamp(within, within + part) - within;
            let chunk = &CHUNKS[usize::from(seed)][within..within + there];
            bytes[done..done + there].copy_from_slice(chunk);
            done += part;
        }
        bytes
    }

    /// The name of a chunk.
    pub(super) fn chunk_id(&self, chunk: usize) -> ChunkId {
        let (seed, length) = self.chunks[chunk];
        let mut bytes = CHUNKS[usize::from(seed)].clone();
        bytes[length..].fill(0);
        if bytes.iter().all(|&byte| byte == 0) { ChunkId::HOLE } else { ChunkId::of(&bytes) }
    }
}

/// What is written over an image, or over nothing.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    size_bytes: u64,
    /// None is left to what is below.
    seeds: Vec<Option<u8>>,
}

impl Layer {
    /// Small most times; now and then so large that its tree has nodes, with little in it.
    pub(super) fn any(random: &mut Random) -> Self {
        let large = random.once_in(6);
        let chunks = if large { 250 + random.below(20) } else { 1 + random.below(12) };
        let cut = if random.once_in(3) { random.below(CHUNK) } else { 0 };
        let mut seeds = vec![None; chunks as usize];
        let few = if large { 1 + random.below(12) } else { chunks };
        for _ in 0..few {
            let at = random.below(chunks) as usize;
            seeds[at] = Some(random.below(u64::from(SEEDS) + 1) as u8);
        }
        Self { size_bytes: chunks * CHUNK - cut, seeds }
    }

    /// What is seen through it.
    pub(super) fn over(&self, below: Option<&Image>) -> Image {
        let chunk = |(number, seed): (usize, &Option<u8>)| {
            let end = (self.size_bytes - number as u64 * CHUNK).min(CHUNK) as usize;
            let below = below.and_then(|below| below.chunks.get(number)).copied();
            let (seed, length) = seed.map_or(below.unwrap_or((0, 0)), |seed| (seed, CHUNK_BYTES));
            (seed, length.min(end))
        };
        let chunks = self.seeds.iter().enumerate().map(chunk).collect();
        Image { size_bytes: self.size_bytes, chunks }
    }
}

impl Disk for Layer {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if offset + buf.len() as u64 > self.size_bytes {
            return Err(Error::new(ErrorKind::OutOfBounds, "past the end"));
        }
        buf.copy_from_slice(&self.over(None).bytes(offset, buf.len()));
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let kind = |seed: &Option<u8>| match seed {
            None => ExtentKind::Parent,
            Some(0) => ExtentKind::Zero,
            Some(_) => ExtentKind::Data,
        };
        let rest = &self.seeds[(offset / CHUNK) as usize..];
        let run = rest.iter().take_while(|seed| kind(seed) == kind(&rest[0])).count() as u64;
        let end = ((offset / CHUNK + run) * CHUNK).min(self.size_bytes);
        Ok(Extent { length_bytes: end - offset, kind: kind(&rest[0]) })
    }
}

impl Disk for Image {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        buf.copy_from_slice(&self.bytes(offset, buf.len()));
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { length_bytes: self.size_bytes - offset, kind: ExtentKind::Data })
    }
}
