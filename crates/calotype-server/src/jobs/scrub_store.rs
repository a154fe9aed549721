//! Scrub: everything in the store is read again, damage is named and repaired, and a report is kept.

pub mod report;

use std::path::PathBuf;
use std::sync::Arc;

use calotype_api::error::ApiError;
use calotype_store::{ChunkSource, ErrorKind, ScrubOptions, Scrubbed, StoreCopy};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::report::{ScrubRecord, ScrubReport, holders};
use super::follow::follow;
use super::{JobRecord, Seed, Seeded, Step, StepContext, StepError, Workflow, seed};
use crate::db::{Batch, Error, Query};
use crate::region::Region;

/// What a scrub must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScrubStore {
    /// The most bytes per second that are read; none = as fast as it goes.
    rate_bytes_per_second: Option<u64>,
    /// The directory of another store with copies of what may be damaged.
    repair_from: Option<PathBuf>,
    /// Unpack everything.
    #[serde(default)]
    deep: bool,
    time_started: Timestamp,
}

impl ScrubStore {
    /// A scrub at most at this rate that looks for copies in the store in `repair_from`, too.
    pub fn new(rate_bytes_per_second: Option<u64>, repair_from: Option<PathBuf>) -> Self {
        Self { rate_bytes_per_second, repair_from, deep: false, time_started: Timestamp::now() }
    }

    /// One that unpacks everything and compares it with its name, not its checksum alone.
    #[must_use]
    pub fn deep(self, deep: bool) -> Self {
        Self { deep, ..self }
    }

    /// Whether one is under way or waits.
    pub async fn is_running(region: &Region) -> Result<bool, Error> {
        let jobs = region.db.list_all::<JobRecord>(Query::new()).await?;
        Ok(jobs.iter().any(|job| job.workflow == Self::NAME))
    }
}

impl Seeded for ScrubStore {
    fn seed(&self, region: &Region) -> Seed {
        seed(region, "Scrub Store", &region.tenancy, Vec::new())
    }
}

impl Workflow for ScrubStore {
    type Environment = Arc<Region>;

    const NAME: &'static str = "scrub_store";

    const STEPS: &'static [Step<Self>] =
        &[Step { name: "scrub", weight: 1, run: |context| Box::pin(scrub(context)), undo: None }];
}

async fn scrub(context: &mut StepContext<ScrubStore>) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let (follow, given_up) = follow(context.progress_handle());
    let (store, job) = (region.store.clone(), context.state.clone());
    let done = tokio::task::spawn_blocking(move || {
        let copy = job.repair_from.as_deref().map(StoreCopy::open).transpose()?;
        let also: Vec<&dyn ChunkSource> = copy.iter().map(|copy| copy as _).collect();
        let options = ScrubOptions {
            rate_bytes_per_second: job.rate_bytes_per_second,
            deep: job.deep,
            also: &also,
        };
        store.scrub(&options, &follow)
    })
    .await;
    drop(given_up);
    let scrubbed: Scrubbed = match done {
        Ok(Ok(scrubbed)) => scrubbed,
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => {
            let refusal = ApiError::invalid_parameter("repairFrom", error.to_string());
            return Err(StepError::Fail(refusal));
        }
        Ok(Err(error)) => return Err(StepError::fail("The store could not be read", &error)),
        Err(error) => return Err(StepError::retry("The store could not be read", &error)),
    };
    let report =
        ScrubReport::new(&scrubbed, &holders(&region.db).await?, context.state.time_started);
    tell(&report);
    context.log(report.summary());
    let record = ScrubRecord { report };
    let batch = match region.db.get::<ScrubRecord>(ScrubRecord::ID).await? {
        Some(mut last) => {
            last.value = record;
            Batch::new().replace(&last)
        }
        None => Batch::new().insert(&record),
    };
    context.write(batch);
    Ok(())
}

/// For the log: the operator may look at nothing else.
fn tell(report: &ScrubReport) {
    for affected in &report.affected {
        let (holder, is_repaired) = (&affected.holder, affected.is_repaired);
        tracing::error!(
            entity = %holder.entity_type,
            id = %holder.identifier,
            name = %holder.display_name,
            is_repaired,
            "a disk was damaged"
        );
    }
    tracing::info!(is_whole = report.is_whole, "scrubbed: {}", report.summary());
}
