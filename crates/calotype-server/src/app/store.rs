//! The store as clients of ours see it: how full it is and of what, and whether all of it can be read
//! back.

use std::path::PathBuf;

use calotype_api::error::ApiError;
use calotype_api::images::ImageState;
use calotype_api::ocid::Ocid;
use calotype_store::ManifestId;
use serde::{Deserialize, Serialize};

use super::{Context, images};
use crate::db::{Batch, Query};
use crate::http::{Reply, Request};
use crate::jobs::collect::CollectStore;
use crate::jobs::scrub_store::ScrubStore;
use crate::jobs::scrub_store::report::{ScrubRecord, ScrubReport, holders};
use crate::records::ImageRecord;

/// Answer of `GetStoreUsage`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreUsage {
    /// Distinct disks.
    pub manifests: u64,
    /// Pack files.
    pub packs: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Bytes of all packs.
    pub stored_bytes: u64,
    /// Bytes that guests have read since the service started.
    pub read_bytes: u64,
    /// What the last scrub found.
    pub last_scrub: Option<ScrubReport>,
}

/// `GetStoreUsage`.
pub async fn usage(context: Context, _request: Request) -> Result<Reply, ApiError> {
    let usage = context.region.store.usage();
    let exports = context.region.blocks.statistics();
    let last_scrub = context.region.db.get::<ScrubRecord>(ScrubRecord::ID).await?;
    Reply::ok(&StoreUsage {
        manifests: usage.manifests,
        packs: usage.packs,
        chunks: usage.chunks,
        stored_bytes: usage.stored_bytes,
        read_bytes: exports.values().map(|export| export.read_bytes).sum(),
        last_scrub: last_scrub.map(|last| last.value.report),
    })
}

/// An item of `ListImageUsage`. Sizes are bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageUsage {
    /// The image.
    pub image_id: Ocid,
    /// Its name.
    pub display_name: String,
    /// Its compartment; platform images have none.
    pub compartment_id: Option<Ocid>,
    /// Digest of the whole disk.
    pub manifest: ManifestId,
    /// Images and volumes that have this disk, this image included.
    pub holders: u64,
    /// Size of the virtual disk.
    pub logical_bytes: u64,
    /// What of it is no hole.
    pub data_bytes: Option<u64>,
    /// What is stored of it, compressed, each chunk once.
    pub stored_bytes: Option<u64>,
    /// What of that other disks need, too.
    pub shared_bytes: Option<u64>,
    /// What of that no other disk needs.
    pub unique_bytes: Option<u64>,
    /// What deleting the image gives back: its unique bytes, or nothing while others have its disk.
    pub freed_by_deletion_bytes: Option<u64>,
}

/// `ListImageUsage`: what each image takes, and what deleting it would give back.
pub async fn image_usage(context: Context, request: Request) -> Result<Reply, ApiError> {
    let region = &context.region;
    let holders = holders(&region.db).await?;
    let roots = holders.keys().copied().collect();
    let store = region.store.clone();
    let space = match tokio::task::spawn_blocking(move || store.space(&roots)).await {
        Ok(Ok(space)) => space,
        Ok(Err(error)) => {
            tracing::error!(%error, "the store's space cannot be told");
            return Err(ApiError::internal());
        }
        Err(_) => return Err(ApiError::internal()),
    };
    let mut usages = Vec::new();
    for image in region.db.list_all::<ImageRecord>(Query::new()).await? {
        let image = image.value;
        let (true, Some(manifest)) = (image.needs_disk(), image.manifest) else { continue };
        let holders = holders.get(&manifest).map_or(1, |holders| holders.len() as u64);
        let space = space.disks.get(&manifest);
        let only = holders == 1;
        usages.push(ImageUsage {
            image_id: image.resource.id,
            display_name: image.resource.display_name,
            compartment_id: image.resource.compartment_id,
            manifest,
            holders,
            logical_bytes: image.size_bytes,
            data_bytes: space.map(|space| space.data_bytes),
            stored_bytes: space.map(|space| space.stored_bytes),
            shared_bytes: space.map(calotype_store::Space::shared_bytes),
            unique_bytes: space.map(|space| space.unique_bytes),
            freed_by_deletion_bytes: space.map(|space| if only { space.unique_bytes } else { 0 }),
        });
    }
    super::page_of(&request, &usages)
}

/// Body of `ScrubStore`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ScrubStoreDetails {
    /// The most bytes per second that are read.
    rate_bytes_per_second: Option<u64>,
    /// Directory, on the service's machine, of another store with copies of what may be damaged.
    repair_from: Option<PathBuf>,
    /// Unpack everything and compare it with its digest, not what is stored with its checksum.
    is_deep: bool,
}

/// `ScrubStore`: reads everything again and repairs what it can. The report is in `GetStoreUsage` when
/// the work request is over.
pub async fn scrub(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: ScrubStoreDetails =
        if request.body.is_empty() { ScrubStoreDetails::default() } else { request.json()? };
    if details.rate_bytes_per_second == Some(0) {
        let must = "must be more than 0; leave it out for as fast as it goes";
        return Err(ApiError::invalid_parameter("rateBytesPerSecond", must));
    }
    if details.repair_from.as_ref().is_some_and(|directory| directory.is_relative()) {
        let must = "must be an absolute path of the service's machine";
        return Err(ApiError::invalid_parameter("repairFrom", must));
    }
    if ScrubStore::is_running(&context.region).await? {
        return Err(ApiError::incorrect_state("the store is being scrubbed already"));
    }
    let job = ScrubStore::new(details.rate_bytes_per_second, details.repair_from);
    let job = job.deep(details.is_deep);
    super::submit_visible(&context, job, Batch::new(), Reply::accepted()).await
}

/// `CollectStore`: gives back what no image, no volume and no object needs.
pub async fn collect(context: Context, _request: Request) -> Result<Reply, ApiError> {
    super::submit_visible(&context, CollectStore {}, Batch::new(), Reply::accepted()).await
}

/// Answer of `VerifyImage`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    /// Digest of the whole disk.
    manifest: String,
    /// Size of the disk in bytes.
    size_bytes: u64,
    /// Distinct chunks that were read and hashed.
    chunks: u64,
    /// Their bytes as stored.
    stored_bytes: u64,
}

/// `VerifyImage`: reads every byte of an image and compares it with its digest.
pub async fn verify(context: Context, request: Request) -> Result<Reply, ApiError> {
    let image = images::load(&context, &request.path("imageId")?).await?;
    let (ImageState::Available | ImageState::Exporting, Some(manifest)) =
        (image.resource.lifecycle_state, image.manifest)
    else {
        return Err(ApiError::incorrect_state(format!(
            "image {} is {}: an AVAILABLE image can be verified",
            image.resource.id, image.resource.lifecycle_state
        )));
    };
    let store = context.region.store.clone();
    match tokio::task::spawn_blocking(move || store.verify(manifest)).await {
        Ok(Ok(verified)) => Reply::ok(&Verified {
            manifest: manifest.to_string(),
            size_bytes: verified.size_bytes,
            chunks: verified.chunks,
            stored_bytes: verified.stored_bytes,
        }),
        Ok(Err(error)) => {
            tracing::error!(%error, image = %image.resource.id, "the image does not verify");
            Err(ApiError::new(
                calotype_api::ErrorCode::InternalServerError,
                format!("image {} is damaged: {error}", image.resource.id),
            ))
        }
        Err(_) => Err(ApiError::internal()),
    }
}
