//! Starting and ending guests from the steps of workflows. The caller holds the instance's lock.

use std::sync::Arc;
use std::time::Duration;

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::ocid::Ocid;
use calotype_vm::ErrorKind;

use super::StepError;
use crate::error::Error;
use crate::guests::PowerOff;
use crate::records::InstanceRecord;
use crate::region::Region;

/// Starts the guest of an instance, or finds it running.
pub(super) async fn start(region: &Arc<Region>, id: &Ocid) -> Result<(), StepError> {
    region.guests.start(region, id).await.map_err(|error| match error {
        Error::Refused(refusal) => StepError::Fail(refusal),
        // Trying again would not help; what is missing is for the user to know.
        Error::Hypervisor(error)
            if matches!(error.kind(), ErrorKind::FirmwareMissing | ErrorKind::InvalidSpec) =>
        {
            let message = format!("The guest cannot be started: {error}");
            StepError::Fail(ApiError::new(ErrorCode::InvalidParameter, message))
        }
        error => StepError::retry("The guest could not be started", &error),
    })
}

/// Ends the guest of an instance, if there is one; says how it went.
pub(super) async fn stop(
    region: &Arc<Region>,
    instance: &InstanceRecord,
    grace: Option<Duration>,
) -> Result<PowerOff, StepError> {
    let stopped = region.guests.stop(region, instance, grace).await;
    stopped.map_err(|error| StepError::retry("The guest could not be stopped", &error))
}
