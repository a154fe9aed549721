//! The bytes of an object as a source that is read at any place: its disks, one behind the other.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calotype_disk::{Disk as _, ExtentKind, Source};
use calotype_store::{Kept, Store, StoredDisk};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::record::{self, Segment};

/// Disks of an object that are open at the same time; each is opened anew if it is needed again.
const OPEN_DISKS_MAX: usize = 8;
/// What is read ahead of who reads in order, in pieces read at the same time.
const AHEAD_BYTES: u64 = 4 * AHEAD_PIECE_BYTES;
const AHEAD_PIECE_BYTES: u64 = 1 << 20;
/// Pieces that are read ahead at the same time.
const AHEAD_READERS_MAX: usize = 4;

/// The bytes of an object. It is there as long as this is open, whatever happens to the object. Clones share what
/// is open.
#[derive(Clone)]
pub struct ObjectSource(Arc<Parts>);

struct Parts {
    store: Store,
    size_bytes: u64,
    /// With the place behind each.
    segments: Vec<(u64, Segment)>,
    open: Mutex<VecDeque<(usize, Arc<StoredDisk>)>>,
    _kept: Vec<Kept>,
}

impl ObjectSource {
    /// Opens the disks' bytes in this order; none if one of them is gone.
    pub fn open(store: &Store, segments: &[Segment]) -> Option<Self> {
        let kept = record::keep(store, segments)?;
        let mut size_bytes = 0;
        let placed = segments.iter().map(|segment| {
            size_bytes += segment.size_bytes;
            (size_bytes, *segment)
        });
        let segments = placed.collect();
        let open = Mutex::default();
        Some(Self(Arc::new(Parts {
            store: store.clone(),
            size_bytes,
            segments,
            open,
            _kept: kept,
        })))
    }

    /// The disks whose bytes these are.
    pub fn segments(&self) -> Vec<Segment> {
        self.0.segments.iter().map(|(_, segment)| *segment).collect()
    }

    /// The same, with what comes next brought into memory ahead of who reads in order.
    pub fn read_ahead(self, runtime: Handle) -> ReadAhead {
        let readers = Arc::new(Semaphore::new(AHEAD_READERS_MAX));
        ReadAhead { source: self, runtime, readers, run: Arc::default() }
    }

    /// The disk with the byte at `offset`, where in it that is, and how many more it has from there.
    fn at(&self, offset: u64) -> io::Result<(Arc<StoredDisk>, u64, u64)> {
        let parts = &self.0;
        let number = parts.segments.partition_point(|(end, _)| *end <= offset);
        let (end, segment) = parts.segments.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
        let left = end - offset;
        let disk = parts.disk(number, *segment)?;
        Ok((disk, segment.size_bytes - left, left))
    }

    fn check(&self, offset: u64, length: u64) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.0.size_bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Parts {
    fn disk(&self, number: usize, segment: Segment) -> io::Result<Arc<StoredDisk>> {
        let find = |open: &VecDeque<(usize, Arc<StoredDisk>)>| {
            open.iter().find(|(other, _)| *other == number).map(|(_, disk)| Arc::clone(disk))
        };
        if let Some(disk) = find(&lock(&self.open)) {
            return Ok(disk);
        }
        let disk = self.store.disk(segment.manifest).map_err(io::Error::other)?;
        let mut open = lock(&self.open);
        // Somebody else may have been faster.
        if let Some(disk) = find(&open) {
            return Ok(disk);
        }
        if open.len() >= OPEN_DISKS_MAX {
            open.pop_front();
        }
        open.push_back((number, Arc::clone(&disk)));
        Ok(disk)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source for ObjectSource {
    fn length_bytes(&self) -> u64 {
        self.0.size_bytes
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        self.check(offset, buf.len() as u64)?;
        while !buf.is_empty() {
            let (disk, place, left) = self.at(offset)?;
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let (part, after) = buf.split_at_mut(length);
            disk.read_at(place, part).map_err(io::Error::other)?;
            offset += length as u64;
            buf = after;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> io::Result<(u64, bool)> {
        let (disk, place, left) = self.at(offset)?;
        let extent = disk.extent_at(place).map_err(io::Error::other)?;
        Ok((extent.length_bytes.min(left), extent.kind == ExtentKind::Data))
    }
}

/// A source whose next bytes are in memory when they are asked for, if they are asked for in order. Clones share
/// what was read ahead.
///
/// What is read ahead goes through the store's cache, where whoever wants it first finds it: no byte is held here,
/// and nobody who jumps gets a wrong one. It reads ahead as much as was read in order, so that who looks at a few
/// places reads little.
#[derive(Clone)]
pub struct ReadAhead {
    source: ObjectSource,
    runtime: Handle,
    readers: Arc<Semaphore>,
    run: Arc<Mutex<Run>>,
}

/// Reads that went on where the one before ended.
#[derive(Default)]
struct Run {
    begin: u64,
    end: u64,
    /// The end of what was read ahead, or is being.
    fetched: u64,
}

impl Run {
    /// What to read ahead after a read of `range`.
    fn ahead(&mut self, range: Range<u64>, size_bytes: u64) -> Range<u64> {
        if range.start != self.end {
            *self = Self { begin: range.start, end: range.end, fetched: range.end };
        }
        self.end = range.end;
        let window = (range.end - self.begin).min(AHEAD_BYTES);
        let begin = self.fetched.max(range.end);
        if begin >= range.end + window / 2 {
            return begin..begin;
        }
        let end = range.end.saturating_add(window).min(size_bytes).max(begin);
        self.fetched = end;
        begin..end
    }
}

impl ReadAhead {
    fn fetch(&self, range: Range<u64>) {
        let mut position = range.start;
        while position < range.end {
            let end = ((position / AHEAD_PIECE_BYTES + 1) * AHEAD_PIECE_BYTES).min(range.end);
            // More than can be read at once is left to who wants it.
            let Ok(turn) = Arc::clone(&self.readers).try_acquire_owned() else { return };
            let (source, piece) = (self.source.clone(), position..end);
            self.runtime.spawn_blocking(move || {
                let mut bytes = vec![0; usize::try_from(piece.end - piece.start).unwrap_or(0)];
                // What cannot be read is told to who asks for it.
                let _ = source.read_at(piece.start, &mut bytes);
                drop(turn);
            });
            position = end;
        }
    }
}

impl Source for ReadAhead {
    fn length_bytes(&self) -> u64 {
        self.source.length_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.source.check(offset, buf.len() as u64)?;
        let range = offset..offset + buf.len() as u64;
        let ahead = lock(&self.run).ahead(range, self.source.length_bytes());
        self.fetch(ahead);
        self.source.read_at(offset, buf)
    }

    fn extent_at(&self, offset: u64) -> io::Result<(u64, bool)> {
        self.source.extent_at(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn reads_ahead_as_much_as_was_read_in_order_and_each_byte_once() {
        let (mut run, size_bytes) = (Run::default(), 64 << 20);
        let (mut ahead, mut position) = (0, 0);
        while position < size_bytes {
            let fetched = run.ahead(position..position + 64 * KIB, size_bytes);
            if !fetched.is_empty() {
                assert!(fetched.start >= ahead, "{fetched:?} again");
                ahead = fetched.end;
            }
            position += 64 * KIB;
            assert!(
                ahead <= size_bytes && ahead.saturating_sub(position) <= position.min(AHEAD_BYTES)
            );
        }
        assert_eq!(ahead, size_bytes);
    }

    #[test]
    fn who_jumps_reads_little_ahead() {
        let mut run = Run::default();
        for place in [0, 40 << 20, 10 << 20, 50 << 20] {
            let fetched = run.ahead(place..place + 4 * KIB, 64 << 20);
            assert!(fetched.end - fetched.start <= 4 * KIB);
        }
    }
}
