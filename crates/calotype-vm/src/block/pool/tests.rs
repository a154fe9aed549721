//! Who reads what, and that nobody is left waiting.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use calotype_disk::{Error, ErrorKind, Extent, ExtentKind};

use super::*;

/// A disk whose reads wait until the gate is open, and are counted.
#[derive(Default)]
struct Gated {
    open: Mutex<bool>,
    opened: Condvar,
    reads: AtomicUsize,
    panics: AtomicBool,
}

impl Gated {
    fn open(&self) {
        *lock(&self.open) = true;
        self.opened.notify_all();
    }
}

impl Disk for Gated {
    fn size_bytes(&self) -> u64 {
        1 << 20
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics.swap(false, Ordering::SeqCst), "on purpose");
        drop(self.opened.wait_while(lock(&self.open), |open| !*open).unwrap());
        if offset == 13 {
            return Err(Error::new(ErrorKind::Corrupt, "damaged on purpose"));
        }
        buf.fill(offset as u8);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { length_bytes: self.size_bytes() - offset, kind: ExtentKind::Data })
    }
}

fn pool(threads_max: usize) -> Pool {
    let (state, work, left) = (Mutex::default(), Condvar::new(), Condvar::new());
    Pool { shared: Arc::new(Shared { threads_max, state, work, left }) }
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

#[test]
fn every_piece_is_read_once_whoever_reads_it() {
    let disk = Arc::new(Gated::default());
    disk.open();
    let pool = pool(3);
    let reading = |offset| Reading::new(disk.clone(), offset, 10);
    let readings: Vec<_> = (0..200).map(reading).collect();
    for reading in &readings {
        pool.submit(reading);
    }
    for (offset, reading) in readings.iter().enumerate() {
        match reading.finish() {
            Ok(bytes) => assert_eq!(*bytes, [offset as u8; 10]),
            Err(error) => assert_eq!((offset, error.kind()), (13, ErrorKind::Corrupt)),
        }
    }
    assert_eq!(disk.reads.load(Ordering::SeqCst), 200);
}

#[test]
fn a_busy_pool_keeps_nobody_waiting() {
    let blocked = Arc::new(Gated::default());
    let pool = pool(1);
    let stuck = Reading::new(blocked.clone(), 0, 1);
    pool.submit(&stuck);
    until(|| blocked.reads.load(Ordering::SeqCst) == 1);
    let free = Arc::new(Gated::default());
    free.open();
    for offset in 0..2 * NBD_POOL_QUEUE_MAX as u64 {
        let reading = Reading::new(free.clone(), offset + 100, 1);
        pool.submit(&reading);
        assert!(reading.finish().is_ok());
    }
    assert!(lock(&pool.shared.state).queue.len() <= NBD_POOL_QUEUE_MAX);
    blocked.open();
    assert!(stuck.finish().is_ok());
}

#[test]
fn a_reader_that_panics_leaves_nobody_waiting() {
    let disk = Arc::new(Gated::default());
    disk.open();
    disk.panics.store(true, Ordering::SeqCst);
    let pool = pool(1);
    let reading = Reading::new(disk.clone(), 7, 1);
    pool.submit(&reading);
    until(|| disk.reads.load(Ordering::SeqCst) == 1);
    assert_eq!(*reading.finish().unwrap(), [7]);
    // The thread is replaced.
    until(|| lock(&pool.shared.state).threads == 0);
    let reading = Reading::new(disk.clone(), 8, 1);
    pool.submit(&reading);
    until(|| disk.reads.load(Ordering::SeqCst) == 3);
    assert_eq!(*reading.finish().unwrap(), [8]);
}

#[test]
fn a_closed_pool_reads_nothing_and_its_threads_end() {
    let disk = Arc::new(Gated::default());
    disk.open();
    let pool = pool(2);
    let reading = Reading::new(disk.clone(), 7, 1);
    pool.submit(&reading);
    until(|| disk.reads.load(Ordering::SeqCst) == 1);
    let shared = Arc::clone(&pool.shared);
    drop(pool);
    until(|| lock(&shared.state).threads == 0);
    assert!(lock(&shared.state).queue.is_empty());
}
