//! Workflows that make files, and what the harness says of them: an honest one passes, and each of
//! the usual mistakes is found.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use calotype_api::Ocid;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::db::conformance::Card;
use crate::db::{Batch, Db, Query};
use crate::jobs::harness::{Outcome, World, torment};
use crate::jobs::{Engine, Seed, Step, StepContext, StepError, Workflow};

/// What the toy workflows act on.
#[derive(Clone)]
pub(super) struct Yard {
    pub(super) db: Db,
    pub(super) directory: PathBuf,
}

pub(super) fn new_id() -> Ocid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("ocid1.coreservicesworkrequest.oc99.home-1.{next}").parse().unwrap()
}

pub(super) fn seed() -> Seed {
    Seed {
        id: new_id(),
        operation_type: "Make Files".to_owned(),
        compartment_id: "ocid1.compartment.oc99..a".parse().unwrap(),
        resources: Vec::new(),
    }
}

pub(super) struct Place<W> {
    yard: Yard,
    directory: Arc<TempDir>,
    job: W,
}

impl<W: Workflow<Environment = Yard>> Place<W> {
    async fn new(job: W) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let db = Db::open(&directory.path().join("db")).await.unwrap();
        let yard = Yard { db, directory: directory.path().to_owned() };
        Self { yard, directory, job }
    }
}

impl<W: Workflow<Environment = Yard>> World for Place<W> {
    type Job = W;

    fn db(&self) -> Db {
        self.yard.db.clone()
    }

    fn environment(&self) -> Yard {
        self.yard.clone()
    }

    async fn submit(&self, engine: &Engine<Yard>) -> Result<Ocid, String> {
        let submitted = engine.submit(self.job.clone(), seed(), Batch::new()).await;
        submitted.map_err(|error| error.to_string())
    }

    async fn restart(&mut self) -> Result<(), String> {
        self.yard.db = Db::open(&self.directory.path().join("db")).await.unwrap();
        Ok(())
    }

    async fn check(&self, outcome: Outcome) -> Result<(), String> {
        let db = &self.yard.db;
        let cards = db.list_all::<Card>(Query::new()).await.map_err(|error| error.to_string())?;
        let files = std::fs::read_dir(self.directory.path()).unwrap();
        let files: Vec<_> = files
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "made"))
            .collect();
        let expected = match outcome {
            Outcome::Succeeded => (1, 2),
            Outcome::Failed => (0, 0),
        };
        if (cards.len(), files.len()) != expected {
            return Err(format!("{} cards, files {files:?}", cards.len()));
        }
        match cards.first() {
            Some(card) if card.count != 1 => Err(format!("counted {}", card.count)),
            _ => Ok(()),
        }
    }
}

/// Makes a file of a name it chooses, a card, and another file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Honest {
    file: Option<String>,
    card: Option<String>,
}

/// At once: what a runtime's threads do goes on after the future that asked for it was cut off, and a
/// process that is killed does not.
fn make(path: &Path) -> Result<(), StepError> {
    std::fs::write(path, b"made").map_err(|error| StepError::retry("cannot write", &error))
}

fn remove(path: &Path) -> Result<(), StepError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StepError::retry("cannot remove", &error))
        }
        _ => Ok(()),
    }
}

impl Honest {
    async fn make_file(context: &mut StepContext<Self>) -> Result<(), StepError> {
        if context.state.file.is_none() {
            context.state.file = Some(format!("{}.made", new_id()));
            context.save(Batch::new()).await?;
        }
        tokio::task::yield_now().await;
        make(&Self::path(context))
    }

    async fn unmake_file(context: &mut StepContext<Self>) -> Result<(), StepError> {
        if context.state.file.is_none() {
            return Ok(());
        }
        tokio::task::yield_now().await;
        remove(&Self::path(context))
    }

    async fn add_card(context: &mut StepContext<Self>) -> Result<(), StepError> {
        let mut card = Card::new(new_id().as_str(), 1);
        card.count = 1;
        context.state.card = Some(card.id.clone());
        tokio::task::yield_now().await;
        context.write(Batch::new().insert(&card));
        Ok(())
    }

    async fn remove_card(context: &mut StepContext<Self>) -> Result<(), StepError> {
        let Some(id) = &context.state.card else { return Ok(()) };
        if let Some(card) = context.environment.db.get::<Card>(id).await? {
            context.write(Batch::new().delete(&card));
        }
        Ok(())
    }

    async fn make_second(context: &mut StepContext<Self>) -> Result<(), StepError> {
        assert!(Self::path(context).exists());
        make(&context.environment.directory.join("second.made"))?;
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn remove_second(context: &mut StepContext<Self>) -> Result<(), StepError> {
        tokio::task::yield_now().await;
        remove(&context.environment.directory.join("second.made"))
    }

    fn path(context: &StepContext<Self>) -> PathBuf {
        context.environment.directory.join(context.state.file.as_deref().unwrap())
    }
}

impl Workflow for Honest {
    type Environment = Yard;
    const NAME: &'static str = "honest";
    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "make the file",
            weight: 5,
            run: |context| Box::pin(Self::make_file(context)),
            undo: Some(|context| Box::pin(Self::unmake_file(context))),
        },
        Step {
            name: "add the card",
            weight: 1,
            run: |context| Box::pin(Self::add_card(context)),
            undo: Some(|context| Box::pin(Self::remove_card(context))),
        },
        Step {
            name: "make the second file",
            weight: 4,
            run: |context| Box::pin(Self::make_second(context)),
            undo: Some(|context| Box::pin(Self::remove_second(context))),
        },
    ];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_workflow_survives_everything() {
    let scenarios = torment(async || Place::new(Honest::default()).await).await.unwrap();
    assert!(scenarios >= 40, "only {scenarios} scenarios");
}

/// Makes the usual mistakes, one at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Careless {
    mistake: Mistake,
    file: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Mistake {
    None,
    /// Acts before it has stored what undoing needs.
    ActsFirst,
    /// Counts once more when it is repeated.
    CountsAgain,
    /// Does not undo what was only half done.
    KeepsHalf,
}

impl Careless {
    async fn make_files(context: &mut StepContext<Self>) -> Result<(), StepError> {
        let directory = context.environment.directory.clone();
        if context.state.file.is_none() {
            let file = format!("{}.made", new_id());
            context.state.file = Some(file);
            if context.state.mistake != Mistake::ActsFirst {
                context.save(Batch::new()).await?;
            }
        }
        make(&directory.join("second.made"))?;
        // Several, so that one of the harness's cuts falls between whatever storing above took.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        make(&directory.join(context.state.file.as_deref().unwrap()))
    }

    async fn remove_files(context: &mut StepContext<Self>) -> Result<(), StepError> {
        let directory = context.environment.directory.clone();
        let Some(file) = context.state.file.clone() else { return Ok(()) };
        tokio::task::yield_now().await;
        let half = !directory.join(&file).exists();
        if half && context.state.mistake == Mistake::KeepsHalf {
            return Ok(());
        }
        remove(&directory.join("second.made"))?;
        remove(&directory.join(file))
    }

    async fn count(context: &mut StepContext<Self>) -> Result<(), StepError> {
        let db = context.environment.db.clone();
        match db.get::<Card>("card").await? {
            None => {
                let card = Card { count: 1, ..Card::new("card", 1) };
                db.apply(Batch::new().insert(&card)).await?;
            }
            Some(mut card) if context.state.mistake == Mistake::CountsAgain => {
                card.count += 1;
                db.apply(Batch::new().replace(&card)).await?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn discount(context: &mut StepContext<Self>) -> Result<(), StepError> {
        let db = context.environment.db.clone();
        if let Some(card) = db.get::<Card>("card").await? {
            db.apply(Batch::new().delete(&card)).await?;
        }
        Ok(())
    }
}

impl Workflow for Careless {
    type Environment = Yard;
    const NAME: &'static str = "careless";
    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "make the files",
            weight: 1,
            run: |context| Box::pin(Self::make_files(context)),
            undo: Some(|context| Box::pin(Self::remove_files(context))),
        },
        Step {
            name: "count",
            weight: 1,
            run: |context| Box::pin(Self::count(context)),
            undo: Some(|context| Box::pin(Self::discount(context))),
        },
    ];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_harness_finds_every_mistake() {
    let torment = async |mistake| {
        let careless = Careless { mistake, file: None };
        torment(async || Place::new(careless.clone()).await).await
    };
    torment(Mistake::None).await.unwrap();
    for mistake in [Mistake::ActsFirst, Mistake::CountsAgain, Mistake::KeepsHalf] {
        let Err(problem) = torment(mistake).await else { panic!("{mistake:?} was not found") };
        assert!(problem.contains("step"), "{problem}");
    }
}
