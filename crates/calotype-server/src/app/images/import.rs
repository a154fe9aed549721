//! Import: an object of object storage becomes an image. See [`crate::jobs::import_image`].

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::{
    CreateImageDetails, Firmware, Image, ImageState, LaunchMode, LaunchOptions, ListingType,
    SourceImageType,
};
use calotype_api::sources::{ImageSourceDetails, ImageSourceLocation};
use calotype_confined::Expected;
use calotype_disk::{FormatName, Source as _};
use http::Uri;

use super::lifecycle::ImageLifecycle;
use super::{check_count, compatible_shapes, in_words_of_oci, named_or_dated, preset};
use crate::app::objects::address::{Address, leads_here};
use crate::app::{Context, identity, measured, submit_visible, tags};
use crate::db::{Batch, Versioned};
use crate::foreign::{self, ForeignError, ForeignObject};
use crate::http::Reply;
use crate::jobs::import_image::{ImportImage, Origin};
use crate::records::ImageRecord;

/// What is recorded of an operating system that nobody named.
const UNKNOWN: &str = "Custom";

/// In the words of OCI, which clients look for.
const NOT_THERE: &str = "Invalid objectName: Specified object or bucket or namespace to import image from does not exist";

/// `CreateImage` from an object.
pub(super) async fn create(
    context: Context,
    details: CreateImageDetails,
    source: ImageSourceDetails,
) -> Result<Reply, ApiError> {
    if details.instance_id.is_some() {
        let must = "must not be given together with instanceId";
        return Err(ApiError::invalid_parameter("imageSourceDetails", must));
    }
    identity::compartment_exists(&context, &details.compartment_id).await?;
    check_count(&context).await?;
    let expected = expected(source.source_image_type);
    let found = find(&context, source.location.clone()).await?;
    let size_bytes_max = context.region.config.images.import_size_bytes_max();
    if found.size_bytes > size_bytes_max {
        let has = format!("has {} bytes; the limit is {size_bytes_max}", found.size_bytes);
        return Err(ApiError::invalid_parameter("objectName", has));
    }
    let image = Versioned::first(new_image(&context, details, source).await?);
    let job = ImportImage::new(&image, found.origin, found.etag, expected);
    let reply = Reply::ok(&image.resource)?.etag(image.etag());
    submit_visible(&context, job, Batch::new().create(&image), reply).await
}

/// Without a format the file is an archive, in which everything stands.
fn expected(format: Option<SourceImageType>) -> Expected {
    let format = match format {
        None => return Expected::Archive,
        Some(SourceImageType::Qcow2) => FormatName::Qcow2,
        Some(SourceImageType::Vmdk) => FormatName::Vmdk,
        Some(SourceImageType::Vdi) => FormatName::Vdi,
        Some(SourceImageType::Vhd) => FormatName::Vhd,
        Some(SourceImageType::Vhdx) => FormatName::Vhdx,
        Some(SourceImageType::Raw) => FormatName::Raw,
    };
    Expected::Disk(format)
}

/// What is to be imported.
struct Found {
    origin: Origin,
    etag: String,
    size_bytes: u64,
}

async fn find(context: &Context, location: ImageSourceLocation) -> Result<Found, ApiError> {
    let region = &context.region;
    let address = match location {
        ImageSourceLocation::ObjectStorageTuple { namespace_name, bucket_name, object_name } => {
            Address::named(namespace_name, bucket_name, object_name)?
        }
        ImageSourceLocation::ObjectStorageUri { source_uri } => {
            let elsewhere = |uri: &Uri| uri.host().is_some() && !leads_here(&region.config, uri);
            if source_uri.parse().is_ok_and(|uri| elsewhere(&uri)) {
                return find_elsewhere(context, source_uri).await;
            }
            Address::parse(&region.config, "sourceUri", &source_uri)?
        }
    };
    let opened = address.open(region, context.now).await;
    let (object, _) = opened.map_err(|error| in_words_of_oci(error, NOT_THERE))?;
    Ok(Found { origin: Origin::of(&object), etag: object.etag(), size_bytes: object.size_bytes })
}

/// In another region, or another tenancy.
async fn find_elsewhere(context: &Context, url: String) -> Result<Found, ApiError> {
    let opened = ForeignObject::open(&context.region.config.images, &url).await;
    let object = opened.map_err(|error| match error {
        ForeignError::NotThere(_) => ApiError::new(ErrorCode::InvalidParameter, NOT_THERE),
        error => foreign::as_answer("sourceUri", &error),
    })?;
    let (etag, size_bytes) = (object.etag().to_owned(), object.length_bytes());
    Ok(Found { origin: Origin::Url(url), etag, size_bytes })
}

async fn new_image(
    context: &Context,
    details: CreateImageDetails,
    source: ImageSourceDetails,
) -> Result<ImageRecord, ApiError> {
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags);
    let defined_tags = tags::on_create(context, &details.compartment_id, freeform, defined).await?;

    let display_name = named_or_dated(context, details.display_name).await?;
    let named = |field, text: Option<String>| match text {
        Some(text) => measured(field, text),
        None => Ok(UNKNOWN.to_owned()),
    };
    let launch_mode = launch_mode(details.launch_mode)?;
    Ok(ImageRecord {
        resource: Image {
            id: context.region.new_id("image"),
            agent_features: None,
            base_image_id: None,
            billable_size_in_gbs: None,
            compartment_id: Some(details.compartment_id),
            create_image_allowed: true,
            defined_tags,
            display_name,
            freeform_tags: details.freeform_tags.unwrap_or_default(),
            launch_mode,
            // Unless the archive says otherwise: a disk of unknown origin boots by BIOS.
            launch_options: LaunchOptions { firmware: Some(Firmware::Bios), ..preset(launch_mode) },
            lifecycle_state: ImageState::Importing,
            listing_type: ListingType::None,
            operating_system: named("operatingSystem", source.operating_system)?,
            operating_system_version: named(
                "operatingSystemVersion",
                source.operating_system_version,
            )?,
            size_in_mbs: None,
            time_created: context.now.into(),
        },
        manifest: None,
        size_bytes: 0,
        compatible_shapes: compatible_shapes::of_imports(),
        chosen_shapes: None,
        capabilities: None,
        lifecycle: ImageLifecycle::default(),
    })
}

/// `CUSTOM` says that the options are given, and on import none can be.
fn launch_mode(asked: Option<LaunchMode>) -> Result<LaunchMode, ApiError> {
    match asked {
        None => Ok(LaunchMode::Paravirtualized),
        Some(LaunchMode::Custom) => Err(ApiError::invalid_parameter(
            "launchMode",
            "CUSTOM cannot be asked for on import: use NATIVE, EMULATED or PARAVIRTUALIZED",
        )),
        Some(mode) => Ok(mode),
    }
}

/// Whether nobody has named the operating system.
pub(crate) fn is_unknown(system: &str) -> bool {
    system == UNKNOWN
}
