//! Where tests make a job die, fail or repeat. Nothing here strikes unless it was asked to.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A moment in the life of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Index of the step.
    pub step: usize,
    /// Whether it is being undone.
    pub undoing: bool,
    /// Where in it.
    pub at: At,
}

/// A moment in the run of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Nothing of it has been done.
    Beginning,
    /// It has waited for something this many times, counted from 1.
    Inside(u32),
    /// All of it has been done, nothing of that is stored.
    End,
}

/// What happens to the job at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// Nothing.
    Spare,
    /// It stops dead, as when the process is killed.
    Die,
    /// The step fails.
    Fail,
    /// The step is run again from the state that was last stored.
    Repeat,
}

/// Decides what strikes when.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Decide>>);

type Decide = dyn Fn(Moment) -> Strike + Send + Sync;

impl Faults {
    /// Asks `decide` at every moment of every job.
    pub fn new(decide: impl Fn(Moment) -> Strike + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(decide)))
    }

    pub(super) fn strike(&self, moment: Moment) -> Strike {
        self.0.as_ref().map_or(Strike::Spare, |decide| decide(moment))
    }

    /// Runs `step`, cut off where a fault says so: `None`.
    pub(super) async fn inside<F: Future>(
        &self,
        step: usize,
        undoing: bool,
        run: F,
    ) -> Option<F::Output> {
        Cut { run: Box::pin(run), faults: self, step, undoing, waits: 0 }.await
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Faults" } else { "no faults" })
    }
}

struct Cut<'a, F> {
    run: Pin<Box<F>>,
    faults: &'a Faults,
    step: usize,
    undoing: bool,
    waits: u32,
}

impl<F: Future> Future for Cut<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.run.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        self.waits = self.waits.saturating_add(1);
        let at = At::Inside(self.waits);
        let moment = Moment { step: self.step, undoing: self.undoing, at };
        match self.faults.strike(moment) {
            Strike::Die => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}
