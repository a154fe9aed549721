//! Which pack holds a chunk. An embedded database beside the packs, and a cache of them: whatever
//! becomes of it, it is built again from their footers.
//!
//! A table maps the name of a chunk to its [`Location`], another the number of a pack to its name and
//! length. Changes are written at once but made durable only now and then ([`Index::flush`]): what a
//! crash takes away is found again by comparing the packs that are there with those that the
//! index knows. A damaged index is noticed when it is opened, as its pages have checksums.
//!
//! When the database fails (the medium does, or is full) it is opened again, and brought in line with the
//! packs that are known in memory, by whoever comes next. What that makes unknown, which is where running
//! commits found what they rely on and what a running collection saw, is taken care of: all chunks are
//! kept until those commits have ended, and that collection removes nothing.

mod location;
mod opened;
mod reconcile;
mod storage;
mod sweep;

pub(crate) use location::{Location, Slot};
pub(crate) use storage::IndexFile;
pub(crate) use sweep::{Candidate, Scan};

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use redb::{ReadableTable, WriteTransaction};

use crate::backend::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::limits::INDEX_FLUSH_CHUNKS;
use crate::liveness::Liveness;
use crate::pack::{PackId, Record};
use location::PackRow;
use opened::{CHUNKS, Opened, PACKS, broken};

/// A pack that the index knows, by the short number that locations have it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackInfo {
    pub(crate) id: PackId,
    pub(crate) length_bytes: u64,
    /// Its footer is damaged, or something else in it.
    pub(crate) scanned: bool,
}

/// A pack to be added.
pub(crate) struct NewPack {
    pub(crate) number: u32,
    pub(crate) info: PackInfo,
    pub(crate) records: Vec<Record>,
}

/// The index. Its methods read and write one local file.
pub(crate) struct Index {
    place: IndexFile,
    backend: Arc<dyn Backend>,
    liveness: Arc<Liveness>,
    opened: RwLock<Arc<Opened>>,
    /// Held by whoever changes the database and what is known of it, or opens it again.
    changing: Mutex<()>,
    packs: RwLock<BTreeMap<u32, PackInfo>>,
    next_pack: Mutex<u32>,
    unflushed_chunks: AtomicU64,
    damaged: Damaged,
}

/// What is done with the chunks of a pack that are in the index already.
#[derive(Clone, Copy)]
pub(crate) enum Adding<'a> {
    /// They are read from the new pack: they were damaged where they were.
    New,
    /// They are read from the new pack; the others are left out: they were forgotten while they were
    /// being moved.
    Moved,
    /// Of two packs, the one that was begun later counts. These are known already.
    Found(&'a BTreeMap<u32, PackInfo>),
}

/// Chunks whose bytes were found not to be theirs. The next commit of such a chunk stores it again.
#[derive(Default)]
struct Damaged {
    /// Nearly always: then nobody waits for the lock.
    none: AtomicBool,
    chunks: Mutex<HashSet<(ChunkId, Location)>>,
}

impl Index {
    /// Opens the index at `place`, or makes an empty one if there is none or it is damaged, and has it
    /// know the packs of `backend`, given with their lengths.
    pub(crate) fn open(
        place: &IndexFile,
        backend: Arc<dyn Backend>,
        liveness: Arc<Liveness>,
        packs: BTreeMap<PackId, u64>,
    ) -> Result<Self> {
        let opened = Opened::open(place, 0)?;
        let wanted = reconcile::number(packs, &opened.packs()?);
        let packs = reconcile::reconcile(&opened, backend.as_ref(), &wanted)?;
        let next_pack = wanted.keys().next_back().map_or(1, |last| last + 1);
        Ok(Self {
            place: place.clone(),
            backend,
            liveness,
            opened: RwLock::new(Arc::new(opened)),
            changing: Mutex::new(()),
            packs: RwLock::new(packs),
            next_pack: Mutex::new(next_pack),
            unflushed_chunks: AtomicU64::new(0),
            damaged: Damaged { none: AtomicBool::new(true), ..Damaged::default() },
        })
    }

    fn opened(&self) -> Arc<Opened> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Not one that failed and that nobody could open again so far: where that one has its chunks nobody
    /// may rely on any more.
    fn usable(&self) -> Result<Arc<Opened>> {
        let opened = self.opened();
        if opened.is_retired() {
            return self.reopen(&opened, &Error::new(ErrorKind::Io, "the index is closed"));
        }
        Ok(opened)
    }

    /// Opens the index again after it `failed`, unless somebody has.
    fn reopen(&self, failed: &Arc<Opened>, error: &Error) -> Result<Arc<Opened>> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.opened();
        if !Arc::ptr_eq(&current, failed) {
            return Ok(current);
        }
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, cause, "the index failed, opening it again");
        failed.retire();
        // Before anybody sees the new places.
        self.liveness.forget_places();
        let opened = Opened::open(&self.place, failed.number + 1)?;
        let wanted = self.packs();
        let packs = reconcile::reconcile(&opened, self.backend.as_ref(), &wanted)?;
        opened.change(true, |_| Ok(()))?;
        *self.packs.write().unwrap_or_else(PoisonError::into_inner) = packs;
        let opened = Arc::new(opened);
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = opened.clone();
        Ok(opened)
    }

    fn known_packs(&self) -> RwLockReadGuard<'_, BTreeMap<u32, PackInfo>> {
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
        let opened = self.usable()?;
        opened.get(id).or_else(|error| self.reopen(&opened, &error)?.get(id))
    }

    /// A number for a pack that is going to be added.
    pub(crate) fn number_pack(&self) -> u32 {
        let mut next = self.next_pack.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        *next - 1
    }

    /// Adds a pack and lets its chunks be read from it. Answers where those that were read from
    /// elsewhere before were read from, and are now. After a failure the pack is not known.
    pub(crate) fn add_pack(
        &self,
        number: u32,
        info: PackInfo,
        records: &[Record],
        adding: Adding<'_>,
    ) -> Result<Vec<(Slot, Slot)>> {
        let pack = NewPack { number, info, records: records.to_vec() };
        let moved = self.change(
            false,
            None,
            |writing| add(writing, vec![pack], adding),
            |packs| {
                packs.insert(number, info);
            },
        )?;
        let unflushed = self.unflushed_chunks.fetch_add(records.len() as u64, Ordering::Relaxed);
        if unflushed + records.len() as u64 >= INDEX_FLUSH_CHUNKS
            && let Err(error) = self.flush()
        {
            tracing::warn!(%error, "the index is not durable: a start after a crash completes it");
        }
        Ok(moved)
    }

    /// Forgets chunks that are still where it is said, and packs. Only if the index is the one of which
    /// `opening` is the number, see [`Scan::opening`].
    pub(crate) fn remove(
        &self,
        opening: u64,
        chunks_removed: impl Iterator<Item = (ChunkId, Location)>,
        packs_removed: &[u32],
    ) -> Result<u64> {
        let change = |writing: &WriteTransaction| {
            let mut removed = 0;
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
            Ok(removed)
        };
        self.change(true, Some(opening), change, |packs| {
            packs.retain(|number, _| !packs_removed.contains(number));
        })
    }

    /// Notes that something in a pack is not as it was written: the next collection writes what is
    /// left of it anew.
    pub(crate) fn set_worn(&self, number: u32) -> Result<()> {
        let Some(info) = self.pack(number).filter(|info| !info.scanned) else { return Ok(()) };
        let worn = PackInfo { scanned: true, ..info };
        let change = |writing: &WriteTransaction| {
            let mut packs = writing.open_table(PACKS).map_err(broken)?;
            let still_there = packs.get(number).map_err(broken)?.is_some();
            if still_there {
                packs.insert(number, &PackRow::encode(&worn)).map_err(broken)?;
            }
            Ok(())
        };
        self.change(true, None, change, |packs| {
            if let Some(info) = packs.get_mut(&number) {
                info.scanned = true;
            }
        })
    }

    /// Makes all changes so far durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.change(true, None, |_| Ok(()), |_| ())
    }

    /// Changes the database, and then what is known of the packs, as one. If the database fails it is
    /// opened again without the change.
    fn change<T>(
        &self,
        durably: bool,
        opening: Option<u64>,
        change: impl FnOnce(&WriteTransaction) -> Result<T>,
        known: impl FnOnce(&mut BTreeMap<u32, PackInfo>),
    ) -> Result<T> {
        self.usable()?;
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.opened();
        if opening.is_some_and(|opening| opening != opened.number) {
            return Err(Error::new(ErrorKind::Io, "the index was opened again meanwhile"));
        }
        match opened.change(durably, change) {
            Ok(changed) => {
                known(&mut self.packs.write().unwrap_or_else(PoisonError::into_inner));
                if durably {
                    self.unflushed_chunks.store(0, Ordering::Relaxed);
                }
                Ok(changed)
            }
            Err(error) => {
                drop(changing);
                if let Err(error) = self.reopen(&opened, &error) {
                    tracing::warn!(%error, "the index cannot be opened again yet");
                }
                Err(error)
            }
        }
    }

    /// The number of packs, the number of chunks, and the bytes of all packs.
    pub(crate) fn usage(&self) -> (u64, u64, u64) {
        let (count, bytes) = {
            let packs = self.known_packs();
            (packs.len() as u64, packs.values().map(|info| info.length_bytes).sum())
        };
        (count, self.opened().chunk_count().unwrap_or_default(), bytes)
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
        let opened = self.opened();
        if opened.is_dirty()
            && let Err(error) = opened.change(true, |_| Ok(()))
        {
            tracing::warn!(%error, "the index is not up to date: the next start completes it");
        }
    }
}

/// What is to be inserted, in the table's order. Of a chunk that is in several packs the last counts.
fn sorted_rows(packs: Vec<NewPack>) -> Vec<(ChunkId, PackId, Location)> {
    let mut rows = Vec::with_capacity(packs.iter().map(|pack| pack.records.len()).sum());
    for pack in packs {
        for (record, position) in pack.records.iter().zip(0..) {
            let slot = Slot { pack: pack.number, record: position };
            rows.push((record.id, pack.info.id, Location::new(slot, record)));
        }
    }
    rows.sort_by_key(|(id, _, _)| *id);
    rows
}

/// Writes the rows of packs; see [`Index::add_pack`]. What a change of the table costs is more its pages
/// than its rows: many rows at once, in the table's order, cost far less than the same rows pack by pack.
fn add(
    writing: &WriteTransaction,
    packs_added: Vec<NewPack>,
    adding: Adding<'_>,
) -> Result<Vec<(Slot, Slot)>> {
    let mut packs = writing.open_table(PACKS).map_err(broken)?;
    for pack in &packs_added {
        packs.insert(pack.number, &PackRow::encode(&pack.info)).map_err(broken)?;
    }
    let mut moved = Vec::new();
    let mut chunks = writing.open_table(CHUNKS).map_err(broken)?;
    for (id, pack, location) in sorted_rows(packs_added) {
        if !matches!(adding, Adding::New) {
            let before = chunks.get(&id.0).map_err(broken)?;
            let before = before.map(|found| Location::decode(found.value()).slot.pack);
            let stays = match (adding, before) {
                (Adding::Moved, before) => before.is_none(),
                (Adding::Found(packs), Some(before)) => {
                    packs.get(&before).is_some_and(|other| other.id > pack)
                }
                _ => false,
            };
            if stays {
                continue;
            }
        }
        // Moved, or stored again because it was damaged.
        let before = chunks.insert(&id.0, &location.encode()).map_err(broken)?;
        if let Some(before) = before {
            moved.push((Location::decode(before.value()).slot, location.slot));
        }
    }
    Ok(moved)
}
