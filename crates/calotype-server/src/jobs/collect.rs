//! Space: what no image, no volume and no object needs any more is given back.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::Arc;

use calotype_store::{Collected, ManifestId};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, seed};
use crate::app::multipart::PartRecord;
use crate::app::objects::{ContentRecord, ObjectRecord, Segment};
use crate::db::{Error, Query};
use crate::records::{BootVolumeRecord, ImageRecord};
use crate::region::Region;

/// Every manifest that an image, a volume or an object needs.
///
/// What moves from one document to another while these are read is kept by whoever moves it: see
/// [`calotype_store::Store::keep`].
pub async fn roots(region: &Region) -> Result<BTreeSet<ManifestId>, Error> {
    let images = region.db.list_all::<ImageRecord>(Query::new()).await?;
    let volumes = region.db.list_all::<BootVolumeRecord>(BootVolumeRecord::alive()).await?;
    let of_images =
        images.iter().filter(|image| image.needs_disk()).filter_map(|image| image.manifest);
    let of_volumes =
        volumes.iter().flat_map(|volume| [Some(volume.base), volume.next_base]).flatten();
    let mut roots: BTreeSet<_> = of_images.chain(of_volumes).collect();
    let mut add = |segments: &[Segment]| {
        roots.extend(segments.iter().map(|segment| segment.manifest));
    };
    let db = &region.db;
    db.for_each::<PartRecord>(Query::new(), |part| add(&[part.segment])).await?;
    db.for_each::<ContentRecord>(Query::new(), |content| add(&content.segments)).await?;
    db.for_each::<ObjectRecord>(Query::new(), |object| add(object.inline_segments())).await?;
    Ok(roots)
}

/// Collects if nothing needs `manifest` any more; a walk over the store is not free.
pub(super) async fn unless_needed(region: &Arc<Region>, manifest: ManifestId) {
    match roots(region).await {
        Ok(roots) if roots.contains(&manifest) => {}
        Ok(_) => now(region).await,
        Err(error) => tracing::error!(%error, "space is not collected"),
    }
}

/// Collects now. What cannot be collected stays until the next time: nothing that was deleted comes
/// back because space could not be given back.
pub(crate) async fn now(region: &Arc<Region>) {
    match collect(region).await {
        Ok(collected) => tracing::info!(?collected, "collected"),
        Err(error) => {
            tracing::error!(%error, source = ?error.source(), "space is not collected");
            region.litter.note();
        }
    }
}

async fn collect(region: &Arc<Region>) -> crate::error::Result<Collected> {
    let region = Arc::clone(region);
    let runtime = Handle::current();
    let collected = tokio::task::spawn_blocking(move || {
        // Begun before the roots are read: what is committed from here on is safe anyway.
        let collection = region.store.begin_collection();
        let roots = runtime.block_on(roots(&region))?;
        Ok(collection.run(&roots)?)
    });
    match collected.await {
        Ok(collected) => collected,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// A collection that an operator asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CollectStore {}

impl Seeded for CollectStore {
    fn seed(&self, region: &Region) -> Seed {
        seed(region, "Collect Store", &region.tenancy, Vec::new())
    }
}

impl Workflow for CollectStore {
    type Environment = Arc<Region>;

    const NAME: &'static str = "collect_store";

    const STEPS: &'static [Step<Self>] =
        &[Step { name: "collect", weight: 1, run: |context| Box::pin(run(context)), undo: None }];
}

async fn run(context: &mut StepContext<CollectStore>) -> Result<(), StepError> {
    let collected = collect(&context.environment).await.map_err(|error| {
        StepError::fail("Space was not given back: see the service's log", &error)
    })?;
    context.log(format!(
        "freed {} bytes: {} disks, {} chunks, {} packs deleted, {} rewritten",
        collected.bytes_freed,
        collected.manifests_removed,
        collected.chunks_removed,
        collected.packs_deleted,
        collected.packs_rewritten
    ));
    Ok(())
}
