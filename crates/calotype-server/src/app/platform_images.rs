//! Platform images: the images every compartment sees, made by the operator.
//!
//! A built disk lies in the region's `platform-images` directory as `NAME.raw`. A client names it; no
//! path ever comes from outside.

use calotype_api::error::ApiError;
use calotype_api::images::{Firmware, Image, ImageState, LaunchMode, ListingType};
use calotype_api::tags::{DefinedTags, FreeformTags};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::images::lifecycle::ImageLifecycle;
use super::images::{self, compatible_shapes};
use super::{Context, measured};
use crate::db::{Batch, Query, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::register_platform_image::RegisterPlatformImage;
use crate::records::{ImageRecord, PLATFORM_IMAGES};
use crate::region::Region;

/// Body of `RegisterPlatformImage`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterPlatformImageDetails {
    /// File name in the region's `platform-images` directory, without `.raw`.
    pub file: String,
    /// Display name of the image.
    pub display_name: String,
    /// For example `Debian`.
    pub operating_system: String,
    /// For example `12`.
    pub operating_system_version: String,
    /// What the disk boots by.
    pub firmware: Firmware,
}

/// `RegisterPlatformImage`: reads a built disk into the store and offers it to everybody. The same
/// name again is answered with the image that has it.
pub async fn register(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: RegisterPlatformImageDetails = request.json()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if details.file.is_empty() || details.file.starts_with('.') || !details.file.bytes().all(plain)
    {
        return Err(ApiError::invalid_parameter(
            "file",
            "must be a file name: letters, digits, - _ .",
        ));
    }
    let name = measured("displayName", details.display_name.clone())?;
    let disk = context.region.paths.platform_images().join(format!("{}.raw", details.file));
    let size_bytes = match tokio::fs::metadata(&disk).await {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => {
            return Err(ApiError::invalid_parameter(
                "file",
                format!(
                    "{} is not there: build it with `calotype platform-image build`",
                    disk.display()
                ),
            ));
        }
    };
    let same = Query::new().compartment(PLATFORM_IMAGES).name(&name);
    for existing in context.region.db.list_all::<ImageRecord>(same).await? {
        if existing.is_alive() {
            return Ok(Reply::ok(&existing.resource)?.etag(existing.etag()));
        }
    }
    let tenancy = &context.principal.tenancy;
    let file = details.file.clone();
    let record = Versioned::first(new_record(&context.region, details, size_bytes, context.now)?);
    let job = RegisterPlatformImage::new(&record, file, tenancy);
    let batch = Batch::new().create(&record);
    let reply = Reply::ok(&record.resource)?.etag(record.etag());
    super::submit_visible(&context, job, batch, reply).await
}

/// The image that a disk of so many bytes becomes.
pub fn new_record(
    region: &Region,
    details: RegisterPlatformImageDetails,
    size_bytes: u64,
    now: Timestamp,
) -> Result<ImageRecord, ApiError> {
    let mut launch_options = images::preset(LaunchMode::Paravirtualized);
    launch_options.firmware = Some(details.firmware);
    let version = details.operating_system_version;
    Ok(ImageRecord {
        resource: Image {
            id: region.new_global_id("image"),
            agent_features: None,
            base_image_id: None,
            billable_size_in_gbs: None,
            compartment_id: None,
            create_image_allowed: true,
            defined_tags: DefinedTags::new(),
            display_name: measured("displayName", details.display_name)?,
            freeform_tags: FreeformTags::new(),
            // As OCI's own: they report NATIVE and are paravirtualised.
            launch_mode: LaunchMode::Native,
            launch_options,
            lifecycle_state: ImageState::Provisioning,
            listing_type: ListingType::None,
            operating_system: measured("operatingSystem", details.operating_system)?,
            operating_system_version: measured("operatingSystemVersion", version)?,
            size_in_mbs: None,
            time_created: now.into(),
        },
        manifest: None,
        size_bytes,
        compatible_shapes: compatible_shapes::of_platform_images(),
        chosen_shapes: None,
        capabilities: None,
        lifecycle: ImageLifecycle::default(),
    })
}
