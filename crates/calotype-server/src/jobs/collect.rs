//! Space: what no image and no volume needs any more is given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use calotype_store::ManifestId;
use tokio::runtime::Handle;

use super::StepError;
use crate::db::{Error, Query};
use crate::records::{BootVolumeRecord, ImageRecord};
use crate::region::Region;

/// Every manifest that an image or a volume needs.
pub async fn roots(region: &Region) -> Result<BTreeSet<ManifestId>, Error> {
    let images = region.db.list_all::<ImageRecord>(Query::new()).await?;
    let volumes = region.db.list_all::<BootVolumeRecord>(Query::new()).await?;
    let of_images =
        images.iter().filter(|image| image.is_alive()).filter_map(|image| image.manifest);
    let of_volumes = volumes.iter().filter(|volume| volume.is_alive()).map(|volume| volume.base);
    Ok(of_images.chain(of_volumes).collect())
}

/// Collects if nothing needs `manifest` any more; a walk over the store is not free.
pub(super) async fn unless_needed(
    region: &Arc<Region>,
    manifest: ManifestId,
) -> Result<(), StepError> {
    if roots(region).await?.contains(&manifest) {
        return Ok(());
    }
    now(region).await
}

/// Collects now.
pub(super) async fn now(region: &Arc<Region>) -> Result<(), StepError> {
    let region = Arc::clone(region);
    let runtime = Handle::current();
    let collected = tokio::task::spawn_blocking(move || {
        // Begun before the roots are read: what is committed from here on is safe anyway.
        let collection = region.store.begin_collection();
        let roots = runtime.block_on(roots(&region))?;
        collection
            .run(&roots)
            .map_err(|error| StepError::retry("Space could not be collected", &error))
    });
    match collected.await {
        Ok(Ok(collected)) => {
            tracing::info!(?collected, "collected");
            Ok(())
        }
        Ok(Err(error)) => Err(error),
        Err(error) => Err(StepError::retry("Space could not be collected", &error)),
    }
}
