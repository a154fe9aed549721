//! Which pack holds a chunk: a cache in memory, rebuilt from the packs whenever the store is opened.
//!
//! Every entry carries the *epoch* in which it was last needed. A collection keeps what was
//! needed in its own epoch or since the oldest commit that still runs, so that a
//! commit protects what it found by finding it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::id::ChunkId;
use crate::pack::{Codec, PackId, Record};

/// Where the payload of a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: PackId,
    pub(crate) offset: u32,
    pub(crate) stored_bytes: u32,
    pub(crate) codec: Codec,
}

struct Entry {
    pack: PackId,
    offset: u32,
    stored_bytes: u32,
    touched: AtomicU32,
    codec: Codec,
    /// The bytes there were found not to be the chunk. The next commit of this chunk stores it again.
    damaged: AtomicBool,
}

impl Entry {
    fn new(pack: PackId, record: &Record, epoch: u32) -> Self {
        Self {
            pack,
            offset: record.offset,
            stored_bytes: record.stored_bytes,
            touched: AtomicU32::new(epoch),
            codec: record.codec,
            damaged: AtomicBool::new(false),
        }
    }

    fn location(&self) -> Location {
        Location {
            pack: self.pack,
            offset: self.offset,
            stored_bytes: self.stored_bytes,
            codec: self.codec,
        }
    }
}

/// A chunk's name is a digest already: hashing it again would gain nothing.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The digest is written in one piece, its length (constant) in another.
        if let Some((first, _)) = bytes.split_first_chunk() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }
}

#[derive(Default)]
struct Contents {
    chunks: HashMap<ChunkId, Entry, BuildHasherDefault<DigestHasher>>,
    packs: BTreeMap<PackId, PackInfo>,
}

#[derive(Debug, Clone, Copy)]
struct PackInfo {
    length_bytes: u64,
    scanned: bool,
}

/// The index. All its methods are short; none does I/O.
#[derive(Default)]
pub(crate) struct Index {
    contents: RwLock<Contents>,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) chunks_removed: u64,
    /// Packs of which no chunk is left, with their lengths.
    pub(crate) dead: Vec<(PackId, u64)>,
    /// The rest of the packs.
    pub(crate) partly_alive: Vec<PackUse>,
}

/// How much of a pack is in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackUse {
    pub(crate) pack: PackId,
    pub(crate) length_bytes: u64,
    pub(crate) live_bytes: u64,
    /// Its footer is damaged.
    pub(crate) scanned: bool,
}

impl Index {
    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a pack holds when the store is opened; packs are added in their order. A chunk in
    /// two packs counts for the later: it is the one that was moved or healed.
    pub(crate) fn load_pack(
        &self,
        pack: PackId,
        length_bytes: u64,
        records: &[Record],
        scanned: bool,
    ) {
        let mut contents = self.write();
        contents.packs.insert(pack, PackInfo { length_bytes, scanned });
        contents.chunks.reserve(records.len());
        for record in records {
            contents.chunks.insert(record.id, Entry::new(pack, record, 0));
        }
    }

    /// Adds what a new pack holds, as needed in `epoch`.
    pub(crate) fn insert_pack(
        &self,
        pack: PackId,
        length_bytes: u64,
        records: &[Record],
        epoch: u32,
    ) {
        let mut contents = self.write();
        contents.packs.insert(pack, PackInfo { length_bytes, scanned: false });
        for record in records {
            match contents.chunks.get(&record.id) {
                // Another commit was faster; its copy serves both.
                Some(entry) if !entry.damaged.load(Ordering::Relaxed) => {
                    entry.touched.fetch_max(epoch, Ordering::Relaxed);
                }
                known => {
                    let known = known.map_or(0, |entry| entry.touched.load(Ordering::Relaxed));
                    let entry = Entry::new(pack, record, epoch.max(known));
                    contents.chunks.insert(record.id, entry);
                }
            }
        }
    }

    /// Lets chunks that are still known be read from a new pack.
    pub(crate) fn move_into_pack(&self, pack: PackId, length_bytes: u64, records: &[Record]) {
        let mut contents = self.write();
        contents.packs.insert(pack, PackInfo { length_bytes, scanned: false });
        for record in records {
            if let Some(entry) = contents.chunks.get_mut(&record.id) {
                let touched = entry.touched.load(Ordering::Relaxed);
                *entry = Entry::new(pack, record, touched);
            }
        }
    }

    pub(crate) fn get(&self, id: ChunkId) -> Option<Location> {
        self.read().chunks.get(&id).map(Entry::location)
    }

    /// Whether the chunk is there and sound as far as is known; if so it is needed in `epoch`.
    pub(crate) fn touch(&self, id: ChunkId, epoch: u32) -> bool {
        let contents = self.read();
        let Some(entry) = contents.chunks.get(&id) else { return false };
        entry.touched.fetch_max(epoch, Ordering::Relaxed);
        !entry.damaged.load(Ordering::Relaxed)
    }

    /// Marks many chunks as needed in `epoch`; those not there are counted.
    pub(crate) fn touch_all(&self, ids: impl Iterator<Item = ChunkId>, epoch: u32) -> u64 {
        let contents = self.read();
        let mut missing = 0;
        for id in ids {
            match contents.chunks.get(&id) {
                Some(entry) => drop(entry.touched.fetch_max(epoch, Ordering::Relaxed)),
                None => missing += 1,
            }
        }
        missing
    }

    /// Notes whether the bytes at `location` are those of the chunk.
    pub(crate) fn set_damaged(&self, id: ChunkId, location: Location, damaged: bool) {
        let contents = self.read();
        if let Some(entry) = contents.chunks.get(&id)
            && entry.location() == location
            // Hardly ever changes: a shared cache line is not written for nothing.
            && entry.damaged.load(Ordering::Relaxed) != damaged
        {
            entry.damaged.store(damaged, Ordering::Relaxed);
        }
    }

    /// Forgets every chunk that was last needed before `epoch`, and every pack that holds no other.
    pub(crate) fn sweep(&self, epoch: u32) -> Sweep {
        let mut contents = self.write();
        let before = contents.chunks.len();
        let mut live: HashMap<PackId, u64> = HashMap::new();
        contents.chunks.retain(|_, entry| {
            let needed = entry.touched.load(Ordering::Relaxed) >= epoch;
            if needed {
                *live.entry(entry.pack).or_default() += u64::from(entry.stored_bytes);
            }
            needed
        });
        let mut sweep =
            Sweep { chunks_removed: (before - contents.chunks.len()) as u64, ..Sweep::default() };
        contents.packs.retain(|&pack, info| match live.get(&pack) {
            None => {
                sweep.dead.push((pack, info.length_bytes));
                false
            }
            Some(&live_bytes) => {
                let PackInfo { length_bytes, scanned } = *info;
                sweep.partly_alive.push(PackUse { pack, length_bytes, live_bytes, scanned });
                true
            }
        });
        sweep
    }

    /// The chunks that are read from each of `packs`, in the order of their offsets.
    pub(crate) fn chunks_of(&self, packs: &[PackId]) -> BTreeMap<PackId, Vec<(ChunkId, Location)>> {
        let mut chunks: BTreeMap<_, Vec<_>> =
            packs.iter().map(|&pack| (pack, Vec::new())).collect();
        for (&id, entry) in &self.read().chunks {
            if let Some(chunks) = chunks.get_mut(&entry.pack) {
                chunks.push((id, entry.location()));
            }
        }
        for chunks in chunks.values_mut() {
            chunks.sort_by_key(|(_, location)| location.offset);
        }
        chunks
    }

    /// Forgets those of `packs` from which no chunk is read any more, and answers them with their
    /// lengths.
    pub(crate) fn forget_packs(&self, packs: &[PackId]) -> Vec<(PackId, u64)> {
        let mut contents = self.write();
        let mut unused: BTreeSet<_> = packs.iter().copied().collect();
        for entry in contents.chunks.values() {
            unused.remove(&entry.pack);
        }
        let forget = |pack| Some((pack, contents.packs.remove(&pack)?.length_bytes));
        unused.into_iter().filter_map(forget).collect()
    }

    /// The number of packs, the number of chunks, and the bytes of all packs.
    pub(crate) fn usage(&self) -> (u64, u64, u64) {
        let contents = self.read();
        let bytes = contents.packs.values().map(|info| info.length_bytes).sum();
        (contents.packs.len() as u64, contents.chunks.len() as u64, bytes)
    }
}
