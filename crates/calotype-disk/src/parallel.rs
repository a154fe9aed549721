//! Many pieces of work of one read, on all cores.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use crate::Result;

/// Fewer pieces than this for each core are not worth another thread.
const PIECES_PER_CORE_MIN: usize = 4;

/// Does `work` on all of `pieces`, each thread with a state that `start` makes; the first failure
/// ends all.
pub(crate) fn for_each<P: Send, S>(
    pieces: Vec<P>,
    start: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, P) -> Result<()> + Sync,
) -> Result<()> {
    if pieces.is_empty() {
        return Ok(());
    }
    let helpers =
        (pieces.len() / PIECES_PER_CORE_MIN).min(cores()).saturating_sub(1).min(HELPERS_MAX);
    let queue = Mutex::new(Queue { pieces: pieces.into_iter(), failed: None });
    let take = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.failed.is_some() { None } else { queue.pieces.next() }
    };
    let run = || -> Result<()> {
        let Some(mut piece) = take() else { return Ok(()) };
        let mut state = start()?;
        loop {
            work(&mut state, piece)?;
            match take() {
                Some(next) => piece = next,
                None => return Ok(()),
            }
        }
    };
    let run = || {
        if let Err(error) = run() {
            queue.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert(error);
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            // Where no thread is to be had, this one does it all.
            if thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    let failed = queue.into_inner().unwrap_or_else(PoisonError::into_inner).failed;
    failed.map_or(Ok(()), Err)
}

struct Queue<P> {
    pieces: std::vec::IntoIter<P>,
    failed: Option<crate::Error>,
}

/// Asked once: the answer is looked up in files.
/// More helpers than this read no faster, and each has a stack.
const HELPERS_MAX: usize = 15;
const STACK_BYTES: usize = 256 << 10;

fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}
