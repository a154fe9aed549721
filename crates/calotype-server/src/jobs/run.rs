//! One job from where it stands to its end. The only code that moves a job.
//!
//! ```text
//!              step done            last step done
//!   Doing(0) ───────────> Doing(n) ────────────────> SUCCEEDED
//!                            │ step failed, deadline passed, panicked
//!                            v
//!              Undoing(n+1) ──> … ──> Undoing(0) ───> FAILED
//! ```
//!
//! Each arrow is one batch: the position, the workflow's state, the work request and what the step
//! wrote, all or nothing. Between two arrows anything may be cut off; the step is then run again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use calotype_api::error::ApiError;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::engine::Shared;
use super::faults::{At, Moment, Strike};
use super::record::{JobRecord, Phase, WorkRequestRecord};
use super::report::{Progress, Reporter};
use super::step::{Act, StepContext, StepError, Workflow, chain, encode};
use crate::db::{self, Batch, Document as _, Versioned};

const CHANGED: &str = "Changed by another request meanwhile";

/// Why the engine let go of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parted {
    /// It is finished.
    Finished,
    /// The engine stops; the next start goes on.
    Stopped,
    /// Another engine has it.
    Lost,
}

/// How one run of a step ended, if the job goes on at all.
enum Ended<W: Workflow> {
    Done(Box<StepContext<W>>),
    Failed(Box<StepContext<W>>, StepError),
}

/// A job that this engine runs.
pub(super) struct Run<W: Workflow> {
    shared: Arc<Shared<W::Environment>>,
    environment: W::Environment,
    job: Versioned<JobRecord>,
    request: Versioned<WorkRequestRecord>,
    state: W,
}

impl<W: Workflow> Run<W> {
    /// Takes the job over; `None` if it is finished, in other hands, or cannot be read (logged).
    pub(super) async fn claim(
        shared: Arc<Shared<W::Environment>>,
        environment: W::Environment,
        id: &str,
    ) -> Option<Self> {
        loop {
            match Self::try_claim(Arc::clone(&shared), environment.clone(), id).await {
                Ok(claimed) => return claimed,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot take over the job");
                    if !matches!(
                        error.kind,
                        db::ErrorKind::Conflict { .. }
                            | db::ErrorKind::Full
                            | db::ErrorKind::Engine
                    ) || !shared.pause(shared.settings.backoff(1)).await
                    {
                        return None;
                    }
                }
            }
        }
    }

    async fn try_claim(
        shared: Arc<Shared<W::Environment>>,
        environment: W::Environment,
        id: &str,
    ) -> Result<Option<Self>, db::Error> {
        let Some(mut job) = shared.db.get::<JobRecord>(id).await? else { return Ok(None) };
        let Some(mut request) = shared.db.get::<WorkRequestRecord>(id).await? else {
            tracing::error!("the job has no work request");
            return Ok(None);
        };
        let state = match serde_json::from_value(job.state.clone()) {
            Ok(state) => state,
            Err(error) => {
                // Left as it is for a release that can read it.
                tracing::error!(error = %chain(&error), "the job's state cannot be read");
                return Ok(None);
            }
        };
        job.value.runner.clone_from(&shared.name);
        request.value.started(Timestamp::now());
        shared.db.apply(Batch::new().replace(&job).replace(&request)).await?;
        job.version += 1;
        request.version += 1;
        Ok(Some(Self { shared, environment, job, request, state }))
    }

    /// Runs until the end, or until the engine stops.
    pub(super) async fn drive(mut self) -> Parted {
        loop {
            if self.shared.is_stopping() {
                return Parted::Stopped;
            }
            let parted = match self.job.phase.clone() {
                Phase::Doing { next } if next < W::STEPS.len() => self.do_step(next).await,
                Phase::Doing { .. } => self.advance_surely(None, Next::Succeeded).await,
                Phase::Undoing { left: 0, .. } => self.advance_surely(None, Next::Failed).await,
                Phase::Undoing { left, failure } => self.undo_step(left, failure).await,
            };
            if let Err(parted) = parted {
                return parted;
            }
        }
    }

    async fn do_step(&mut self, index: usize) -> Result<(), Parted> {
        let step = &W::STEPS[index];
        for attempt in 1.. {
            let (context, error) = match self.attempt(step.run, index, false).await? {
                Ended::Done(mut context) => {
                    context.log(format!("{}: done", step.name));
                    let next = if index + 1 == W::STEPS.len() {
                        Next::Succeeded
                    } else {
                        Next::Phase(Phase::Doing { next: index + 1 })
                    };
                    if self.advance(Some(&mut context), next).await? {
                        return Ok(());
                    }
                    // What the step wrote with its completion met a change of someone else.
                    (context, StepError::Retry(ApiError::conflict(CHANGED)))
                }
                Ended::Failed(context, error) => (context, error),
            };
            let failure = match error {
                StepError::Retry(failure) if attempt < self.shared.settings.attempts => {
                    let message = &failure.message;
                    context.log(format!("{}: {message}; trying again", step.name));
                    self.request.value.log(context.progress.take_lines());
                    self.pause(attempt).await?;
                    continue;
                }
                StepError::Retry(failure) | StepError::Fail(failure) => failure,
            };
            return self.begin_undoing(index, context, failure).await;
        }
        Ok(())
    }

    async fn begin_undoing(
        &mut self,
        index: usize,
        mut context: Box<StepContext<W>>,
        failure: ApiError,
    ) -> Result<(), Parted> {
        let name = W::STEPS[index].name;
        tracing::warn!(step = name, %failure, "the job has failed and is undone");
        context.log(format!("{name}: failed: {}", failure.message));
        // What a step that failed wanted written is not true, nor what it had not stored.
        context.written_with = Batch::new();
        context.state = self.state.clone();
        self.request.value.error(&failure, Timestamp::now());
        let phase = Phase::Undoing { left: index + 1, failure };
        self.advance_surely(Some(&mut context), Next::Phase(phase)).await
    }

    async fn undo_step(&mut self, left: usize, failure: ApiError) -> Result<(), Parted> {
        let index = left - 1;
        let step = &W::STEPS[index];
        let next = if index == 0 {
            Next::Failed
        } else {
            Next::Phase(Phase::Undoing { left: index, failure })
        };
        let Some(undo) = step.undo else { return self.advance_surely(None, next).await };
        for attempt in 1.. {
            let (context, message) = match self.attempt(undo, index, true).await? {
                Ended::Done(mut context) => {
                    context.log(format!("{}: undone", step.name));
                    if self.advance(Some(&mut context), next.clone()).await? {
                        return Ok(());
                    }
                    (context, CHANGED.to_owned())
                }
                Ended::Failed(context, error) => (context, error.to_string()),
            };
            // Undoing has no second line behind it: it goes on until it works, however long.
            tracing::error!(step = step.name, attempt, %message, "cannot undo, trying again");
            if attempt == 1 {
                context.log(format!("{}: cannot undo yet: {message}", step.name));
            }
            self.request.value.log(context.progress.take_lines());
            self.pause(attempt).await?;
        }
        Ok(())
    }

    /// Runs a step once, with its progress stored meanwhile.
    async fn attempt(
        &mut self,
        act: Act<W>,
        index: usize,
        undoing: bool,
    ) -> Result<Ended<W>, Parted> {
        loop {
            let mut context = Box::new(self.context());
            let faults = self.shared.settings.faults.clone();
            let moment = |at| Moment { step: index, undoing, at };
            let injected = || StepError::Fail(ApiError::conflict("A fault was injected"));
            match faults.strike(moment(At::Beginning)) {
                Strike::Die => return Err(Parted::Stopped),
                Strike::Fail => return Ok(Ended::Failed(context, injected())),
                Strike::Spare | Strike::Repeat => {}
            }
            let result = self.watch(act, index, undoing, &mut context).await?;
            self.job = context.job.clone();
            self.state = self.stored_state();
            match faults.strike(moment(At::End)) {
                Strike::Die => return Err(Parted::Stopped),
                Strike::Fail => return Ok(Ended::Failed(context, injected())),
                Strike::Repeat => continue,
                Strike::Spare => {}
            }
            return Ok(match result {
                Ok(()) => Ended::Done(context),
                Err(error) => Ended::Failed(context, error),
            });
        }
    }

    /// Runs the step's future beside the reporter and the deadline.
    async fn watch(
        &mut self,
        act: Act<W>,
        index: usize,
        undoing: bool,
        context: &mut StepContext<W>,
    ) -> Result<Result<(), StepError>, Parted> {
        let deadline = if undoing { None } else { context.state.deadline() };
        let handle = context.progress.clone();
        let (from, to) = if undoing { (0.0, 0.0) } else { span::<W>(index) };
        let shared = Arc::clone(&self.shared);
        let ended = Notify::new();
        let reporter = Reporter {
            db: &shared.db,
            request: &mut self.request,
            progress: &handle,
            interval: shared.settings.progress_interval,
            from,
            to,
        };
        let step = async {
            // Built inside, so that a panic while it is built is caught as well.
            let run = AssertUnwindSafe(async { act(context).await }).catch_unwind();
            let run = shared.settings.faults.inside(index, undoing, run);
            let result = tokio::select! {
                biased;
                result = run => match result {
                    Some(Ok(result)) => Some(result),
                    Some(Err(_)) => Some(Err(StepError::Fail(ApiError::internal()))),
                    None => None,
                },
                failure = passed(deadline) => Some(Err(StepError::Fail(failure))),
            };
            ended.notify_one();
            result
        };
        let (result, ()) = tokio::join!(step, reporter.run(&ended));
        result.ok_or(Parted::Stopped)
    }

    fn context(&self) -> StepContext<W> {
        StepContext {
            environment: self.environment.clone(),
            state: self.state.clone(),
            db: self.shared.db.clone(),
            job: self.job.clone(),
            written_with: Batch::new(),
            kept: Vec::new(),
            progress: Progress::default(),
        }
    }

    /// The state as the step last saved it, which is what a run after a crash would find.
    fn stored_state(&self) -> W {
        serde_json::from_value(self.job.state.clone()).unwrap_or_else(|_| self.state.clone())
    }

    /// Like [`Self::advance`], where nothing but the job itself is written: tried until it works.
    async fn advance_surely(
        &mut self,
        mut context: Option<&mut StepContext<W>>,
        next: Next,
    ) -> Result<(), Parted> {
        for attempt in 1.. {
            if self.advance(context.as_deref_mut(), next.clone()).await? {
                return Ok(());
            }
            self.pause(attempt).await?;
        }
        Ok(())
    }

    /// Stores the job's next position and everything that belongs to it in one batch. `false` if
    /// that failed: then nothing was written, and the job is still this engine's.
    async fn advance(
        &mut self,
        context: Option<&mut StepContext<W>>,
        next: Next,
    ) -> Result<bool, Parted> {
        let now = Timestamp::now();
        let mut job = self.job.clone();
        let mut request = self.request.clone();
        let mut batch = Batch::new();
        let mut state = self.state.clone();
        if let Some(context) = context {
            batch = std::mem::take(&mut context.written_with);
            state = context.state.clone();
            request.value.log(context.progress.take_lines());
        }
        match (encode(&state), &next) {
            (Ok(state), _) => job.value.state = state,
            // Undoing goes on with what was stored before.
            (Err(_), Next::Failed | Next::Phase(Phase::Undoing { .. })) => {}
            (Err(_), _) => return Ok(false),
        }
        let batch = match &next {
            Next::Phase(phase) => {
                if let Phase::Doing { next } = phase {
                    request.value.progressed(span::<W>(*next).0);
                }
                job.value.phase = phase.clone();
                batch.replace(&job)
            }
            Next::Succeeded => {
                request.value.succeeded(now);
                batch.delete(&job)
            }
            Next::Failed => {
                request.value.failed(now);
                batch.delete(&job)
            }
        };
        if let Err(error) = self.shared.db.apply(batch.replace(&request)).await {
            tracing::warn!(error = %chain(&error), "cannot store the position of the job");
            self.request.value.logs = request.value.logs;
            return if self.still_mine().await? { Ok(false) } else { Err(Parted::Lost) };
        }
        job.version += 1;
        request.version += 1;
        (self.job, self.request, self.state) = (job, request, state);
        if matches!(next, Next::Phase(_)) { Ok(true) } else { Err(Parted::Finished) }
    }

    /// After a failed write: whether the job is still this engine's, with the versions that are
    /// stored now. A write that was cut off may have reached the catalog after all.
    async fn still_mine(&mut self) -> Result<bool, Parted> {
        let id = self.job.id();
        for attempt in 1.. {
            let read = async {
                let job = self.shared.db.get::<JobRecord>(&id).await?;
                Ok::<_, db::Error>((job, self.shared.db.get::<WorkRequestRecord>(&id).await?))
            };
            match read.await {
                Ok((Some(job), Some(request))) if job.runner == self.shared.name => {
                    self.job.version = job.version;
                    self.request.version = request.version;
                    return Ok(true);
                }
                Ok(_) => return Ok(false),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot read the job");
                    self.pause(attempt).await?;
                }
            }
        }
        Ok(false)
    }

    async fn pause(&self, attempt: u32) -> Result<(), Parted> {
        let wait = self.shared.settings.backoff(attempt);
        if self.shared.pause(wait).await { Ok(()) } else { Err(Parted::Stopped) }
    }
}

/// Where a job goes.
#[derive(Clone)]
enum Next {
    Phase(Phase),
    Succeeded,
    Failed,
}

/// The percents at which a step begins and ends.
fn span<W: Workflow>(index: usize) -> (f64, f64) {
    let weight =
        |steps: &[super::Step<W>]| -> f64 { steps.iter().map(|step| f64::from(step.weight)).sum() };
    let total = weight(W::STEPS).max(1.0);
    let from = weight(&W::STEPS[..index.min(W::STEPS.len())]);
    let to = weight(&W::STEPS[..(index + 1).min(W::STEPS.len())]);
    (100.0 * from / total, 100.0 * to / total)
}

/// Waits until the deadline has passed; for ever without one.
async fn passed(deadline: Option<super::Deadline>) -> ApiError {
    let Some(deadline) = deadline else { return std::future::pending().await };
    loop {
        let left = Timestamp::now().duration_until(deadline.at);
        let Ok(left) = Duration::try_from(left) else { return deadline.failure };
        if left.is_zero() {
            return deadline.failure;
        }
        // In short pieces: a timer sleeps through a suspended machine, the deadline does not.
        tokio::time::sleep(left.min(Duration::from_secs(10))).await;
    }
}
