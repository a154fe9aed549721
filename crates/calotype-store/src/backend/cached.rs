//! Pieces of packs on the local disk, in front of a backend that is far away.
//!
//! ```text
//! <directory>/<32 hex digits of a pack>-<number of a block, 4 hex digits>
//! ```
//!
//! A pack is read in aligned blocks of 1 MiB, each fetched in one piece and once, however many want
//! it; what was read last is kept, in bounded room, also over a restart. New packs are kept on
//! their way out.
//!
//! It is a cache: nothing in it is synced, and nothing believed. A block that is missing or too short is
//! fetched; one with wrong bytes is noticed by the reader, who knows the names of chunks, and who then
//! asks with [`Backend::read_again`]. A disk that fails or is full makes it slower, not wrong.

mod blocks;
mod room;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use self::blocks::Blocks;
use super::{Backend, Folder, Key, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::BLOCK_BYTES;
use crate::pack::PackId;

/// A piece of a pack: the so-many-th.
type Block = (PackId, u32);

/// What one reader found for all that want the same block: the bytes, or what went wrong.
type Flight = Arc<OnceLock<std::result::Result<Arc<[u8]>, (ErrorKind, String)>>>;

/// A backend with a cache of its packs in a local directory.
pub struct Cached {
    below: Box<dyn Backend>,
    shared: Arc<Shared>,
    flights: Mutex<HashMap<Block, Flight>>,
}

/// What the cache and its uploads share.
struct Shared {
    blocks: Blocks,
    /// Of packs that are known: of others nothing is cached.
    lengths: Mutex<HashMap<PackId, u64>>,
}

impl Shared {
    fn lengths(&self) -> MutexGuard<'_, HashMap<PackId, u64>> {
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, pack: PackId) {
        let length = self.lengths().remove(&pack);
        for number in 0..length.unwrap_or(0).div_ceil(BLOCK_BYTES) {
            self.blocks.remove((pack, number as u32));
        }
    }
}

impl Cached {
    /// Puts a cache of at most `bytes_max` in `directory` before a backend, and goes on with what is there.
    /// Nobody else may use the directory.
    pub fn open(below: Box<dyn Backend>, directory: &Path, bytes_max: u64) -> Result<Self> {
        let blocks = Blocks::open(directory, bytes_max)?;
        let shared = Arc::new(Shared { blocks, lengths: Mutex::default() });
        Ok(Self { below, shared, flights: Mutex::default() })
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Block, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `buf` from `begin` of a block of a pack that has `length` bytes.
    fn read_block(&self, block: Block, length: u64, begin: usize, buf: &mut [u8]) -> Result<()> {
        if self.shared.blocks.read(block, begin, buf) {
            return Ok(());
        }
        let exactly = |buf: &mut [u8]| {
            let offset = u64::from(block.1) * BLOCK_BYTES + begin as u64;
            self.below.read(Key::Pack(block.0), offset, buf)
        };
        if !self.shared.blocks.can_keep() {
            return exactly(buf);
        }
        let flight = Arc::clone(self.flights().entry(block).or_default());
        let found = flight.get_or_init(|| {
            self.fetch(block, length).map_err(|error| (error.kind(), chain(&error)))
        });
        // The first to come here; a later flight of the same block is another's.
        let mut flights = self.flights();
        if flights.get(&block).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
            flights.remove(&block);
        }
        drop(flights);
        match found {
            Ok(bytes) => {
                buf.copy_from_slice(&bytes[begin..begin + buf.len()]);
                Ok(())
            }
            // The pack ends early: what is wanted may lie before that.
            Err((ErrorKind::Corrupt, _)) => exactly(buf),
            Err((kind, said)) => Err(Error::new(*kind, said.clone())),
        }
    }

    fn fetch(&self, block: Block, length: u64) -> Result<Arc<[u8]>> {
        let (pack, number) = block;
        let offset = u64::from(number) * BLOCK_BYTES;
        let mut bytes = vec![0; (length - offset).min(BLOCK_BYTES) as usize];
        self.below.read(Key::Pack(pack), offset, &mut bytes)?;
        // Not of a pack that was deleted meanwhile.
        if self.shared.lengths().contains_key(&pack) {
            self.shared.blocks.write(block, &bytes);
        }
        Ok(bytes.into())
    }
}

/// An error with its causes, for all who wait for the same.
fn chain(error: &Error) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}

/// The blocks of which `offset..offset + length` has a part: number, and from where in it to where.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u32, Range<usize>)> {
    let end = offset + length as u64;
    (offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).map(move |number| {
        let start = number * BLOCK_BYTES;
        let first = offset.max(start) - start;
        let last = end.min(start + BLOCK_BYTES) - start;
        (number as u32, first as usize..last as usize)
    })
}

impl Backend for Cached {
    fn list(&self, folder: Folder) -> Result<Vec<(Key, u64)>> {
        let known: Vec<_> = match folder {
            Folder::Packs => self.shared.lengths().keys().copied().collect(),
            _ => Vec::new(),
        };
        let listed = self.below.list(folder)?;
        if folder == Folder::Packs {
            let packs: HashMap<_, _> = listed
                .iter()
                .filter_map(|&(key, length)| match key {
                    Key::Pack(pack) => Some((pack, length)),
                    _ => None,
                })
                .collect();
            for pack in known {
                // Not those that came meanwhile.
                if !packs.contains_key(&pack) {
                    self.shared.forget(pack);
                }
            }
            self.shared.blocks.retain(|pack| packs.contains_key(&pack));
            self.shared.lengths().extend(packs);
        }
        Ok(listed)
    }

    fn create(&self, key: Key) -> Result<Box<dyn Upload>> {
        let below = self.below.create(key)?;
        Ok(match key {
            Key::Pack(pack) => Box::new(CachedUpload {
                below,
                shared: self.shared.clone(),
                pack,
                length: 0,
                block: Vec::new(),
            }),
            Key::Manifest(_) | Key::Partial(_) => below,
        })
    }

    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Key::Pack(pack) = key else { return self.below.read(key, offset, buf) };
        let length = self.shared.lengths().get(&pack).copied();
        let inside =
            |length: &u64| offset.checked_add(buf.len() as u64).is_some_and(|end| end <= *length);
        let Some(length) = length.filter(inside).filter(|_| !buf.is_empty()) else {
            return self.below.read(key, offset, buf);
        };
        let mut rest = buf;
        for (number, range) in pieces(offset, rest.len()) {
            let (part, after) = rest.split_at_mut(range.len());
            self.read_block((pack, number), length, range.start, part)?;
            rest = after;
        }
        Ok(())
    }

    fn read_below(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.below.read_below(key, offset, buf)
    }

    fn read_again(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.below.read_again(key, offset, buf)?;
        if let Key::Pack(pack) = key {
            let mut rest = &*buf;
            for (number, range) in pieces(offset, rest.len()) {
                let (part, after) = rest.split_at(range.len());
                self.shared.blocks.keep_if_same((pack, number), range.start, part);
                rest = after;
            }
        }
        Ok(())
    }

    fn delete(&self, keys: &[Key]) -> Result<()> {
        for &key in keys {
            if let Key::Pack(pack) = key {
                self.shared.forget(pack);
            }
        }
        self.below.delete(keys)
    }
}

/// A new pack: what was appended is kept as it goes.
struct CachedUpload {
    below: Box<dyn Upload>,
    shared: Arc<Shared>,
    pack: PackId,
    length: u64,
    block: Vec<u8>,
}

impl CachedUpload {
    fn keep(&mut self) {
        let number = (self.length - 1) / BLOCK_BYTES;
        self.shared.blocks.write((self.pack, number as u32), &self.block);
        self.block.clear();
    }
}

impl Upload for CachedUpload {
    fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.below.append(bytes)?;
        while !bytes.is_empty() {
            let room = BLOCK_BYTES as usize - self.block.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.block.extend_from_slice(now);
            self.length += now.len() as u64;
            bytes = later;
            if self.block.len() == BLOCK_BYTES as usize {
                self.keep();
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if !self.block.is_empty() {
            self.keep();
        }
        // Blocks of one that does not end well are found by nobody, and thrown out for others.
        self.below.finish()?;
        self.shared.lengths().insert(self.pack, self.length);
        Ok(())
    }
}
