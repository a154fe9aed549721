//! The store as clients of ours see it: how full it is, and whether an image can be read back.

use calotype_api::error::ApiError;
use calotype_api::images::ImageState;
use serde::Serialize;

use super::{Context, images};
use crate::http::{Reply, Request};

/// Answer of `GetStoreUsage`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreUsage {
    /// Distinct disks.
    manifests: u64,
    /// Pack files.
    packs: u64,
    /// Distinct chunks.
    chunks: u64,
    /// Bytes of all packs.
    stored_bytes: u64,
    /// Bytes that guests have read since the service started.
    read_bytes: u64,
}

/// `GetStoreUsage`.
pub async fn usage(context: Context, _request: Request) -> Result<Reply, ApiError> {
    let usage = context.region.store.usage();
    let exports = context.region.blocks.statistics();
    Reply::ok(&StoreUsage {
        manifests: usage.manifests,
        packs: usage.packs,
        chunks: usage.chunks,
        stored_bytes: usage.stored_bytes,
        read_bytes: exports.values().map(|export| export.read_bytes).sum(),
    })
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
