//! The database while it is open. When it fails it is closed for good: another is opened over the same file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};

use super::location::{LOCATION_BYTES, PACK_BYTES, PackRow};
use super::storage::IndexStorage;
use super::{IndexFile, Location, PackInfo};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::limits::INDEX_CACHE_BYTES;

type ChunkTable = TableDefinition<'static, &'static [u8; 32], &'static [u8; LOCATION_BYTES]>;
type PackTable = TableDefinition<'static, u32, &'static [u8; PACK_BYTES]>;
pub(super) type ChunkReader = ReadOnlyTable<&'static [u8; 32], &'static [u8; LOCATION_BYTES]>;

pub(super) const CHUNKS: ChunkTable = TableDefinition::new("chunks");
pub(super) const PACKS: PackTable = TableDefinition::new("packs");

pub(super) struct Opened {
    /// How often the index was opened before, by this process.
    pub(super) number: u64,
    database: Database,
    /// What readers see: replaced after every change, so that a look-up begins no transaction.
    chunks: RwLock<Arc<ChunkReader>>,
    storage: IndexStorage,
    /// There are changes that are not durable.
    dirty: AtomicBool,
}

impl Opened {
    /// Opens what there is; an empty index if there is none or it is damaged.
    pub(super) fn open(place: &IndexFile, number: u64) -> Result<Self> {
        match Self::open_whole(place, number, false) {
            Ok(opened) => Ok(opened),
            // To make room is nothing that emptying it would help with: it is needed to do so.
            Err(error) if number > 0 && error.kind() == ErrorKind::NoSpace => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the index is damaged, building it again from the packs");
                Self::open_whole(place, number, true)
            }
        }
    }

    fn open_whole(place: &IndexFile, number: u64, afresh: bool) -> Result<Self> {
        let storage = place
            .open(afresh)
            .map_err(|error| Error::io(format!("opening the index {place}"), error))?;
        let database = Database::builder()
            .set_cache_size(INDEX_CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(storage.clone())
            .map_err(broken)?;
        let mut writing = database.begin_write().map_err(broken)?;
        // Worth nothing yet: it need not be durable.
        writing.set_durability(Durability::None).map_err(broken)?;
        writing.open_table(CHUNKS).map_err(broken)?;
        writing.open_table(PACKS).map_err(broken)?;
        writing.commit().map_err(broken)?;
        let chunks = RwLock::new(Arc::new(reader(&database)?));
        Ok(Self { number, database, chunks, storage, dirty: AtomicBool::new(false) })
    }

    /// From now on nothing of it reaches the file, nor the other way round.
    pub(super) fn retire(&self) {
        self.storage.retire();
    }

    pub(super) fn is_retired(&self) -> bool {
        self.storage.is_retired()
    }

    pub(super) fn table(&self) -> Arc<ChunkReader> {
        self.chunks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where a chunk is.
    pub(super) fn get(&self, id: ChunkId) -> Result<Option<Location>> {
        let found = self.table().get(&id.0).map_err(broken)?;
        Ok(found.map(|location| Location::decode(location.value())))
    }

    /// The number of chunks.
    pub(super) fn chunk_count(&self) -> Result<u64> {
        self.table().len().map_err(broken)
    }

    /// The packs, by their numbers.
    pub(super) fn packs(&self) -> Result<BTreeMap<u32, PackInfo>> {
        let mut packs = BTreeMap::new();
        let reading = self.database.begin_read().map_err(broken)?;
        for row in reading.open_table(PACKS).map_err(broken)?.iter().map_err(broken)? {
            let (number, row) = row.map_err(broken)?;
            packs.insert(number.value(), PackRow::decode(row.value()));
        }
        Ok(packs)
    }

    /// Makes a change, and it and all before it durable if wished.
    pub(super) fn change<T>(
        &self,
        durably: bool,
        change: impl FnOnce(&WriteTransaction) -> Result<T>,
    ) -> Result<T> {
        let mut writing = self.database.begin_write().map_err(broken)?;
        let durability = if durably { Durability::Immediate } else { Durability::None };
        writing.set_durability(durability).map_err(broken)?;
        let changed = change(&writing)?;
        writing.commit().map_err(broken)?;
        self.dirty.store(!durably, Ordering::Relaxed);
        let table = Arc::new(reader(&self.database)?);
        *self.chunks.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(changed)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }
}

fn reader(database: &Database) -> Result<ChunkReader> {
    database.begin_read().map_err(broken)?.open_table(CHUNKS).map_err(broken)
}

/// The database says what is wrong in many types of its own.
pub(super) fn broken(error: impl Into<redb::Error>) -> Error {
    let error: redb::Error = error.into();
    match error {
        redb::Error::Io(error) => Error::io("using the index", error),
        redb::Error::PreviousIo => {
            Error::new(ErrorKind::Io, "the index failed before").with_source(error)
        }
        error => Error::corrupt("using the index").with_source(error),
    }
}
