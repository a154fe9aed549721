//! The test that every workflow must pass: it is killed at, inside and after every step, every step
//! is repeated, it is made to fail before and after every step, and the unwinding is killed,
//! repeated and made to fail in the same way. After each the world must be as if the workflow had
//! simply succeeded, or as if it had never been.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use calotype_api::Ocid;
use calotype_api::work_requests::WorkRequestStatus;

use super::engine::{Engine, Settings, Workflows};
use super::faults::{At, Faults, Moment, Strike};
use super::record::{JobRecord, WorkRequestRecord};
use super::step::Workflow;
use crate::db::{Db, Query};

/// A step is killed inside at most at its first so many waits.
const WAITS_MAX: u32 = 24;
/// A scenario that takes longer than this hangs.
const SCENARIO_MAX: Duration = Duration::from_mins(2);

/// A fresh world for one run of a workflow.
pub trait World: Sized {
    /// The workflow under test.
    type Job: Workflow;

    /// The catalog of this world, as it is now.
    fn db(&self) -> Db;

    /// What the steps act on, as it is now.
    fn environment(&self) -> <Self::Job as Workflow>::Environment;

    /// Submits the job.
    fn submit(
        &self,
        engine: &Engine<<Self::Job as Workflow>::Environment>,
    ) -> impl Future<Output = Result<Ocid, String>>;

    /// The process was killed: forget what was in memory, open what is on disk.
    fn restart(&mut self) -> impl Future<Output = Result<(), String>>;

    /// What must hold when the job has ended this way.
    fn check(&self, outcome: Outcome) -> impl Future<Output = Result<(), String>>;
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Succeeded,
    /// All steps are undone.
    Failed,
}

/// Runs every scenario, each in a new world; gives their number, or what went wrong in which.
pub async fn torment<W: World>(make: impl AsyncFn() -> W) -> Result<usize, String> {
    let mut scenarios = 0;
    for scenario in plan::<W::Job>() {
        for waits in 1..=WAITS_MAX {
            let Scenario(blows) = &scenario;
            let blows: Vec<_> = blows.iter().map(|blow| blow.at_wait(waits)).collect();
            let described = Scenario(blows.clone());
            let run = run(make().await, blows);
            let all_struck = match tokio::time::timeout(SCENARIO_MAX, run).await {
                Ok(result) => result.map_err(|problem| format!("{described}: {problem}"))?,
                Err(_) => return Err(format!("{described}: hangs")),
            };
            scenarios += 1;
            // The step waited less often than that, or not at all: all its waits were tried.
            if !scenario.is_inside() || !all_struck {
                break;
            }
        }
    }
    Ok(scenarios)
}

/// What strikes in one run, each once, in this order.
struct Scenario(Vec<Blow>);

#[derive(Debug, Clone, Copy)]
struct Blow(Moment, Strike);

impl Blow {
    fn at_wait(self, waits: u32) -> Self {
        let Self(moment, strike) = self;
        match moment.at {
            At::Inside(_) => Self(Moment { at: At::Inside(waits), ..moment }, strike),
            _ => self,
        }
    }
}

impl Scenario {
    fn is_inside(&self) -> bool {
        self.0.iter().any(|Blow(moment, _)| matches!(moment.at, At::Inside(_)))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("left alone");
        }
        for (index, Blow(moment, strike)) in self.0.iter().enumerate() {
            let Moment { step, undoing, at } = moment;
            let then = if index == 0 { "" } else { ", then " };
            let way = if *undoing { "undoing" } else { "doing" };
            write!(f, "{then}{strike:?} at {at:?} of {way} step {step}")?;
        }
        Ok(())
    }
}

fn plan<J: Workflow>() -> Vec<Scenario> {
    let blow = |step, undoing, at, strike| Blow(Moment { step, undoing, at }, strike);
    let disturbances = [
        (At::Beginning, Strike::Die),
        (At::Inside(1), Strike::Die),
        (At::End, Strike::Die),
        (At::End, Strike::Repeat),
    ];
    let mut scenarios = vec![Scenario(Vec::new())];
    for step in 0..J::STEPS.len() {
        for (at, strike) in disturbances {
            scenarios.push(Scenario(vec![blow(step, false, at, strike)]));
        }
        for at in [At::Beginning, At::End] {
            scenarios.push(Scenario(vec![blow(step, false, at, Strike::Fail)]));
        }
        // Killed half way through the step, then failed: undoing finds half of it done.
        scenarios.push(Scenario(vec![
            blow(step, false, At::Inside(1), Strike::Die),
            blow(step, false, At::Beginning, Strike::Fail),
        ]));
    }
    let Some(last) = J::STEPS.len().checked_sub(1) else { return scenarios };
    for (step, _) in J::STEPS.iter().enumerate().filter(|(_, step)| step.undo.is_some()) {
        for (at, strike) in disturbances.into_iter().chain([(At::End, Strike::Fail)]) {
            scenarios.push(Scenario(vec![
                blow(last, false, At::End, Strike::Fail),
                blow(step, true, at, strike),
            ]));
        }
    }
    scenarios
}

/// Runs one scenario; `true` if everything struck.
async fn run<W: World>(mut world: W, blows: Vec<Blow>) -> Result<bool, String> {
    let lives = blows.len() + 1;
    let left = Arc::new(Mutex::new(blows.clone()));
    let mut engine = engine(&world, &left);
    engine.resume_all(world.environment()).await.map_err(|error| error.to_string())?;
    let id = world.submit(&engine).await?;
    for _ in 0..lives {
        engine.idle().await;
        if is_finished(&world, &id).await? {
            break;
        }
        drop(engine);
        world.restart().await?;
        engine = self::engine(&world, &left);
        engine.resume_all(world.environment()).await.map_err(|error| error.to_string())?;
    }
    let left = left.lock().unwrap_or_else(PoisonError::into_inner).len();
    let struck = &blows[..blows.len() - left];
    let failed =
        struck.iter().any(|Blow(moment, strike)| *strike == Strike::Fail && !moment.undoing);
    let outcome = if failed { Outcome::Failed } else { Outcome::Succeeded };
    check_catalog(&world, &id, outcome).await?;
    world.check(outcome).await?;
    Ok(left == 0)
}

fn engine<W: World>(
    world: &W,
    left: &Arc<Mutex<Vec<Blow>>>,
) -> Engine<<W::Job as Workflow>::Environment> {
    let left = Arc::clone(left);
    let faults = Faults::new(move |moment| {
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        match left.first() {
            Some(Blow(next, strike)) if *next == moment => {
                let strike = *strike;
                left.remove(0);
                strike
            }
            _ => Strike::Spare,
        }
    });
    let settings = Settings {
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(10),
        faults,
        ..Settings::default()
    };
    Engine::new(world.db(), Workflows::new().with::<W::Job>(), settings)
}

async fn is_finished<W: World>(world: &W, id: &Ocid) -> Result<bool, String> {
    let request = world.db().get::<WorkRequestRecord>(id.as_str()).await;
    let request = request.map_err(|error| error.to_string())?;
    Ok(request.is_some_and(|request| request.is_finished()))
}

async fn check_catalog<W: World>(world: &W, id: &Ocid, outcome: Outcome) -> Result<(), String> {
    let db = world.db();
    let jobs = db.list_all::<JobRecord>(Query::new()).await.map_err(|error| error.to_string())?;
    if let Some(job) = jobs.first() {
        return Err(format!("a job is left over: {:?}", job.value));
    }
    let request = db.get::<WorkRequestRecord>(id.as_str()).await;
    let Some(request) = request.map_err(|error| error.to_string())? else {
        return Err("the work request is gone".to_owned());
    };
    let resource = &request.resource;
    let right = match outcome {
        Outcome::Succeeded => {
            resource.status == WorkRequestStatus::Succeeded
                && resource.percent_complete >= 100.0
                && request.errors.is_empty()
        }
        Outcome::Failed => {
            resource.status == WorkRequestStatus::Failed && !request.errors.is_empty()
        }
    };
    if right { Ok(()) } else { Err(format!("expected {outcome:?}, found {:?}", request.value)) }
}
