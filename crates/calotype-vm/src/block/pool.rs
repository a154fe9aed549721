//! Threads that read ahead for connections: a client that asks for much at once keeps more than one
//! processor busy.
//!
//! They only ever read disks. They never write to a client, so none can hold them up, and what they
//! have not begun when its turn comes the connection does itself: nobody waits for a busy pool.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use calotype_disk::{Disk, Result, SharedBytes};

use super::lock;
use crate::limits::{NBD_POOL_QUEUE_MAX, NBD_POOL_THREADS_MAX};

/// A piece that is to be read, by whoever comes first.
pub(super) struct Reading {
    disk: Arc<dyn Disk>,
    pub(super) offset: u64,
    pub(super) length: usize,
    progress: Mutex<Progress>,
    done: Condvar,
}

enum Progress {
    Waiting,
    Begun,
    Done(Result<SharedBytes>),
    Taken,
}

impl Reading {
    pub(super) fn new(disk: Arc<dyn Disk>, offset: u64, length: usize) -> Arc<Self> {
        let (progress, done) = (Mutex::new(Progress::Waiting), Condvar::new());
        Arc::new(Self { disk, offset, length, progress, done })
    }

    /// Whether nobody has begun it; from now on the caller has.
    fn begin(&self) -> bool {
        let mut progress = lock(&self.progress);
        let waiting = matches!(*progress, Progress::Waiting);
        if waiting {
            *progress = Progress::Begun;
        }
        waiting
    }

    fn read(&self) -> Result<SharedBytes> {
        self.disk.read_piece(self.offset, self.length)
    }

    /// Reads it now if nobody has begun; whether it did.
    pub(super) fn carry_out(&self) -> bool {
        if !self.begin() {
            return false;
        }
        let abandoned = Abandoned(self);
        let result = self.read();
        *lock(&self.progress) = Progress::Done(result);
        drop(abandoned);
        true
    }

    /// Whether [`Reading::finish`] has to wait for somebody.
    pub(super) fn is_begun(&self) -> bool {
        matches!(*lock(&self.progress), Progress::Begun)
    }

    /// What was read, once; reads it now if nobody has begun.
    pub(super) fn finish(&self) -> Result<SharedBytes> {
        if self.begin() {
            return self.read();
        }
        let begun = |progress: &mut Progress| matches!(progress, Progress::Begun);
        let progress = self.done.wait_while(lock(&self.progress), begun);
        let mut progress = progress.unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *progress, Progress::Taken) {
            Progress::Done(result) => result,
            // Abandoned by a reader that panicked.
            _ => self.read(),
        }
    }
}

/// Wakes who waits for a reading, also if it panicked.
struct Abandoned<'a>(&'a Reading);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let mut progress = lock(&self.0.progress);
        if matches!(*progress, Progress::Begun) {
            *progress = Progress::Taken;
        }
        self.0.done.notify_all();
    }
}

/// Threads shared by all connections of a server; they are started when first needed, and end when
/// it is dropped.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    threads_max: usize,
    state: Mutex<State>,
    work: Condvar,
    /// A thread has ended.
    left: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Reading>>,
    threads: usize,
    idle: usize,
    closing: bool,
}

impl Pool {
    /// Two threads for each processor: at times one waits for the disk or a server.
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads_max = (2 * processors).min(NBD_POOL_THREADS_MAX);
        let (state, work, left) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self { shared: Arc::new(Shared { threads_max, state, work, left }) }
    }

    /// Has `reading` done soon, or not at all.
    pub(super) fn submit(&self, reading: &Arc<Reading>) {
        let mut state = lock(&self.shared.state);
        if state.closing || state.queue.len() >= NBD_POOL_QUEUE_MAX {
            return;
        }
        state.queue.push_back(Arc::clone(reading));
        if state.queue.len() <= state.idle || state.threads == self.shared.threads_max {
            self.shared.work.notify_one();
        } else {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("nbd-read".into());
            // Without the thread the connections read for themselves.
            if thread.spawn(move || work(&shared)).is_ok() {
                state.threads += 1;
            }
        }
    }

    /// Ends the threads as soon as they have read what they have begun, and waits for that until
    /// `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        let mut state = lock(&self.shared.state);
        state.closing = true;
        state.queue.clear();
        self.shared.work.notify_all();
        let remaining = deadline.saturating_duration_since(Instant::now());
        let _ = self.shared.left.wait_timeout_while(state, remaining, |state| state.threads > 0);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close(Instant::now());
    }
}

fn work(shared: &Shared) {
    let _left = Left(shared);
    loop {
        let mut state = lock(&shared.state);
        let reading = loop {
            if state.closing {
                return;
            }
            if let Some(reading) = state.queue.pop_front() {
                break reading;
            }
            state.idle += 1;
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        };
        drop(state);
        reading.carry_out();
    }
}

/// Makes room for another thread when one ends, however it ends.
struct Left<'a>(&'a Shared);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).threads -= 1;
        self.0.left.notify_all();
    }
}

#[cfg(test)]
mod tests;
