//! What the catalog holds of a job. The job's document exists exactly as long as the work is not
//! finished; the work request stays and tells how it ended.

use calotype_api::Ocid;
use calotype_api::error::ApiError;
use calotype_api::work_requests::{
    ActionType, WorkRequest, WorkRequestError, WorkRequestLogEntry, WorkRequestResource,
    WorkRequestStatus,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::db::Document;

/// Most lines kept in the log of a work request; the oldest go first.
const LOG_ENTRIES_MAX: usize = 200;

/// What a work request is about, as its submitter says it.
#[derive(Debug, Clone)]
pub struct Seed {
    /// Its id, a new one.
    pub id: Ocid,
    /// What clients read, for example `Launch Instance`.
    pub operation_type: String,
    /// Where it is listed.
    pub compartment_id: Ocid,
    /// What it concerns, with what will have been done to it in the end.
    pub resources: Vec<WorkRequestResource>,
}

/// A work request as clients follow it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkRequestRecord {
    /// The work request as clients see it.
    pub resource: WorkRequest,
    /// What happened, oldest first.
    pub logs: Vec<WorkRequestLogEntry>,
    /// Why it failed.
    pub errors: Vec<WorkRequestError>,
    /// What will have been done to each resource; shown as IN_PROGRESS until it has.
    outcome: Vec<ActionType>,
}

impl WorkRequestRecord {
    pub(super) fn accepted(seed: Seed, now: Timestamp) -> Self {
        let outcome = seed.resources.iter().map(|resource| resource.action_type).collect();
        let mut resources = seed.resources;
        for resource in &mut resources {
            if resource.action_type != ActionType::Related {
                resource.action_type = ActionType::InProgress;
            }
        }
        let resource = WorkRequest {
            id: seed.id,
            compartment_id: seed.compartment_id,
            operation_type: seed.operation_type,
            percent_complete: 0.0,
            resources,
            status: WorkRequestStatus::Accepted,
            time_accepted: now.into(),
            time_finished: None,
            time_started: None,
        };
        Self { resource, logs: Vec::new(), errors: Vec::new(), outcome }
    }

    /// Of what was done in the very batch that it is written with.
    pub fn done(seed: Seed, now: Timestamp) -> Self {
        let mut record = Self::accepted(seed, now);
        record.started(now);
        record.succeeded(now);
        record
    }

    /// Whether nothing more will happen.
    pub fn is_finished(&self) -> bool {
        self.resource.time_finished.is_some()
    }

    pub(super) fn started(&mut self, now: Timestamp) {
        self.resource.status = WorkRequestStatus::InProgress;
        self.resource.time_started.get_or_insert(now.into());
    }

    /// Progress only grows: a step that is repeated does not take back what was shown.
    pub(super) fn progressed(&mut self, percent: f64) {
        let shown = (percent.clamp(0.0, 100.0) * 100.0).round() / 100.0;
        self.resource.percent_complete = self.resource.percent_complete.max(shown);
    }

    pub(super) fn log(&mut self, entries: impl IntoIterator<Item = WorkRequestLogEntry>) {
        self.logs.extend(entries);
        let surplus = self.logs.len().saturating_sub(LOG_ENTRIES_MAX);
        self.logs.drain(..surplus);
    }

    pub(super) fn error(&mut self, failure: &ApiError, now: Timestamp) {
        self.errors.push(WorkRequestError {
            code: failure.code.to_string(),
            message: failure.message.clone(),
            timestamp: now.into(),
        });
    }

    pub(super) fn succeeded(&mut self, now: Timestamp) {
        self.progressed(100.0);
        for (resource, action) in self.resource.resources.iter_mut().zip(&self.outcome) {
            resource.action_type = *action;
        }
        self.resource.status = WorkRequestStatus::Succeeded;
        self.resource.time_finished = Some(now.into());
    }

    pub(super) fn failed(&mut self, now: Timestamp) {
        self.resource.status = WorkRequestStatus::Failed;
        self.resource.time_finished = Some(now.into());
    }
}

impl Document for WorkRequestRecord {
    const KIND: &'static str = "work_request";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.status.to_string())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_accepted.timestamp()
    }
}

/// A job that is not finished, under the id of its work request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The work request that shows it.
    pub work_request_id: Ocid,
    /// Name of the workflow.
    pub workflow: String,
    /// The workflow's own state.
    pub state: serde_json::Value,
    /// How far it is.
    pub phase: Phase,
    /// Which engine runs it: one that finds another name here has lost the job to it.
    pub runner: String,
    /// When it was submitted.
    pub time_created: Timestamp,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The steps before `next` are done.
    Doing {
        /// Index of the step to do next.
        next: usize,
    },
    /// It failed; the steps before `left` are still to be undone, last first.
    Undoing {
        /// How many steps are left to undo.
        left: usize,
        /// Why it failed.
        failure: ApiError,
    },
}

impl Document for JobRecord {
    const KIND: &'static str = "job";

    fn id(&self) -> String {
        self.work_request_id.to_string()
    }

    fn state(&self) -> Option<String> {
        let state = match self.phase {
            Phase::Doing { .. } => "DOING",
            Phase::Undoing { .. } => "UNDOING",
        };
        Some(state.to_owned())
    }

    fn name(&self) -> Option<String> {
        Some(self.workflow.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}
