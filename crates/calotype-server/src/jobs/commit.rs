//! Committing a disk from a workflow: on a thread of its own, with progress, given up when the
//! workflow is.

use std::sync::Arc;

use calotype_api::ErrorCode;
use calotype_api::error::ApiError;
use calotype_api::images::ImageState;
use calotype_api::ocid::Ocid;
use calotype_disk::Disk;
use calotype_store::{Committed, ErrorKind, ManifestId, PartialId};
use jiff::Timestamp;

use super::follow::follow;
use super::records::image;
use super::{StepContext, StepError, Workflow};
use crate::app::capabilities::born;
use crate::app::images::lifecycle;
use crate::db::Batch;
use crate::error::{Error, Result};
use crate::records::ImageRecord;
use crate::region::Region;

const BYTES_PER_GIB: u64 = 1 << 30;
const BYTES_PER_MIB: u64 = 1 << 20;

/// Commits the disk that `open` opens, which must be the same however often the step is run: after a
/// crash the commit goes on where it was. Nothing of it is visible until the whole is durable. The
/// result keeps what was written from being collected until it is dropped.
pub(super) async fn commit<W>(
    context: &StepContext<W>,
    open: impl FnOnce() -> Result<Arc<dyn Disk>> + Send + 'static,
    base: Option<ManifestId>,
) -> Result<Committed, StepError>
where
    W: Workflow<Environment = Arc<Region>>,
{
    let region = Arc::clone(&context.environment);
    let (progress, given_up) = follow(context.progress_handle());
    let work = work(context);
    let commit = tokio::task::spawn_blocking(move || {
        let disk = open()?;
        Ok::<_, Error>(region.store.commit_resumable(&*disk, base, work, &progress)?)
    });
    let done = commit.await;
    drop(given_up);
    match done {
        Ok(Ok(committed)) => Ok(committed),
        Ok(Err(Error::Store(error))) if error.kind() == ErrorKind::NoSpace => {
            tracing::error!(%error, "the image could not be stored");
            Err(StepError::Fail(ApiError::new(
                ErrorCode::LimitExceeded,
                "The image store's disk is full: free space or delete images, then try again",
            )))
        }
        Ok(Err(error)) if is_damaged(&error) => {
            let text = super::step::chain(&error);
            tracing::warn!(error = %text, "a disk could not be read");
            let unreadable = format!("The disk cannot be read: {text}");
            Err(StepError::Fail(ApiError::new(ErrorCode::InvalidParameter, unreadable)))
        }
        Ok(Err(error)) => Err(StepError::retry("The disk could not be stored", &error)),
        Err(error) => Err(StepError::retry("The disk could not be stored", &error)),
    }
}

/// Whether it is the disk's own fault, and will be whenever it is read again.
pub(super) fn is_damaged(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<calotype_disk::Error>() {
            return error.kind() != calotype_disk::ErrorKind::Io;
        }
        cause = error.source();
    }
    false
}

/// Undoes a commit: what it has stored so far is left to the next collection.
pub(super) async fn forget<W>(context: &mut StepContext<W>) -> Result<(), StepError>
where
    W: Workflow<Environment = Arc<Region>>,
{
    let (store, work) = (context.environment.store.clone(), work(context));
    match tokio::task::spawn_blocking(move || store.forget_partial(work)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StepError::retry("The store could not be tidied up", &error)),
        Err(error) => Err(StepError::retry("The store could not be tidied up", &error)),
    }
}

/// A workflow commits one disk.
fn work<W: Workflow>(context: &StepContext<W>) -> PartialId {
    PartialId::of(context.work_request_id().to_string().as_bytes())
}

/// One line for the work request's log.
pub(super) fn summary(committed: &Committed) -> String {
    format!(
        "committed {}: read {} bytes, stored {} bytes in {} new chunks",
        committed.manifest, committed.bytes_read, committed.bytes_stored, committed.chunks_new
    )
}

/// Makes a committed image AVAILABLE, with its sizes. The batch has what is written together with it: the
/// capability schema that it comes with.
pub(super) async fn publish(
    region: &Arc<Region>,
    image: &mut ImageRecord,
) -> Result<Batch, StepError> {
    let Some(manifest) = image.manifest else {
        let missing = Error::Missing { kind: "manifest", id: image.resource.id.to_string() };
        return Err(StepError::fail("The image has no disk", &missing));
    };
    let store = region.store.clone();
    let stored = tokio::task::spawn_blocking(move || store.stored_bytes(manifest)).await;
    let stored = match stored {
        Ok(Ok(stored)) => stored,
        Ok(Err(error)) => return Err(StepError::retry("The image could not be measured", &error)),
        Err(error) => return Err(StepError::retry("The image could not be measured", &error)),
    };
    image.resource.lifecycle_state = ImageState::Available;
    image.resource.size_in_mbs = Some(image.size_bytes.div_ceil(BYTES_PER_MIB));
    image.resource.billable_size_in_gbs = Some(stored.div_ceil(BYTES_PER_GIB).max(1));
    Ok(born::schema(region, image, Timestamp::now())?)
}

/// The last step of a workflow that makes one image and nothing else.
pub(super) async fn publish_alone<W>(
    context: &mut StepContext<W>,
    id: Ocid,
) -> Result<(), StepError>
where
    W: Workflow<Environment = Arc<Region>>,
{
    let region = Arc::clone(&context.environment);
    let mut image = image(&region, &id).await?;
    let schema = publish(&region, &mut image.value).await?;
    context.write(schema.replace(&image));
    Ok(())
}

/// Undoes it: the image is DELETED.
pub(super) async fn discard<W>(context: &mut StepContext<W>, id: Ocid) -> Result<(), StepError>
where
    W: Workflow<Environment = Arc<Region>>,
{
    let mut image = image(&context.environment, &id).await?;
    let db = &context.environment.db;
    let batch = lifecycle::never_was(db, &mut image, Timestamp::now()).await?;
    context.write(batch);
    Ok(())
}
