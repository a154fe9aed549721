//! Documents that workflows act on, read anew by every step.

use calotype_api::ocid::Ocid;

use super::StepError;
use crate::db::{Db, Document, Versioned};
use crate::error::Error;
use crate::records::{BootVolumeRecord, ImageRecord, InstanceRecord};
use crate::region::Region;

async fn load<T: Document>(region: &Region, id: &Ocid) -> Result<Versioned<T>, StepError> {
    found(&region.db, id.as_str()).await
}

/// The document with that id.
pub(super) async fn found<T: Document>(db: &Db, id: &str) -> Result<Versioned<T>, StepError> {
    let found = db.get::<T>(id).await?;
    found.ok_or_else(|| {
        let missing = Error::Missing { kind: T::KIND, id: id.to_string() };
        StepError::fail("A resource is gone", &missing)
    })
}

/// The instance with that id.
pub(super) async fn instance(
    region: &Region,
    id: &Ocid,
) -> Result<Versioned<InstanceRecord>, StepError> {
    load(region, id).await
}

/// The boot volume of an instance.
pub(super) async fn volume_of(
    region: &Region,
    instance: &InstanceRecord,
) -> Result<Versioned<BootVolumeRecord>, StepError> {
    load(region, &instance.boot_volume_id).await
}

/// The boot volume with that id.
pub(super) async fn volume(
    region: &Region,
    id: &Ocid,
) -> Result<Versioned<BootVolumeRecord>, StepError> {
    load(region, id).await
}

/// The image with that id.
pub(super) async fn image(region: &Region, id: &Ocid) -> Result<Versioned<ImageRecord>, StepError> {
    load(region, id).await
}
