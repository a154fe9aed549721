//! What the engine promises whatever the workflow does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::work_requests::{ActionType, WorkRequestResource, WorkRequestStatus};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::toy::{new_id, seed};
use crate::db::conformance::Card;
use crate::db::{Batch, Db, Query};
use crate::jobs::{
    Deadline, Engine, JobRecord, Phase, Seed, Settings, Step, StepContext, StepError,
    WorkRequestRecord, Workflow, Workflows,
};

/// What the scripted workflow acts on: it counts, and waits where it is told to.
#[derive(Clone, Default)]
struct Stage {
    runs: Arc<AtomicUsize>,
    undos: Arc<AtomicUsize>,
    entered: Arc<Notify>,
    leave: Arc<Notify>,
}

/// Does what its script says in its second step of three.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Scripted {
    script: Script,
    deadline: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Script {
    Succeed,
    Panic,
    RetryTwice,
    RetryForever,
    Wait,
    ReportHalf,
    MeetConflictOnce,
    UndoFailsTwice,
}

fn failure() -> ApiError {
    ApiError::new(ErrorCode::InternalError, "Out of host capacity.")
}

async fn act(context: &mut StepContext<Scripted>) -> Result<(), StepError> {
    let stage = context.environment.clone();
    let run = stage.runs.fetch_add(1, Ordering::SeqCst) + 1;
    match context.state.script {
        Script::Succeed => Ok(()),
        Script::Panic => panic!("as the script says"),
        Script::RetryTwice if run > 2 => Ok(()),
        Script::RetryTwice | Script::RetryForever => Err(StepError::Retry(failure())),
        Script::Wait => {
            stage.entered.notify_one();
            stage.leave.notified().await;
            Ok(())
        }
        Script::ReportHalf => {
            context.progress(0.5);
            context.log("half way");
            stage.entered.notify_one();
            stage.leave.notified().await;
            Ok(())
        }
        Script::MeetConflictOnce => {
            let id = if run == 1 { "taken" } else { "free" };
            context.write(Batch::new().insert(&Card::new(id, 1)));
            Ok(())
        }
        Script::UndoFailsTwice => Err(StepError::Fail(failure())),
    }
}

fn undo(context: &StepContext<Scripted>) -> Result<(), StepError> {
    assert_eq!(context.failure().map(|failure| failure.message.is_empty()), Some(false));
    let undos = context.environment.undos.fetch_add(1, Ordering::SeqCst) + 1;
    match context.state.script {
        Script::UndoFailsTwice if undos == 1 => panic!("cannot undo"),
        Script::UndoFailsTwice if undos == 2 => Err(StepError::Fail(failure())),
        _ => Ok(()),
    }
}

impl Workflow for Scripted {
    type Environment = Stage;
    const NAME: &'static str = "scripted";
    const STEPS: &'static [Step<Self>] = &[
        Step { name: "begin", weight: 1, run: |_| Box::pin(async { Ok(()) }), undo: None },
        Step {
            name: "act",
            weight: 2,
            run: |context| Box::pin(act(context)),
            undo: Some(|context| Box::pin(async { undo(context) })),
        },
        Step { name: "end", weight: 1, run: |_| Box::pin(async { Ok(()) }), undo: None },
    ];

    fn deadline(&self) -> Option<Deadline> {
        let failure = ApiError::new(ErrorCode::InternalError, "too late");
        self.deadline.map(|at| Deadline { at, failure })
    }
}

struct Theatre {
    db: Db,
    stage: Stage,
    engine: Engine<Stage>,
    directory: TempDir,
}

fn settings() -> Settings {
    Settings {
        attempts: 4,
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        progress_interval: Duration::from_millis(5),
        ..Settings::default()
    }
}

fn engine(db: &Db) -> Engine<Stage> {
    Engine::new(db.clone(), Workflows::new().with::<Scripted>(), settings())
}

impl Theatre {
    async fn open() -> Self {
        let directory = TempDir::new().unwrap();
        let db = Db::open(&directory.path().join("db")).await.unwrap();
        let stage = Stage::default();
        let engine = engine(&db);
        engine.resume_all(stage.clone()).await.unwrap();
        Self { db, stage, engine, directory }
    }

    async fn submit(&self, script: Script) -> calotype_api::Ocid {
        let job = Scripted { script, deadline: None };
        self.engine.submit(job, seed(), Batch::new()).await.unwrap()
    }

    async fn play(&self, script: Script) -> WorkRequestRecord {
        let id = self.submit(script).await;
        let record = self.engine.wait(&id).await.unwrap();
        assert!(self.jobs().await.is_empty());
        record
    }

    async fn jobs(&self) -> Vec<crate::db::Versioned<JobRecord>> {
        self.db.list_all(Query::new()).await.unwrap()
    }

    fn runs(&self) -> usize {
        self.stage.runs.load(Ordering::SeqCst)
    }
}

fn messages(record: &WorkRequestRecord) -> String {
    let messages: Vec<_> = record.logs.iter().map(|entry| entry.message.as_str()).collect();
    messages.join("\n")
}

#[tokio::test]
async fn shows_a_success_as_clients_wait_for_it() {
    let theatre = Theatre::open().await;
    let resource = |action_type, name: &str| WorkRequestResource {
        action_type,
        entity_type: name.to_owned(),
        entity_uri: None,
        identifier: format!("ocid1.{name}.oc99.home-1.a").parse().unwrap(),
    };
    let resources =
        vec![resource(ActionType::Created, "image"), resource(ActionType::Related, "instance")];
    let job = Scripted { script: Script::ReportHalf, deadline: None };
    let seed = Seed { resources, ..seed() };
    let id = theatre.engine.submit(job, seed, Batch::new()).await.unwrap();
    theatre.stage.entered.notified().await;
    let begun = theatre.db.get::<WorkRequestRecord>(id.as_str()).await.unwrap().unwrap();
    let actions = |record: &WorkRequestRecord| {
        record.resource.resources.iter().map(|one| one.action_type).collect::<Vec<_>>()
    };
    assert_eq!(begun.resource.status, WorkRequestStatus::InProgress);
    assert_eq!(actions(&begun), [ActionType::InProgress, ActionType::Related]);
    assert!(begun.resource.time_started.is_some() && begun.resource.time_finished.is_none());
    theatre.stage.leave.notify_one();
    let record = theatre.engine.wait(&id).await.unwrap();
    assert_eq!(record.resource.status, WorkRequestStatus::Succeeded);
    assert!((record.resource.percent_complete - 100.0).abs() < f64::EPSILON);
    assert_eq!(actions(&record), [ActionType::Created, ActionType::Related]);
    assert!(record.resource.time_finished >= record.resource.time_started);
    assert_eq!(messages(&record), "begin: done\nhalf way\nact: done\nend: done");
}

#[tokio::test]
async fn shows_the_progress_inside_a_step_before_it_ends() {
    let theatre = Theatre::open().await;
    let id = theatre.submit(Script::ReportHalf).await;
    theatre.stage.entered.notified().await;
    // A quarter for the first step, half of the half for this one.
    loop {
        let seen = theatre.db.get::<WorkRequestRecord>(id.as_str()).await.unwrap().unwrap();
        if (seen.resource.percent_complete - 50.0).abs() < 0.01 {
            assert!(messages(&seen).ends_with("half way"));
            break;
        }
        tokio::task::yield_now().await;
    }
    theatre.stage.leave.notify_one();
    theatre.engine.wait(&id).await.unwrap();
}

#[tokio::test]
async fn undoes_after_a_panic_and_tells_no_detail() {
    let theatre = Theatre::open().await;
    let record = theatre.play(Script::Panic).await;
    assert_eq!(record.resource.status, WorkRequestStatus::Failed);
    assert_eq!(record.errors.len(), 1);
    assert_eq!(record.errors[0].code, "InternalServerError");
    assert!(!record.errors[0].message.contains("script"));
    assert_eq!(theatre.stage.undos.load(Ordering::SeqCst), 1);
    assert!(record.resource.percent_complete < 100.0);
}

#[tokio::test]
async fn tries_again_what_may_pass_but_not_for_ever() {
    let theatre = Theatre::open().await;
    let record = theatre.play(Script::RetryTwice).await;
    assert_eq!(record.resource.status, WorkRequestStatus::Succeeded);
    assert_eq!(theatre.runs(), 3);
    assert!(messages(&record).contains("act: Out of host capacity.; trying again"));
    let record = theatre.play(Script::RetryForever).await;
    assert_eq!(record.resource.status, WorkRequestStatus::Failed);
    assert_eq!(theatre.runs(), 3 + 4);
    assert_eq!(record.errors[0].message, "Out of host capacity.");
}

#[tokio::test]
async fn runs_a_step_again_whose_documents_met_a_conflict() {
    let theatre = Theatre::open().await;
    theatre.db.apply(Batch::new().insert(&Card::new("taken", 1))).await.unwrap();
    let record = theatre.play(Script::MeetConflictOnce).await;
    assert_eq!(record.resource.status, WorkRequestStatus::Succeeded);
    assert_eq!(theatre.runs(), 2);
    assert!(theatre.db.get::<Card>("free").await.unwrap().is_some());
}

#[tokio::test]
async fn goes_on_undoing_until_it_works() {
    let theatre = Theatre::open().await;
    let record = theatre.play(Script::UndoFailsTwice).await;
    assert_eq!(record.resource.status, WorkRequestStatus::Failed);
    assert_eq!(theatre.stage.undos.load(Ordering::SeqCst), 3);
    assert_eq!(record.errors.len(), 1, "the reason it failed, not the trouble of undoing");
}

#[tokio::test]
async fn cuts_a_step_off_at_the_deadline_and_undoes() {
    let theatre = Theatre::open().await;
    let at = Timestamp::now() + Duration::from_millis(50);
    let job = Scripted { script: Script::Wait, deadline: Some(at) };
    let id = theatre.engine.submit(job, seed(), Batch::new()).await.unwrap();
    let record = theatre.engine.wait(&id).await.unwrap();
    assert_eq!(record.resource.status, WorkRequestStatus::Failed);
    assert_eq!(record.errors[0].message, "too late");
    assert!(Timestamp::now() >= at);
    assert_eq!(theatre.stage.undos.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn accepts_a_job_only_together_with_its_documents() {
    let theatre = Theatre::open().await;
    let card = Card::new("card", 1);
    theatre.db.apply(Batch::new().insert(&card)).await.unwrap();
    let job = Scripted { script: Script::Succeed, deadline: None };
    let refused = theatre.engine.submit(job, seed(), Batch::new().insert(&card)).await;
    assert!(refused.unwrap_err().is_conflict());
    assert!(theatre.jobs().await.is_empty());
    let requests = theatre.db.list_all::<WorkRequestRecord>(Query::new()).await.unwrap();
    assert!(requests.is_empty());
    assert_eq!(theatre.runs(), 0);
}

#[tokio::test]
async fn stops_between_steps_and_goes_on_after_the_next_start() {
    let theatre = Theatre::open().await;
    let id = theatre.submit(Script::Wait).await;
    theatre.stage.entered.notified().await;
    let stop = theatre.engine.stop(Duration::from_mins(1));
    let leave = async { theatre.stage.leave.notify_one() };
    tokio::join!(stop, leave);
    let jobs = theatre.jobs().await;
    assert_eq!(jobs[0].phase, Phase::Doing { next: 2 });
    // Accepted while nothing runs: durable all the same.
    let second = theatre.submit(Script::Succeed).await;
    let engine = engine(&theatre.db);
    assert_eq!(engine.resume_all(Stage::default()).await.unwrap(), 2);
    for id in [id, second] {
        let record = engine.wait(&id).await.unwrap();
        assert_eq!(record.resource.status, WorkRequestStatus::Succeeded);
    }
    assert_eq!(theatre.runs(), 1, "the step that was done is not run again");
}

#[tokio::test]
async fn cuts_off_a_step_that_outlasts_the_grace_and_runs_it_again() {
    let theatre = Theatre::open().await;
    let id = theatre.submit(Script::Wait).await;
    theatre.stage.entered.notified().await;
    theatre.engine.stop(Duration::from_millis(1)).await;
    assert_eq!(theatre.jobs().await[0].phase, Phase::Doing { next: 1 });
    let engine = engine(&theatre.db);
    theatre.stage.leave.notify_one();
    engine.resume_all(theatre.stage.clone()).await.unwrap();
    let record = engine.wait(&id).await.unwrap();
    assert_eq!(record.resource.status, WorkRequestStatus::Succeeded);
    assert_eq!(theatre.runs(), 2);
}

#[tokio::test]
async fn lets_go_of_a_job_that_another_engine_took_over() {
    let theatre = Theatre::open().await;
    let id = theatre.submit(Script::Wait).await;
    theatre.stage.entered.notified().await;
    let other_stage = Stage::default();
    let other = engine(&theatre.db);
    other.resume_all(other_stage.clone()).await.unwrap();
    other_stage.entered.notified().await;
    // The first ends its step only now: it must not move the job.
    theatre.stage.leave.notify_one();
    theatre.engine.idle().await;
    assert_eq!(theatre.jobs().await[0].phase, Phase::Doing { next: 1 });
    other_stage.leave.notify_one();
    let record = other.wait(&id).await.unwrap();
    assert_eq!(record.resource.status, WorkRequestStatus::Succeeded);
}

#[tokio::test]
async fn leaves_a_job_alone_that_it_does_not_know_or_cannot_read() {
    let theatre = Theatre::open().await;
    let mut job = JobRecord {
        work_request_id: new_id(),
        workflow: "of the future".to_owned(),
        state: serde_json::json!({"wings": 2}),
        phase: Phase::Doing { next: 0 },
        runner: String::new(),
        time_created: Timestamp::now(),
    };
    let unknown = job.clone();
    job.work_request_id = new_id();
    job.workflow = Scripted::NAME.to_owned();
    theatre.db.apply(Batch::new().insert(&unknown).insert(&job)).await.unwrap();
    let engine = engine(&theatre.db);
    engine.resume_all(Stage::default()).await.unwrap();
    engine.idle().await;
    assert_eq!(theatre.jobs().await.len(), 2);
    assert!(theatre.directory.path().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_many_jobs_at_once() {
    let theatre = Theatre::open().await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(theatre.submit(Script::Succeed).await);
    }
    for id in ids {
        let record = theatre.engine.wait(&id).await.unwrap();
        assert_eq!(record.resource.status, WorkRequestStatus::Succeeded);
    }
    assert_eq!(theatre.runs(), 50);
}
