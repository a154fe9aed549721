//! Export: an image becomes an object of object storage. See [`crate::jobs::export_image`].

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::{ExportFormat, ImageState};
use calotype_api::sources::{ExportDestination, ExportImageDetails};

use super::{in_words_of_oci, load};
use crate::app::app_catalog::terms;
use crate::app::objects::address::Address;
use crate::app::preauthenticated_requests::Access;
use crate::app::{Context, submit_visible};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::export_image::ExportImage;
use crate::records::ImageRecord;

/// In the words of OCI, which clients look for.
const NOT_THERE: &str =
    "Invalid bucketName: Specified namespace or bucket to export image does not exist";

/// `ExportImage`.
pub async fn export(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: ExportImageDetails = request.json()?;
    let mut image = load(&context, &request.path("imageId")?).await?;
    request.check_etag(&image.etag())?;
    may_be_exported(&context, &image)?;
    terms::may_be_exported(&context.region.db, &image.resource.id).await?;
    let address = address(&context, details.destination)?;
    let checked = address.check(&context.region, Access::Write, context.now).await;
    checked.map_err(|error| in_words_of_oci(error, NOT_THERE))?;
    image.value.resource.lifecycle_state = ImageState::Exporting;
    let format = details.export_format.unwrap_or(ExportFormat::Oci);
    let job = ExportImage::new(&image, &address.bucket, &address.object, format);
    let reply = Reply::ok(&image.resource)?.etag(image.next_etag());
    submit_visible(&context, job, Batch::new().replace(&image), reply).await
}

/// Refuses platform images, those that are not there, and those that are too large.
fn may_be_exported(context: &Context, image: &Versioned<ImageRecord>) -> Result<(), ApiError> {
    let id = &image.resource.id;
    match image.resource.lifecycle_state {
        ImageState::Available => {}
        ImageState::Deleted => return Err(ApiError::not_authorized_or_not_found()),
        state => {
            return Err(ApiError::incorrect_state(format!(
                "image {id} is {state}: only an AVAILABLE image can be exported"
            )));
        }
    }
    if image.resource.compartment_id.is_none() {
        return Err(ApiError::new(
            ErrorCode::NotAllowed,
            format!(
                "image {id} is a platform image, which cannot be exported: launch an instance \
                     of it, and export a custom image of that"
            ),
        ));
    }
    let size_bytes_max = context.region.config.images.export_size_bytes_max();
    if image.size_bytes > size_bytes_max {
        let has =
            format!("has a disk of {} bytes; the limit is {size_bytes_max}", image.size_bytes);
        return Err(ApiError::invalid_parameter("imageId", has));
    }
    Ok(())
}

fn address(context: &Context, destination: ExportDestination) -> Result<Address, ApiError> {
    match destination {
        ExportDestination::ObjectStorageUri { destination_uri } => {
            Address::parse(&context.region.config, "destinationUri", &destination_uri)
        }
        ExportDestination::ObjectStorageTuple { namespace_name, bucket_name, object_name } => {
            Address::named(namespace_name, bucket_name, object_name)
        }
    }
}
