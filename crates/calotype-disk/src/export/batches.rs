//! A disk read ahead on all cores, in batches, and what was made of each handed on in order.
//!
//! ```text
//! extents ─► order ─────────────────► take, in the order of the disk ─► buffers
//!        └─► jobs ─► workers: read, work ─┘
//! ```
//! The order has few places: they bound the memory, and the extents wait for them.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::limits::{EXPORT_WORKERS_MAX, VIRTUAL_SIZE_BYTES_MAX};
use crate::{Disk, Error, ErrorKind, ExtentKind, Result};

/// A part of the disk that has data: its offset, and its bytes up to whole blocks.
pub(crate) struct Batch {
    /// A multiple of the batches' size.
    pub(crate) offset: u64,
    /// All of the batch, but less at the end of the disk: whole blocks, zeros behind the disk.
    pub(crate) bytes: Vec<u8>,
}

/// Where a batch will come from, and what was made of it.
type Answer<T> = Receiver<Result<(Batch, T)>>;

struct Job<T> {
    offset: u64,
    answer: SyncSender<Result<(Batch, T)>>,
}

/// Makes something of every batch of `disk` that has data, on all cores, and has it taken in order.
///
/// `batch_bytes` is a multiple of `block_bytes`. Every worker has a state of its own. The first
/// failure ends it all.
pub(crate) fn each_batch<S, T: Send>(
    disk: &dyn Disk,
    (batch_bytes, block_bytes): (u64, u64),
    state: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, &Batch) -> Result<T> + Sync,
    mut take: impl FnMut(&Batch, T) -> Result<()>,
) -> Result<()> {
    // One more than cores, so that they have work while one waits for the disk.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = cores.min(EXPORT_WORKERS_MAX) + 1;
    let (to_order, order) = mpsc::sync_channel(workers);
    let (to_jobs, jobs) = mpsc::channel();
    let jobs = Mutex::new(jobs);
    let buffers = Mutex::new(Vec::new());
    let reader = Reader { disk, batch_bytes, block_bytes, buffers: &buffers };
    let worker = || {
        let mut state = state();
        while let Some(job) = next(&jobs) {
            let made = reader.read(job.offset).and_then(|batch| match &mut state {
                Ok(state) => work(state, &batch).map(|made| (batch, made)),
                Err(error) => Err(Error::new(error.kind(), error.to_string())),
            });
            // Nobody hears it when the work has failed already.
            let _ = job.answer.send(made);
        }
    };
    thread::scope(|scope| {
        let starts = Starts { disk, batch_bytes, offset: 0, data_end: 0 };
        scope.spawn(move || find_batches(starts, &to_order, &to_jobs));
        for _ in 0..workers {
            scope.spawn(worker);
        }
        for answer in order {
            let answer: Answer<T> = answer;
            let made = answer.recv().map_err(|_| Error::new(ErrorKind::Io, "a worker is gone"))?;
            let (batch, made) = made?;
            take(&batch, made)?;
            buffers.lock().unwrap_or_else(PoisonError::into_inner).push(batch.bytes);
        }
        Ok(())
    })
}

/// Has every batch taken that is not of zeros only, in order, with the CRC-32C of its bytes.
pub(crate) fn each_nonzero(
    disk: &dyn Disk,
    sizes: (u64, u64),
    mut take: impl FnMut(&Batch, u32) -> Result<()>,
) -> Result<()> {
    let work = |(): &mut (), batch: &Batch| {
        Ok((!is_zero(&batch.bytes)).then(|| crc32c::crc32c(&batch.bytes)))
    };
    each_batch(
        disk,
        sizes,
        || Ok(()),
        work,
        |batch, checksum| match checksum {
            Some(checksum) => take(batch, checksum),
            None => Ok(()),
        },
    )
}

fn next<T>(jobs: &Mutex<Receiver<Job<T>>>) -> Option<Job<T>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Reads batches, into memory that was used before: new memory costs more than reading.
struct Reader<'a> {
    disk: &'a dyn Disk,
    batch_bytes: u64,
    block_bytes: u64,
    buffers: &'a Mutex<Vec<Vec<u8>>>,
}

impl Reader<'_> {
    fn read(&self, offset: u64) -> Result<Batch> {
        let length = self.batch_bytes.min(self.disk.size_bytes().saturating_sub(offset));
        let buffer = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = buffer.unwrap_or_default();
        bytes.resize(length.next_multiple_of(self.block_bytes) as usize, 0);
        if let Some((inside, behind)) = bytes.split_at_mut_checked(length as usize) {
            self.disk.read_at(offset, inside)?;
            behind.fill(0);
        }
        Ok(Batch { offset, bytes })
    }
}

/// Sends every batch with data on its way; ends early when nobody waits for them any more.
fn find_batches<T>(starts: Starts<'_>, order: &SyncSender<Answer<T>>, jobs: &Sender<Job<T>>) {
    for start in starts {
        let (answer, answered) = mpsc::sync_channel(1);
        if order.send(answered).is_err() {
            return;
        }
        match start {
            // There is a worker for as long as there may be jobs.
            Ok(offset) => drop(jobs.send(Job { offset, answer })),
            Err(error) => drop(answer.send(Err(error))),
        }
    }
}

/// The offsets of the batches that have data, in order; the last thing after a failure.
struct Starts<'a> {
    disk: &'a dyn Disk,
    batch_bytes: u64,
    /// Of the next batch.
    offset: u64,
    /// Of the run of data in which the next batch lies, if it lies in one.
    data_end: u64,
}

impl Iterator for Starts<'_> {
    type Item = Result<u64>;

    fn next(&mut self) -> Option<Result<u64>> {
        if self.offset >= self.data_end {
            match data_from(self.disk, self.offset) {
                Ok(None) => return None,
                Ok(Some((start, end))) => {
                    self.offset = start - start % self.batch_bytes;
                    self.data_end = end;
                }
                Err(error) => {
                    self.offset = u64::MAX;
                    return Some(Err(error));
                }
            }
        }
        let start = self.offset;
        self.offset = start.saturating_add(self.batch_bytes);
        Some(Ok(start))
    }
}

/// The first run of data at or behind `offset`, by its start and end.
fn data_from(disk: &dyn Disk, mut offset: u64) -> Result<Option<(u64, u64)>> {
    while offset < disk.size_bytes() {
        let extent = disk.extent_at(offset)?;
        let end = offset.saturating_add(extent.length_bytes);
        if extent.length_bytes == 0 || end > VIRTUAL_SIZE_BYTES_MAX {
            return Err(Error::new(ErrorKind::Corrupt, format!("no sound run at offset {offset}")));
        }
        if extent.kind == ExtentKind::Data {
            return Ok(Some((offset, end)));
        }
        offset = end;
    }
    Ok(None)
}

/// Whether there are only zeros, found at the speed of memory.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Blocks without a branch inside, which the compiler makes wide instructions of.
    let (blocks, rest) = bytes.as_chunks::<256>();
    blocks.iter().all(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        for length in [1, 255, 256, 257, 1000] {
            assert!(is_zero(&vec![0; length]));
            for place in 0..length {
                let mut bytes = vec![0; length];
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = 1;
                }
                assert!(!is_zero(&bytes));
            }
        }
    }
}
