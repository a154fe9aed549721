//! Long actions: what was accepted is finished or undone, whatever happens to the process, and
//! can be followed as a work request with true percentages.
//!
//! A [`Workflow`] is a constant list of named steps, each with what it does and what undoes it. The
//! [`Engine`] runs it; its position is a document of the catalog, written in one batch with
//! whatever the step wrote, and after a crash the job goes on from there. `run.rs` draws the way
//! of a job; [`harness`] is the test that every workflow must pass.

pub mod capture_image;
pub mod clone_boot_volume;
pub mod collect;
mod commit;
pub mod delete_boot_volume;
pub mod delete_compartment;
pub mod delete_image;
pub mod delete_tag;
mod engine;
pub mod export_image;
mod faults;
mod follow;
pub mod grow_boot_volume;
mod guest;
pub mod harness;
pub mod import_image;
pub mod launch_instance;
mod layers;
pub mod power_instance;
mod record;
mod records;
pub mod register_platform_image;
mod report;
mod run;
pub mod scrub_store;
mod seed;
mod step;
pub mod terminate_instance;
#[cfg(test)]
mod tests;
pub mod update_instance;

pub use self::engine::{Engine, Settings, Workflows};
pub use self::faults::{At, Faults, Moment, Strike};
pub use self::record::{JobRecord, Phase, Seed, WorkRequestRecord};
pub use self::report::Progress;
use self::seed::blocking;
pub use self::seed::{Seeded, workflows};
pub(crate) use self::seed::{resource, seed};
pub use self::step::{Act, Deadline, Step, StepContext, StepError, Workflow};
