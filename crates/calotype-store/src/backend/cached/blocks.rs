//! The cache's files. Nothing here fails but the opening: a block that cannot be read is not there, one
//! that cannot be written is not kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Block;
use super::room::Room;
use crate::backend::files::{Files as _, RealFiles};
use crate::error::{Error, Result};
use crate::limits::{BLOCK_BYTES, RESERVE_BYTES_MAX, RESERVE_SHARE};
use crate::pack::PackId;

pub(super) struct Blocks {
    directory: PathBuf,
    room: Mutex<Room>,
    temporaries: AtomicU64,
    bytes_max: u64,
    /// Blocks not to be kept before it is tried again: as the last could not be.
    skip: AtomicU64,
    /// Said once, not for each block.
    complained: AtomicBool,
}

/// How many reads a cache that cannot be written sits out.
const SKIPPED_READS: u64 = 256;

impl Blocks {
    /// Goes on with what is in `directory`; what is no block is removed.
    pub(super) fn open(directory: &Path, bytes_max: u64) -> Result<Self> {
        let context =
            |error| Error::io(format!("opening the cache in {}", directory.display()), error);
        RealFiles.create_folder(directory).map_err(context)?;
        let blocks = Self {
            directory: directory.to_owned(),
            room: Mutex::new(Room::new(bytes_max)),
            temporaries: AtomicU64::new(0),
            bytes_max,
            skip: AtomicU64::new(0),
            complained: AtomicBool::new(false),
        };
        for (name, length) in RealFiles.list(directory).map_err(context)? {
            match parse(&name).filter(|_| length <= BLOCK_BYTES) {
                Some(block) => {
                    let leaving = blocks.room().insert(block, length);
                    blocks.delete_files(&leaving);
                }
                None => RealFiles.remove(&directory.join(name)).map_err(context)?,
            }
        }
        Ok(blocks)
    }

    /// Fills `buf` from `begin` of a block, if it is there.
    pub(super) fn read(&self, block: Block, begin: usize, buf: &mut [u8]) -> bool {
        if !self.room().touch(block) {
            return false;
        }
        let path = self.path(block);
        let read = RealFiles.open(&path).and_then(|file| file.read_exact_at(buf, begin as u64));
        if let Err(error) = read {
            tracing::debug!(path = %path.display(), %error, "a cached block cannot be read");
            self.remove(block);
            return false;
        }
        true
    }

    /// Whether it is worth to fetch a whole block: one that is not kept would be fetched for each
    /// chunk in it.
    pub(super) fn can_keep(&self) -> bool {
        let one_less = |skip: u64| skip.checked_sub(1);
        self.bytes_max >= BLOCK_BYTES
            && self.skip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err()
    }

    /// Keeps a block, if there is room for it.
    pub(super) fn write(&self, block: Block, bytes: &[u8]) {
        if bytes.len() as u64 > self.bytes_max {
            return;
        }
        match self.write_file(block, bytes) {
            Ok(()) => {
                self.skip.store(0, Ordering::Relaxed);
                let leaving = self.room().insert(block, bytes.len() as u64);
                self.delete_files(&leaving);
            }
            Err(error) => {
                self.skip.store(SKIPPED_READS, Ordering::Relaxed);
                if !self.complained.swap(true, Ordering::Relaxed) {
                    let path = self.directory.display();
                    tracing::warn!(%path, %error, "blocks are not cached on the local disk");
                }
            }
        }
    }

    fn write_file(&self, block: Block, bytes: &[u8]) -> io::Result<()> {
        let space = RealFiles.space(&self.directory)?;
        if space.free_bytes < RESERVE_BYTES_MAX.min(space.total_bytes / RESERVE_SHARE) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("tmp-{number}"));
        let written = RealFiles
            .create(&temporary)
            .and_then(|file| file.write_all_at(bytes, 0))
            .and_then(|()| RealFiles.rename(&temporary, &self.path(block)));
        if written.is_err() {
            // Else the next opening does it.
            RealFiles.remove(&temporary).ok();
        }
        written
    }

    /// Throws a block out if it does not have these bytes at `begin`.
    pub(super) fn keep_if_same(&self, block: Block, begin: usize, bytes: &[u8]) {
        let mut cached = vec![0; bytes.len()];
        if self.read(block, begin, &mut cached) && cached != bytes {
            tracing::warn!(path = %self.path(block).display(), "a cached block is damaged");
            self.remove(block);
        }
    }

    pub(super) fn remove(&self, block: Block) {
        if self.room().remove(block) {
            self.delete_files(&[block]);
        }
    }

    /// Throws out what is of packs that are not `wanted`.
    pub(super) fn retain(&self, wanted: impl Fn(PackId) -> bool) {
        let leaving = self.room().retain(|(pack, _)| wanted(pack));
        self.delete_files(&leaving);
    }

    fn delete_files(&self, blocks: &[Block]) {
        for &block in blocks {
            match RealFiles.remove(&self.path(block)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %self.path(block).display(), %error, "a cached block stays");
                }
                _ => {}
            }
        }
    }

    fn path(&self, (pack, number): Block) -> PathBuf {
        self.directory.join(format!("{pack}-{number:04x}"))
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The block that a file is named after.
fn parse(name: &str) -> Option<Block> {
    let (pack, number) = name.split_once('-')?;
    let pack = PackId::parse(pack)?;
    let number = u32::from_str_radix(number, 16).ok()?;
    (format!("{pack}-{number:04x}") == name).then_some((pack, number))
}
