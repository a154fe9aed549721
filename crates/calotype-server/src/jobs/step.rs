//! A workflow is a constant list of steps; a step is what is done and what undoes it.

use std::error::Error as StdError;

use calotype_api::error::{ApiError, ErrorCode};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{JobRecord, Phase};
use super::report::Progress;
use crate::db::{self, Batch, Db, Document, Versioned};

/// How often a document is read again that others change.
const CHANGE_ATTEMPTS_MAX: u32 = 16;

/// A long action. The value itself is what the action must remember: it is stored with the
/// position after every step, and a step that is run again (after a crash, or a failure that may
/// pass) finds it as it was last stored.
///
/// So a step first decides, [saves](StepContext::save) what undoing it needs to know (the name of
/// the file it will make), and then acts; run again, it finds its own work and goes on.
pub trait Workflow: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// What the steps act on.
    type Environment: Clone + Send + Sync + 'static;

    /// Names the workflow in the catalog; never changes once released.
    const NAME: &'static str;

    /// The steps, in order. Jobs that were begun by an older release are continued by position:
    /// steps are only ever added at the end, or the workflow gets a new name.
    const STEPS: &'static [Step<Self>];

    /// When the step that runs is cut off and the workflow unwinds, if that applies (still).
    fn deadline(&self) -> Option<Deadline> {
        None
    }
}

/// A moment after which a workflow has failed.
#[derive(Debug, Clone)]
pub struct Deadline {
    /// The moment.
    pub at: Timestamp,
    /// What it has failed of.
    pub failure: ApiError,
}

/// What a step does: a function of this form, `|context| Box::pin(reserve(context))`.
pub type Act<W> = for<'a> fn(&'a mut StepContext<W>) -> BoxFuture<'a, Result<(), StepError>>;

/// One step of a workflow. Doing and undoing are idempotent: either may be cut off at any point and
/// run again, and a step is also undone when it was only half done.
pub struct Step<W: Workflow> {
    /// Names the step in logs.
    pub name: &'static str,
    /// Share of the whole that it takes, beside the weights of the other steps.
    pub weight: u32,
    /// Does it.
    pub run: Act<W>,
    /// Undoes it, whether or not it was completed. `None` if there is nothing to undo.
    pub undo: Option<Act<W>>,
}

/// Why a step was not completed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StepError {
    /// The workflow has failed: what was done is undone.
    #[error("{0}")]
    Fail(ApiError),
    /// It may work in a moment; after a few times it has failed.
    #[error("{0}")]
    Retry(ApiError),
}

impl StepError {
    /// Something failed beneath that may pass. The cause goes to the log, not to the caller.
    pub fn retry(what: &str, cause: &dyn StdError) -> Self {
        tracing::warn!(error = %chain(cause), "{what}");
        Self::Retry(ApiError::new(ErrorCode::InternalServerError, what))
    }

    /// Something failed beneath for good. The cause goes to the log, not to the caller.
    pub fn fail(what: &str, cause: &dyn StdError) -> Self {
        tracing::error!(error = %chain(cause), "{what}");
        Self::Fail(ApiError::new(ErrorCode::InternalServerError, what))
    }
}

impl From<ApiError> for StepError {
    /// A rule that says no says no again; what failed beneath the rules, or because somebody else wrote, may pass.
    fn from(error: ApiError) -> Self {
        match error.code {
            ErrorCode::Conflict
            | ErrorCode::InternalServerError
            | ErrorCode::ServiceUnavailable
            | ErrorCode::TooManyRequests => Self::Retry(error),
            _ => Self::Fail(error),
        }
    }
}

impl From<db::Error> for StepError {
    fn from(error: db::Error) -> Self {
        match error.kind {
            // Someone else wrote: run again, the step reads and decides again.
            db::ErrorKind::Conflict { .. } => Self::Retry(ApiError::conflict(&error)),
            db::ErrorKind::Full | db::ErrorKind::Engine => {
                Self::retry("The catalog could not be written", &error)
            }
            _ => Self::fail("The catalog could not be read", &error),
        }
    }
}

/// An error with all its causes, for the log.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What a step is given.
pub struct StepContext<W: Workflow> {
    /// What it acts on.
    pub environment: W::Environment,
    /// What the workflow remembers. Stored when the step is done, and by [`Self::save`].
    pub state: W,
    pub(super) db: Db,
    pub(super) job: Versioned<JobRecord>,
    pub(super) written_with: Batch,
    /// Let go when that is written.
    pub(super) kept: Vec<Box<dyn Send + Sync>>,
    pub(super) progress: Progress,
}

impl<W: Workflow> StepContext<W> {
    /// Stores the state now, and `batch` with it, or neither: what undoing must know is stored
    /// before it is done.
    pub async fn save(&mut self, batch: Batch) -> Result<(), StepError> {
        let stored = std::mem::replace(&mut self.job.value.state, encode(&self.state)?);
        if let Err(error) = self.db.apply(batch.replace(&self.job)).await {
            self.job.value.state = stored;
            return Err(error.into());
        }
        self.job.version += 1;
        Ok(())
    }

    /// [Saves](Self::save) a change of a document as that is by now; answers it as it is then. Nobody who changes it
    /// meanwhile has the step run again.
    pub async fn change<T: Document>(
        &mut self,
        id: &str,
        change: impl Fn(&mut T) -> Result<(), StepError>,
    ) -> Result<Versioned<T>, StepError> {
        let mut attempt = 1;
        loop {
            let mut document = super::records::found::<T>(&self.db, id).await?;
            change(&mut document.value)?;
            match self.save(Batch::new().replace(&document)).await {
                Ok(()) => {
                    document.version += 1;
                    return Ok(document);
                }
                Err(StepError::Retry(error))
                    if error.code == ErrorCode::Conflict && attempt < CHANGE_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds to what is written in one batch with the completion of this step. If that batch meets a
    /// conflict the step is run again.
    pub fn write(&mut self, batch: Batch) {
        self.written_with = std::mem::take(&mut self.written_with).and(batch);
    }

    /// Keeps something, such as what protects a disk from collection, until what is written with the
    /// completion of this step is written, or never will be.
    pub fn keep(&mut self, what: impl Send + Sync + 'static) {
        self.kept.push(Box::new(what));
    }

    /// Tells how much of this step is done, between 0 and 1. Costs nothing: it is stored now and then.
    pub fn progress(&self, fraction: f64) {
        self.progress.set(fraction);
    }

    /// The same for code that runs elsewhere, such as a thread that copies.
    pub fn progress_handle(&self) -> Progress {
        self.progress.clone()
    }

    /// Adds a line to the log of the work request, for the user to read.
    pub fn log(&self, message: impl Into<String>) {
        self.progress.log(message);
    }

    /// The work request that shows this job.
    pub fn work_request_id(&self) -> &calotype_api::Ocid {
        &self.job.work_request_id
    }

    /// Why the workflow is being undone; `None` while it is being done.
    pub fn failure(&self) -> Option<&ApiError> {
        match &self.job.phase {
            Phase::Doing { .. } => None,
            Phase::Undoing { failure, .. } => Some(failure),
        }
    }
}

pub(super) fn encode<W: Workflow>(state: &W) -> Result<serde_json::Value, StepError> {
    serde_json::to_value(state)
        .map_err(|error| StepError::fail("The state of the workflow could not be stored", &error))
}
