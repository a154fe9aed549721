//! Power: on, off, and off and on again in the ways that OCI has. Every start makes the machine anew.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use serde::{Deserialize, Serialize};

use super::records::instance;
use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, guest, resource, seed};
use crate::config::GuestConfig;
use crate::records::InstanceRecord;
use crate::region::Region;

/// What is done to an instance's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// On.
    Start,
    /// Off, at once.
    Stop,
    /// Off by the guest itself; by force when it takes too long.
    SoftStop,
    /// Off at once, then on.
    Reset,
    /// Off by the guest itself, then on.
    SoftReset,
    /// Off at once, then on as a machine that is made anew.
    DiagnosticReboot,
    /// Off by the guest itself, then on where there is room: here.
    RebootMigrate,
}

impl Action {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Start, "START"),
        (Self::Stop, "STOP"),
        (Self::SoftStop, "SOFTSTOP"),
        (Self::Reset, "RESET"),
        (Self::SoftReset, "SOFTRESET"),
        (Self::DiagnosticReboot, "DIAGNOSTICREBOOT"),
        (Self::RebootMigrate, "REBOOTMIGRATE"),
    ];

    /// The action of that name.
    pub fn parse(name: &str) -> Result<Self, ApiError> {
        let found = Self::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        found.map(|(action, _)| *action).ok_or_else(|| {
            let allowed: Vec<_> = Self::ALL.iter().map(|(_, name)| *name).collect();
            ApiError::invalid_parameter("action", format!("must be one of {}", allowed.join(", ")))
        })
    }

    fn stops(self) -> bool {
        self != Self::Start
    }

    fn starts(self) -> bool {
        !matches!(self, Self::Stop | Self::SoftStop)
    }

    fn is_soft(self) -> bool {
        matches!(self, Self::SoftStop | Self::SoftReset | Self::RebootMigrate)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(action, _)| action == self);
        formatter.write_str(found.map_or("", |(_, name)| name))
    }
}

/// What a power action must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PowerInstance {
    instance_id: Ocid,
    compartment_id: Ocid,
    action: Action,
    soft_stop_seconds: u64,
}

impl PowerInstance {
    /// `action` on `instance`, which is STARTING or STOPPING in the job's batch.
    pub fn new(instance: &InstanceRecord, action: Action, config: &GuestConfig) -> Self {
        Self {
            instance_id: instance.resource.id.clone(),
            compartment_id: instance.resource.compartment_id.clone(),
            action,
            soft_stop_seconds: config.soft_stop_seconds,
        }
    }
}

impl Seeded for PowerInstance {
    fn seed(&self, region: &Region) -> Seed {
        let resources =
            vec![resource("instance", "instances", ActionType::Updated, &self.instance_id)];
        seed(region, &format!("{} Instance", self.action), &self.compartment_id, resources)
    }
}

impl Workflow for PowerInstance {
    type Environment = Arc<Region>;

    const NAME: &'static str = "power_instance";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "stop guest",
            weight: 50,
            run: |context| Box::pin(stop(context)),
            undo: Some(|context| Box::pin(settle(context))),
        },
        Step {
            name: "start guest",
            weight: 45,
            run: |context| Box::pin(start(context)),
            undo: None,
        },
        Step { name: "publish", weight: 5, run: |context| Box::pin(settle(context)), undo: None },
    ];
}

type Context = StepContext<PowerInstance>;

async fn stop(context: &mut Context) -> Result<(), StepError> {
    if !context.state.action.stops() {
        return Ok(());
    }
    let region = Arc::clone(&context.environment);
    let instance = instance(&region, &context.state.instance_id).await?;
    let soft = Duration::from_secs(context.state.soft_stop_seconds);
    let grace = context.state.action.is_soft().then_some(soft);
    let _lock = region.guests.lock(&context.state.instance_id).await;
    guest::stop(&region, &instance, grace).await.map(drop)
}

async fn start(context: &mut Context) -> Result<(), StepError> {
    if !context.state.action.starts() {
        return Ok(());
    }
    let region = Arc::clone(&context.environment);
    let _lock = region.guests.lock(&context.state.instance_id).await;
    guest::start(&region, &context.state.instance_id).await
}

/// The instance is what its guest is: RUNNING or STOPPED. Also how a failed action ends.
async fn settle(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let id = &context.state.instance_id;
    let _lock = region.guests.lock(id).await;
    let from = [InstanceState::Starting, InstanceState::Stopping];
    let settled = region.guests.settle(&region, id, &from).await;
    settled.map_err(|error| StepError::retry("The instance could not be published", &error))
}
