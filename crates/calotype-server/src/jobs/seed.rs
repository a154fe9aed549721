//! What each workflow of the region says about itself when it is submitted, and the list of them all.

use std::fmt::Display;
use std::sync::Arc;

use calotype_api::ocid::Ocid;
use calotype_api::work_requests::{ActionType, WorkRequestResource};

use super::capture_image::CaptureImage;
use super::clone_boot_volume::CloneBootVolume;
use super::collect::CollectStore;
use super::delete_boot_volume::DeleteBootVolume;
use super::delete_compartment::DeleteCompartment;
use super::delete_image::DeleteImage;
use super::delete_tag::DeleteTag;
use super::export_image::ExportImage;
use super::grow_boot_volume::GrowBootVolume;
use super::import_image::ImportImage;
use super::launch_instance::LaunchInstance;
use super::power_instance::PowerInstance;
use super::register_platform_image::RegisterPlatformImage;
use super::scrub_store::ScrubStore;
use super::terminate_instance::TerminateInstance;
use super::update_instance::UpdateInstance;
use super::{Seed, StepError, Workflow, Workflows};
use crate::error::Result;
use crate::region::Region;

/// A workflow of the region: knows what its work request says.
pub trait Seeded: Workflow<Environment = Arc<Region>> {
    /// The work request that shows it.
    fn seed(&self, region: &Region) -> Seed;
}

/// Every workflow of the region. Whoever writes a new one adds it here: the engine runs, and resumes
/// after a restart, what it knows by name.
pub fn workflows() -> Workflows<Arc<Region>> {
    Workflows::new()
        .with::<CaptureImage>()
        .with::<CloneBootVolume>()
        .with::<CollectStore>()
        .with::<DeleteBootVolume>()
        .with::<DeleteCompartment>()
        .with::<DeleteImage>()
        .with::<DeleteTag>()
        .with::<ExportImage>()
        .with::<GrowBootVolume>()
        .with::<ImportImage>()
        .with::<LaunchInstance>()
        .with::<PowerInstance>()
        .with::<RegisterPlatformImage>()
        .with::<ScrubStore>()
        .with::<TerminateInstance>()
        .with::<UpdateInstance>()
}

/// A resource of a work request. Terraform finds it by `entityType` and `actionType`.
pub(crate) fn resource(
    entity_type: &str,
    collection: &str,
    action_type: ActionType,
    id: &Ocid,
) -> WorkRequestResource {
    WorkRequestResource {
        action_type,
        entity_type: entity_type.to_owned(),
        entity_uri: Some(format!("/20160918/{collection}/{id}")),
        identifier: id.clone(),
    }
}

/// The work request of an action in a compartment.
pub(crate) fn seed(
    region: &Region,
    operation_type: &(impl Display + ?Sized),
    compartment_id: &Ocid,
    resources: Vec<WorkRequestResource>,
) -> Seed {
    Seed {
        id: region.new_id("coreservicesworkrequest"),
        operation_type: operation_type.to_string(),
        compartment_id: compartment_id.clone(),
        resources,
    }
}

/// Runs what waits for the disk on a thread where waiting does no harm.
pub(super) async fn blocking(
    failure: &'static str,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<(), StepError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StepError::retry(failure, &error)),
        Err(error) => Err(StepError::retry(failure, &error)),
    }
}
