//! Progress and log lines travel from a running step to its work request without slowing the step:
//! they are kept in memory and stored a few times a second at most.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use calotype_api::work_requests::WorkRequestLogEntry;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::record::WorkRequestRecord;
use crate::db::{Batch, Db, Versioned};

/// Most lines that wait to be stored; a step that logs in a loop loses the oldest, not the memory.
const WAITING_LINES_MAX: usize = 200;

/// How far the running step is, and what it has to say. Cheap to clone, usable from any thread.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Bits of an `f64` between 0 and 1.
    fraction: AtomicU64,
    lines: Mutex<Vec<WorkRequestLogEntry>>,
}

impl Progress {
    /// Tells how much of the step is done, between 0 and 1.
    pub fn set(&self, fraction: f64) {
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        self.0.fraction.store(fraction.to_bits(), Ordering::Relaxed);
    }

    /// Adds a line to the log of the work request.
    pub fn log(&self, message: impl Into<String>) {
        let entry =
            WorkRequestLogEntry { message: message.into(), timestamp: Timestamp::now().into() };
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= WAITING_LINES_MAX {
            lines.remove(0);
        }
        lines.push(entry);
    }

    pub(super) fn fraction(&self) -> f64 {
        f64::from_bits(self.0.fraction.load(Ordering::Relaxed))
    }

    pub(super) fn take_lines(&self) -> Vec<WorkRequestLogEntry> {
        std::mem::take(&mut *self.0.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Stores the progress of a step while it runs.
pub(super) struct Reporter<'a> {
    pub(super) db: &'a Db,
    pub(super) request: &'a mut Versioned<WorkRequestRecord>,
    pub(super) progress: &'a Progress,
    pub(super) interval: Duration,
    /// Percents at the beginning and at the end of the step.
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Reporter<'_> {
    /// Runs until `stop` is notified, and is then in step with the catalog. Not to be dropped
    /// before: a write that is cut off leaves it unknown which version is stored.
    pub(super) async fn run(mut self, stop: &Notify) {
        loop {
            tokio::select! {
                biased;
                () = stop.notified() => return,
                () = tokio::time::sleep(self.interval) => self.store().await,
            }
        }
    }

    async fn store(&mut self) {
        let percent = self.from + (self.to - self.from) * self.progress.fraction();
        let mut next = self.request.clone();
        next.value.progressed(percent);
        next.value.log(self.progress.take_lines());
        if next.value == self.request.value {
            return;
        }
        match self.db.apply(Batch::new().replace(&next)).await {
            Ok(()) => {
                next.version += 1;
                *self.request = next;
            }
            Err(error) => {
                // Shown later: the lines stay in the record, which the end of the step stores.
                self.request.value = next.value;
                tracing::warn!(error = %super::step::chain(&error), "cannot store progress");
            }
        }
    }
}
