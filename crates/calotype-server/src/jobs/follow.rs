//! Long work of the store on a thread of its own, as the step sees it that waits for it: its progress is
//! the step's, and when the step is given up so is the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Progress;

/// For the thread, and for the step to keep for as long as it waits.
pub(super) fn follow(progress: Progress) -> (Follow, GiveUpOnDrop) {
    let given_up = Arc::new(AtomicBool::new(false));
    (Follow { progress, given_up: Arc::clone(&given_up) }, GiveUpOnDrop(given_up))
}

/// Tells the thread that nobody waits for it any more.
pub(super) struct GiveUpOnDrop(Arc<AtomicBool>);

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the thread tells, and asks.
pub(super) struct Follow {
    progress: Progress,
    given_up: Arc<AtomicBool>,
}

impl calotype_store::Progress for Follow {
    fn advance(&self, done_bytes: u64, total_bytes: u64) {
        self.progress.set(done_bytes as f64 / total_bytes.max(1) as f64);
    }

    fn cancelled(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}
