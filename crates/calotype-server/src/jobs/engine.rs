//! Runs jobs: what was accepted is finished or undone, whatever happens to the process.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use calotype_api::Ocid;
use calotype_api::error::{ApiError, ErrorCode};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument as _;
use uuid::Uuid;

use super::faults::Faults;
use super::record::{JobRecord, Phase, Seed, WorkRequestRecord};
use super::run::{Parted, Run};
use super::step::{Workflow, chain};
use crate::db::{self, Batch, Db, Document as _, Query};

/// The workflows that an engine knows, by name.
pub struct Workflows<E> {
    known: BTreeMap<&'static str, Drive<E>>,
}

type Drive<E> = fn(Arc<Shared<E>>, E, String) -> BoxFuture<'static, Parted>;

impl<E: Clone + Send + Sync + 'static> Workflows<E> {
    /// None yet.
    pub const fn new() -> Self {
        Self { known: BTreeMap::new() }
    }

    /// Adds `W`; its jobs can then be submitted, and are resumed at the start.
    #[must_use]
    pub fn with<W: Workflow<Environment = E>>(mut self) -> Self {
        let before = self.known.insert(W::NAME, |shared, environment, id| {
            Box::pin(async move {
                match Run::<W>::claim(shared, environment, &id).await {
                    Some(run) => run.drive().await,
                    None => Parted::Lost,
                }
            })
        });
        debug_assert!(before.is_none(), "two workflows are called {}", W::NAME);
        self
    }
}

impl<E: Clone + Send + Sync + 'static> Default for Workflows<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// How an engine behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often a step is tried that asks to be tried again, before the workflow has failed.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for each further.
    pub backoff_first: Duration,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
    /// Least time between two stored reports of the progress of a step.
    pub progress_interval: Duration,
    /// Faults to inject; none outside of tests.
    pub faults: Faults,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts: 8,
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            progress_interval: Duration::from_millis(250),
            faults: Faults::default(),
        }
    }
}

impl Settings {
    /// The wait after so many attempts, counted from 1.
    pub(super) fn backoff(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        self.backoff_first.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}

/// Runs the jobs of one catalog. Cheap to clone; when the last clone is dropped all its jobs stop
/// where they are, as they would if the process were killed.
#[derive(Clone)]
pub struct Engine<E> {
    shared: Arc<Shared<E>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What the engine and its jobs share. Holds no task, so that dropping the engine stops them.
pub(super) struct Shared<E> {
    pub(super) db: Db,
    pub(super) settings: Settings,
    /// Names this engine in the jobs it runs.
    pub(super) name: String,
    known: BTreeMap<&'static str, Drive<E>>,
    environment: Mutex<Option<E>>,
    running: Mutex<HashSet<String>>,
    stopping: watch::Sender<bool>,
    /// Counts jobs let go of.
    parted: watch::Sender<u64>,
}

impl<E> Shared<E> {
    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits; `false` at once when the engine stops.
    pub(super) async fn pause(&self, wait: Duration) -> bool {
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}

impl<E: Clone + Send + Sync + 'static> Engine<E> {
    /// An engine that keeps its jobs in `db`. It runs nothing before [`Self::resume_all`].
    pub fn new(db: Db, workflows: Workflows<E>, settings: Settings) -> Self {
        let shared = Shared {
            db,
            settings,
            name: Uuid::new_v4().to_string(),
            known: workflows.known,
            environment: Mutex::new(None),
            running: Mutex::new(HashSet::new()),
            stopping: watch::Sender::new(false),
            parted: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared), tasks: Arc::default() }
    }

    /// Begins to run jobs, first all that are not finished; gives their number.
    ///
    /// The steps act on `environment`; the engine holds it until [`Self::stop`].
    pub async fn resume_all(&self, environment: E) -> Result<usize, db::Error> {
        *lock(&self.shared.environment) = Some(environment);
        let jobs = self.shared.db.list_all::<JobRecord>(Query::new()).await?;
        let mut resumed = 0;
        // Oldest first.
        for job in jobs.iter().rev() {
            if self.spawn(&job.workflow, job.id()) {
                resumed += 1;
            }
        }
        Ok(resumed)
    }

    /// Accepts a job: it, its work request and the caller's own documents in `batch` are written
    /// together or not at all, so that what is acknowledged is durable. Then it runs by itself.
    /// Gives the id of the work request.
    pub async fn submit<W: Workflow<Environment = E>>(
        &self,
        workflow: W,
        seed: Seed,
        batch: Batch,
    ) -> Result<Ocid, db::Error> {
        let now = Timestamp::now();
        let id = seed.id.clone();
        let state = serde_json::to_value(&workflow).map_err(|error| db::Error {
            kind: db::ErrorKind::Unwritable { kind: W::NAME.to_owned(), id: id.to_string() },
            source: Some(Box::new(error)),
        })?;
        let job = JobRecord {
            work_request_id: id.clone(),
            workflow: W::NAME.to_owned(),
            state,
            phase: Phase::Doing { next: 0 },
            runner: String::new(),
            time_created: now,
        };
        let request = WorkRequestRecord::accepted(seed, now);
        self.shared.db.apply(batch.insert(&job).insert(&request)).await?;
        self.spawn(W::NAME, id.to_string());
        Ok(id)
    }

    /// Waits until the job of this work request is finished.
    pub async fn wait(&self, work_request_id: &Ocid) -> Result<WorkRequestRecord, ApiError> {
        let mut parted = self.shared.parted.subscribe();
        loop {
            parted.mark_unchanged();
            let request = self.shared.db.get::<WorkRequestRecord>(work_request_id.as_str()).await;
            let request = request.map_err(|error| {
                tracing::error!(error = %chain(&error), "cannot read the work request");
                ApiError::internal()
            })?;
            match request {
                None => return Err(ApiError::not_authorized_or_not_found()),
                Some(request) if request.is_finished() => return Ok(request.value),
                Some(_) => {}
            }
            if parted.changed().await.is_err() {
                return Err(ApiError::new(ErrorCode::ServiceUnavailable, "The region stops"));
            }
        }
    }

    /// Waits until no job runs: each is finished, or was let go of.
    pub async fn idle(&self) {
        let mut parted = self.shared.parted.subscribe();
        loop {
            parted.mark_unchanged();
            if lock(&self.shared.running).is_empty() || parted.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops between steps, waiting at most `grace` for the steps that run; those are cut off
    /// then. The next start goes on with what is not finished.
    pub async fn stop(&self, grace: Duration) {
        self.shared.stopping.send_replace(true);
        if tokio::time::timeout(grace, self.idle()).await.is_err() {
            tracing::warn!("steps did not end in time and are cut off");
        }
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
        *lock(&self.shared.environment) = None;
    }

    /// Runs the job in the background, unless it runs already or the engine is not (or no more)
    /// running; then the next start does.
    fn spawn(&self, workflow: &str, id: String) -> bool {
        let Some(drive) = self.shared.known.get(workflow) else {
            // Left as it is for a release that knows it.
            tracing::error!(workflow, job = id, "there is no such workflow");
            return false;
        };
        let Some(environment) = lock(&self.shared.environment).clone() else { return false };
        if self.shared.is_stopping() || !lock(&self.shared.running).insert(id.clone()) {
            return false;
        }
        let running = Running { shared: Arc::clone(&self.shared), id: id.clone() };
        let span = tracing::info_span!("job", workflow, id);
        let run = drive(Arc::clone(&self.shared), environment, id);
        let task = async move {
            let parted = run.await;
            tracing::info!(?parted, "the job was let go of");
            drop(running);
        };
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task.instrument(span));
        true
    }
}

impl<E> fmt::Debug for Engine<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// Stands for a running job, however it ends.
struct Running<E> {
    shared: Arc<Shared<E>>,
    id: String,
}

impl<E> Drop for Running<E> {
    fn drop(&mut self) {
        lock(&self.shared.running).remove(&self.id);
        self.shared.parted.send_modify(|count| *count += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
