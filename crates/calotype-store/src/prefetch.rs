//! Disks that guests boot from: what the first boot of a disk reads is remembered, and brought into
//! memory ahead of the next.
//!
//! All guests of one image share one [`BootDisk`] while any of them has it open. While it is new, the
//! chunks that are read are noted in their order; the list is kept in a small file beside the store.
//! When the disk is opened again, one thread of [`BootDisks`] follows the list, never further ahead of
//! the guests than a part of the cache, and no longer than the disk is open. It reads as guests do, so it
//! can bring nothing into memory that is not what it is called, and a chunk that a guest wants at the same
//! time is read once.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use calotype_disk::{Disk, Extent, Piece, SharedBytes};

use crate::boot_order::Folder;
use crate::error::Result;
use crate::id::ManifestId;
use crate::limits::{
    BOOT_IDLE, BOOT_ORDER_CHUNKS_MAX, BOOT_TIME_MAX, CHUNK_BYTES, PREFETCH_CACHE_SHARE,
    PREFETCH_TURN_CHUNKS,
};
use crate::manifest;
use crate::store::Store;
use crate::stored_disk::{DiskStatistics, StoredDisk};

/// How often the thread looks for boots that have ended.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A boot is written down if of what it read more than one part of so many was not known.
const NEWS_SHARE: usize = 16;

/// The disks of a store as guests boot from them.
pub struct BootDisks {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    store: Store,
    folder: Option<Folder>,
    /// How far the thread may be ahead of the guests.
    window_chunks: usize,
    closing: AtomicBool,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    disks: HashMap<ManifestId, Weak<BootDisk>>,
    /// Orders that are to be written down.
    orders: Vec<(ManifestId, Vec<u32>)>,
    /// Something has changed since the thread looked.
    news: bool,
}

/// What happened to a disk since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BootStatistics {
    /// Chunks in the list when it was opened; 0 when its order was not known.
    pub known_chunks: u64,
    /// Chunks that guests read, each counted once, until the boot was taken to be over.
    pub read_chunks: u64,
    /// Of these, those that were in memory when they were first asked for.
    pub found_chunks: u64,
    /// Chunks that the thread has dealt with.
    pub prefetched_chunks: u64,
    /// What was read from packs for guests and thread.
    pub disk: DiskStatistics,
}

impl BootDisks {
    /// Keeps the orders of the disks of `store` in `directory`, which is theirs alone. What stands in
    /// the way of that is logged: guests boot without it.
    pub fn open(store: &Store, directory: &Path) -> Self {
        let known = store.manifests();
        let folder = Folder::open(directory, |id| known.contains(&id)).inspect_err(|error| {
            tracing::warn!(%error, directory = %directory.display(), "no boot orders are kept");
        });
        let shared = Arc::new(Shared {
            store: store.clone(),
            folder: folder.ok(),
            window_chunks: store.cache_bytes() / PREFETCH_CACHE_SHARE / CHUNK_BYTES,
            closing: AtomicBool::new(false),
            state: Mutex::default(),
            work: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("prefetch".into());
        let following = Arc::clone(&shared);
        let thread = thread
            .spawn(move || following.run())
            .inspect_err(|error| tracing::warn!(%error, "nothing is prefetched"));
        Self { shared, thread: thread.ok() }
    }

    /// Opens a disk, or shares the one that is open.
    pub fn disk(&self, id: ManifestId) -> Result<Arc<BootDisk>> {
        if let Some(open) = self.open_disk(id) {
            return Ok(open);
        }
        let stored = self.shared.store.disk(id)?;
        let known = self.shared.folder.as_ref().and_then(|folder| folder.read(id));
        let known = known.unwrap_or_default();
        let disk = Arc::new(BootDisk::new(stored, known, Arc::downgrade(&self.shared)));
        let mut state = self.shared.lock();
        // Somebody else may have been faster.
        if let Some(open) = state.disks.get(&id).and_then(Weak::upgrade) {
            return Ok(open);
        }
        state.disks.insert(id, Arc::downgrade(&disk));
        self.shared.tell(state);
        Ok(disk)
    }

    /// What happened to a disk that is open.
    pub fn statistics(&self, id: ManifestId) -> Option<BootStatistics> {
        self.open_disk(id).map(|disk| disk.statistics())
    }

    fn open_disk(&self, id: ManifestId) -> Option<Arc<BootDisk>> {
        self.shared.lock().disks.get(&id)?.upgrade()
    }
}

impl Drop for BootDisks {
    fn drop(&mut self) {
        // The thread ends after the chunk that it reads now. The store is let go of then, and not
        // later: somebody may want to open it again.
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.tell(self.shared.lock());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for BootDisks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootDisks").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        state.news = true;
        drop(state);
        self.work.notify_one();
    }

    fn run(&self) {
        loop {
            let (disks, orders) = {
                let mut state = self.lock();
                state.news = false;
                state.disks.retain(|_, disk| disk.strong_count() > 0);
                let disks: Vec<_> = state.disks.values().filter_map(Weak::upgrade).collect();
                (disks, std::mem::take(&mut state.orders))
            };
            for (id, order) in orders {
                self.write(id, &order);
            }
            if self.closing.load(Ordering::Relaxed) {
                return;
            }
            let mut busy = false;
            let mut booting = false;
            for disk in &disks {
                busy |= disk.prefetch(self);
                booting |= disk.is_booting();
            }
            // May be the last to let go of a disk, which then tells us its order.
            drop(disks);
            if !busy {
                self.wait(booting);
            }
        }
    }

    /// Until there are news; or for a while, if time alone can bring some.
    fn wait(&self, booting: bool) {
        let no_news = |state: &mut State| !state.news;
        if booting {
            drop(self.work.wait_timeout_while(self.lock(), LOOK_INTERVAL, no_news));
        } else {
            drop(self.work.wait_while(self.lock(), no_news));
        }
    }

    fn write(&self, id: ManifestId, order: &[u32]) {
        if let Some(folder) = &self.folder
            && self.store.contains(id)
            && let Err(error) = folder.write(id, order)
        {
            tracing::warn!(%error, manifest = %id, "cannot remember a boot order");
        }
    }
}

/// A disk that guests boot from. Its content is that of the [`StoredDisk`].
pub struct BootDisk {
    disk: Arc<StoredDisk>,
    shared: Weak<Shared>,
    /// The order of an earlier boot, and how far it was followed.
    known: Vec<u32>,
    next: AtomicUsize,
    /// Whether what is read is still noted.
    booting: AtomicBool,
    boot: Mutex<Boot>,
    read_chunks: AtomicU64,
    found_chunks: AtomicU64,
}

#[derive(Default)]
struct Boot {
    /// Chunks of the known order that were not read yet.
    expected: HashSet<u32>,
    read: HashSet<u32>,
    /// What was read and not expected, in order.
    new: Vec<u32>,
    /// When the first chunk was read, and when the last new one.
    times: Option<(Instant, Instant)>,
}

impl BootDisk {
    fn new(disk: Arc<StoredDisk>, known: Vec<u32>, shared: Weak<Shared>) -> Self {
        let chunks = manifest::chunk_count(disk.size_bytes());
        let known: Vec<u32> =
            known.into_iter().filter(|chunk| u64::from(*chunk) < chunks).collect();
        let boot = Boot { expected: known.iter().copied().collect(), ..Boot::default() };
        Self {
            disk,
            shared,
            known,
            next: AtomicUsize::new(0),
            booting: AtomicBool::new(true),
            boot: Mutex::new(boot),
            read_chunks: AtomicU64::new(0),
            found_chunks: AtomicU64::new(0),
        }
    }

    /// What happened since it was opened.
    pub fn statistics(&self) -> BootStatistics {
        BootStatistics {
            known_chunks: self.known.len() as u64,
            read_chunks: self.read_chunks.load(Ordering::Relaxed),
            found_chunks: self.found_chunks.load(Ordering::Relaxed),
            prefetched_chunks: self.next.load(Ordering::Relaxed) as u64,
            disk: self.disk.statistics(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Boot> {
        self.boot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A guest asked for a chunk, which was in memory or was not.
    fn note(&self, offset: u64, found: bool) {
        if !self.booting.load(Ordering::Relaxed) {
            return;
        }
        // A chunk whose number has more bits is none that a boot needs: 256 TiB from the beginning.
        let Ok(chunk) = u32::try_from(offset / CHUNK_BYTES as u64) else { return };
        let mut boot = self.lock();
        if !boot.read.insert(chunk) {
            return;
        }
        self.read_chunks.fetch_add(1, Ordering::Relaxed);
        self.found_chunks.fetch_add(u64::from(found), Ordering::Relaxed);
        if !boot.expected.remove(&chunk) {
            boot.new.push(chunk);
        }
        let now = Instant::now();
        boot.times = Some((boot.times.map_or(now, |(first, _)| first), now));
        let full = boot.read.len() >= BOOT_ORDER_CHUNKS_MAX;
        let first = boot.read.len() == 1;
        let turn = boot.read.len().is_multiple_of(PREFETCH_TURN_CHUNKS);
        drop(boot);
        if full {
            self.end_boot();
        }
        if (first || turn)
            && let Some(shared) = self.shared.upgrade()
        {
            shared.tell(shared.lock());
        }
    }

    /// Whether what is read is still noted; ends that when the boot seems to be over.
    fn is_booting(&self) -> bool {
        if !self.booting.load(Ordering::Relaxed) {
            return false;
        }
        let Some((first, last)) = self.lock().times else { return false };
        if first.elapsed() > BOOT_TIME_MAX || last.elapsed() > BOOT_IDLE {
            self.end_boot();
            return false;
        }
        true
    }

    /// Has the order written down, if it says something new.
    fn end_boot(&self) {
        if !self.booting.swap(false, Ordering::Relaxed) {
            return;
        }
        let boot = std::mem::take(&mut *self.lock());
        if boot.new.is_empty() || boot.new.len() * NEWS_SHARE <= boot.read.len() {
            return;
        }
        // A boot that went another way reads more than one that was cut off: both orders are kept.
        let order = self.known.iter().copied().chain(boot.new);
        let order = order.take(BOOT_ORDER_CHUNKS_MAX).collect();
        if let Some(shared) = self.shared.upgrade() {
            let mut state = shared.lock();
            state.orders.push((self.disk.manifest(), order));
            shared.tell(state);
        }
    }

    /// Brings the next chunks of the known order into memory, if guests are near. Whether there may be
    /// more to do at once.
    fn prefetch(self: &Arc<Self>, shared: &Shared) -> bool {
        for _ in 0..PREFETCH_TURN_CHUNKS {
            let next = self.next.load(Ordering::Relaxed);
            let Some(chunk) = self.known.get(next) else { return false };
            // Without the thread's own hold on the disk.
            let guests = Arc::strong_count(self) - 1;
            if guests == 0 || shared.closing.load(Ordering::Relaxed) {
                return false;
            }
            let outstanding = {
                let boot = self.lock();
                let read = self.known.len().saturating_sub(boot.expected.len());
                if self.booting.load(Ordering::Relaxed) { next.saturating_sub(read) } else { 0 }
            };
            if outstanding >= shared.window_chunks {
                return false;
            }
            // A guest that needs it will see why not.
            let _ = self.disk.fetch(u64::from(*chunk));
            self.next.store(next + 1, Ordering::Relaxed);
        }
        true
    }
}

impl Drop for BootDisk {
    fn drop(&mut self) {
        self.end_boot();
    }
}

impl Disk for BootDisk {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> calotype_disk::Result<()> {
        while !buf.is_empty() {
            let piece = self.piece_at(offset, buf.len() as u64)?;
            let length = match piece {
                Piece::Zeros(length) | Piece::Unread(length) => length as usize,
                Piece::Bytes(bytes) => bytes.len(),
            };
            let (part, rest) = buf.split_at_mut(length.clamp(1, buf.len()));
            self.disk.read_at(offset, part)?;
            offset += part.len() as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        self.disk.extent_at(offset)
    }

    fn piece_at(&self, offset: u64, length_max: u64) -> calotype_disk::Result<Piece> {
        let piece = self.disk.piece_at(offset, length_max)?;
        match piece {
            Piece::Zeros(_) => {}
            Piece::Bytes(_) => self.note(offset, true),
            Piece::Unread(_) => self.note(offset, false),
        }
        Ok(piece)
    }

    fn read_piece(&self, offset: u64, length: usize) -> calotype_disk::Result<SharedBytes> {
        self.disk.read_piece(offset, length)
    }
}

impl std::fmt::Debug for BootDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootDisk").field("manifest", &self.disk.manifest()).finish_non_exhaustive()
    }
}
