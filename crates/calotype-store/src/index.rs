//! Which pack holds a chunk. An embedded database beside the packs, and a cache of them: whatever
//! becomes of it, it is built again from their footers.
//!
//! A table maps the name of a chunk to its [`Location`], another the number of a pack to its name and
//! length. Changes are written at once but made durable only now and then ([`Index::flush`]): what a
//! crash takes away is found again by comparing the packs that are there with those that the
//! index knows ([`Index::packs`]). A damaged index is noticed when it is opened, as its pages have checksums.

mod location;
mod storage;
mod sweep;

pub(crate) use location::{Location, Slot};
pub(crate) use storage::IndexFile;
pub(crate) use sweep::{Candidate, Scan};

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};

use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::limits::{INDEX_CACHE_BYTES, INDEX_FLUSH_CHUNKS};
use crate::pack::{PackId, Record};
use location::{LOCATION_BYTES, PACK_BYTES, PackRow};

type ChunkTable = TableDefinition<'static, &'static [u8; 32], &'static [u8; LOCATION_BYTES]>;
type PackTable = TableDefinition<'static, u32, &'static [u8; PACK_BYTES]>;

const CHUNKS: ChunkTable = TableDefinition::new("chunks");
const PACKS: PackTable = TableDefinition::new("packs");

/// A pack that the index knows, by the short number that locations have it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackInfo {
    pub(crate) id: PackId,
    pub(crate) length_bytes: u64,
    /// Its footer is damaged, or something else in it.
    pub(crate) scanned: bool,
}

/// The index. Its methods read and write one local file.
pub(crate) struct Index {
    database: Database,
    /// What readers see: replaced after every change, so that a look-up begins no transaction.
    chunks: RwLock<Arc<ReadOnlyTable<&'static [u8; 32], &'static [u8; LOCATION_BYTES]>>>,
    packs: RwLock<BTreeMap<u32, PackInfo>>,
    next_pack: Mutex<u32>,
    unflushed_chunks: AtomicU64,
    damaged: Damaged,
}

/// Chunks whose bytes were found not to be theirs. The next commit of such a chunk stores it again.
#[derive(Default)]
struct Damaged {
    /// Nearly always: then nobody waits for the lock.
    none: AtomicBool,
    chunks: Mutex<HashSet<(ChunkId, Location)>>,
}

impl Index {
    /// Opens the index at `place`, or makes an empty one if there is none or it is damaged.
    pub(crate) fn open(place: &IndexFile) -> Result<Self> {
        match Self::open_whole(place, false) {
            Ok(index) => Ok(index),
            Err(error) => {
                tracing::warn!(%error, "the index is damaged, building it again from the packs");
                Self::open_whole(place, true)
            }
        }
    }

    fn open_whole(place: &IndexFile, afresh: bool) -> Result<Self> {
        let storage = place
            .open(afresh)
            .map_err(|error| Error::io(format!("opening the index {place}"), error))?;
        let database = Database::builder()
            .set_cache_size(INDEX_CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(storage)
            .map_err(broken)?;
        let mut writing = database.begin_write().map_err(broken)?;
        // Worth nothing yet: it need not be durable.
        writing.set_durability(Durability::None).map_err(broken)?;
        writing.open_table(CHUNKS).map_err(broken)?;
        writing.open_table(PACKS).map_err(broken)?;
        writing.commit().map_err(broken)?;
        let reading = database.begin_read().map_err(broken)?;
        let chunks = RwLock::new(Arc::new(reading.open_table(CHUNKS).map_err(broken)?));
        let mut packs = BTreeMap::new();
        for row in reading.open_table(PACKS).map_err(broken)?.iter().map_err(broken)? {
            let (number, row) = row.map_err(broken)?;
            packs.insert(number.value(), PackRow::decode(row.value()));
        }
        let next_pack = Mutex::new(packs.keys().next_back().map_or(1, |last| last + 1));
        let damaged = Damaged { none: AtomicBool::new(true), ..Damaged::default() };
        let unflushed_chunks = AtomicU64::new(0);
        let packs = RwLock::new(packs);
        Ok(Self { database, chunks, packs, next_pack, unflushed_chunks, damaged })
    }

    fn table(&self) -> Arc<ReadOnlyTable<&'static [u8; 32], &'static [u8; LOCATION_BYTES]>> {
        self.chunks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn known_packs(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u32, PackInfo>> {
        self.packs.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The packs that the index knows.
    pub(crate) fn packs(&self) -> BTreeMap<u32, PackInfo> {
        self.known_packs().clone()
    }

    /// The pack that a location has by its number.
    pub(crate) fn pack(&self, number: u32) -> Option<PackInfo> {
        self.known_packs().get(&number).copied()
    }

    /// Where a chunk is.
    pub(crate) fn get(&self, id: ChunkId) -> Result<Option<Location>> {
        let found = self.table().get(&id.0).map_err(broken)?;
        Ok(found.map(|location| Location::decode(location.value())))
    }

    /// A number for a pack that is going to be added.
    pub(crate) fn number_pack(&self) -> u32 {
        let mut next = self.next_pack.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        *next - 1
    }

    /// Adds a pack and lets its chunks be read from it. With `only_known`, chunks that are in no other
    /// pack are left out: they were forgotten while they were being moved. Answers where those that
    /// were read from elsewhere before were read from, and are now.
    pub(crate) fn add_pack(
        &self,
        number: u32,
        info: PackInfo,
        records: &[Record],
        only_known: bool,
    ) -> Result<Vec<(Slot, Slot)>> {
        let mut moved = Vec::new();
        let mut records: Vec<_> = records.iter().enumerate().collect();
        // In the table's order, which is the cheaper way to fill it.
        records.sort_unstable_by_key(|(_, record)| record.id);
        self.change(false, |writing| {
            let mut chunks = writing.open_table(CHUNKS).map_err(broken)?;
            for (slot, record) in &records {
                let location = Location::new(Slot { pack: number, record: *slot as u16 }, record);
                if only_known {
                    let before = chunks.get(&record.id.0).map_err(broken)?;
                    let Some(before) = before.map(|found| Location::decode(found.value())) else {
                        continue;
                    };
                    moved.push((before.slot, location.slot));
                    chunks.insert(&record.id.0, &location.encode()).map_err(broken)?;
                } else {
                    let before = chunks.insert(&record.id.0, &location.encode());
                    // Stored again, because it was damaged where it was.
                    if let Some(before) = before.map_err(broken)? {
                        moved.push((Location::decode(before.value()).slot, location.slot));
                    }
                }
            }
            let mut packs = writing.open_table(PACKS).map_err(broken)?;
            packs.insert(number, &PackRow::encode(&info)).map_err(broken)?;
            Ok(())
        })?;
        self.packs.write().unwrap_or_else(PoisonError::into_inner).insert(number, info);
        let unflushed = self.unflushed_chunks.fetch_add(records.len() as u64, Ordering::Relaxed);
        if unflushed + records.len() as u64 >= INDEX_FLUSH_CHUNKS {
            self.flush()?;
        }
        Ok(moved)
    }

    /// Forgets chunks that are still where it is said, and packs.
    pub(crate) fn remove(
        &self,
        chunks_removed: impl Iterator<Item = (ChunkId, Location)>,
        packs_removed: &[u32],
    ) -> Result<u64> {
        let mut removed = 0;
        self.change(true, |writing| {
            let mut chunks = writing.open_table(CHUNKS).map_err(broken)?;
            for (id, location) in chunks_removed {
                let there = chunks.get(&id.0).map_err(broken)?.map(|found| *found.value());
                if there == Some(location.encode()) {
                    chunks.remove(&id.0).map_err(broken)?;
                    removed += 1;
                }
            }
            let mut packs = writing.open_table(PACKS).map_err(broken)?;
            for &pack in packs_removed {
                packs.remove(pack).map_err(broken)?;
            }
            Ok(())
        })?;
        let mut packs = self.packs.write().unwrap_or_else(PoisonError::into_inner);
        for pack in packs_removed {
            packs.remove(pack);
        }
        Ok(removed)
    }

    /// Notes that something in a pack is not as it was written: the next collection writes what is
    /// left of it anew.
    pub(crate) fn set_worn(&self, number: u32) -> Result<()> {
        let Some(info) = self.pack(number).filter(|info| !info.scanned) else { return Ok(()) };
        let worn = PackInfo { scanned: true, ..info };
        self.change(true, |writing| {
            let mut packs = writing.open_table(PACKS).map_err(broken)?;
            let still_there = packs.get(number).map_err(broken)?.is_some();
            if still_there {
                packs.insert(number, &PackRow::encode(&worn)).map_err(broken)?;
            }
            Ok(())
        })?;
        let mut packs = self.packs.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(info) = packs.get_mut(&number) {
            info.scanned = true;
        }
        Ok(())
    }

    /// Makes all changes so far durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.change(true, |_| Ok(()))
    }

    fn change(
        &self,
        durably: bool,
        change: impl FnOnce(&WriteTransaction) -> Result<()>,
    ) -> Result<()> {
        let mut writing = self.database.begin_write().map_err(broken)?;
        let durability = if durably { Durability::Immediate } else { Durability::None };
        writing.set_durability(durability).map_err(broken)?;
        change(&writing)?;
        writing.commit().map_err(broken)?;
        if durably {
            self.unflushed_chunks.store(0, Ordering::Relaxed);
        }
        let reading = self.database.begin_read().map_err(broken)?;
        let table = Arc::new(reading.open_table(CHUNKS).map_err(broken)?);
        *self.chunks.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(())
    }

    /// The number of packs, the number of chunks, and the bytes of all packs.
    pub(crate) fn usage(&self) -> (u64, u64, u64) {
        let (count, bytes) = {
            let packs = self.known_packs();
            (packs.len() as u64, packs.values().map(|info| info.length_bytes).sum())
        };
        (count, self.table().len().unwrap_or_default(), bytes)
    }

    /// Notes whether the bytes at `location` are those of the chunk.
    pub(crate) fn set_damaged(&self, id: ChunkId, location: Location, damaged: bool) {
        if !damaged && self.damaged.none.load(Ordering::Relaxed) {
            return;
        }
        let mut chunks = self.damaged_chunks();
        if damaged {
            chunks.insert((id, location));
        } else {
            chunks.remove(&(id, location));
        }
        self.damaged.none.store(chunks.is_empty(), Ordering::Relaxed);
    }

    /// Whether the bytes there were found not to be those of the chunk.
    pub(crate) fn is_damaged(&self, id: ChunkId, location: Location) -> bool {
        !self.damaged.none.load(Ordering::Relaxed)
            && self.damaged_chunks().contains(&(id, location))
    }

    fn damaged_chunks(&self) -> MutexGuard<'_, HashSet<(ChunkId, Location)>> {
        self.damaged.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if self.unflushed_chunks.load(Ordering::Relaxed) > 0
            && let Err(error) = self.flush()
        {
            tracing::warn!(%error, "the index is not up to date: the next start completes it");
        }
    }
}

/// The database says what is wrong in many types of its own.
fn broken(error: impl Into<redb::Error>) -> Error {
    let error: redb::Error = error.into();
    match error {
        redb::Error::Io(error) => Error::io("using the index", error),
        redb::Error::PreviousIo => {
            Error::new(ErrorKind::Io, "the index failed before").with_source(error)
        }
        error => Error::corrupt("using the index").with_source(error),
    }
}
