//! Objects: put, got, listed, deleted, copied and renamed.
//!
//! The bytes of an object are disks of the store ([`record`]). A put is one pass from the body to the store
//! ([`receive`]); a copy or a new name copies no byte.

use std::sync::Arc;

use calotype_api::error::ApiError;
use calotype_api::object_head::{self, check_name};
use calotype_api::objects::{CopyObjectDetails, RenameObjectDetails};
use calotype_api::sign::http_date;
use data_encoding::BASE64;
use jiff::Timestamp;

use super::Context;
use super::buckets;
use crate::db::{Batch, Document as _, Versioned};
use crate::http::{Reply, Request};
use crate::region::Region;

pub mod address;
pub mod attributes;
mod copies;
mod listing;
pub mod receive;
pub mod record;
mod source;
pub mod write;

pub use copies::CopyRecord;
pub use record::{ContentRecord, NewObject, ObjectRecord, Segment};
pub use source::{ObjectSource, ReadAhead};

use attributes::Attributes;
use write::Conditions;

/// Bytes of an object that is put whole, and of a part.
pub const PUT_BYTES_MAX: u64 = 50 << 30;
/// Bytes of an object, whatever it was made of.
pub const OBJECT_BYTES_MAX: u64 = 10 << 40;
/// How often an object is looked up that is written anew all the time.
const OPENINGS_MAX: usize = 16;

/// What a `GetObject` may have told in place of what the object says about itself: parameter and header.
const TOLD_INSTEAD: &[(&str, &str)] = &[
    ("httpResponseContentDisposition", "content-disposition"),
    ("httpResponseCacheControl", "cache-control"),
    ("httpResponseContentType", "content-type"),
    ("httpResponseContentLanguage", "content-language"),
    ("httpResponseContentEncoding", "content-encoding"),
    ("httpResponseExpires", "expires"),
];

/// The bucket, which is there, and the object's name of a request's path.
pub(super) async fn place(
    context: &Context,
    request: &Request,
) -> Result<(String, String), ApiError> {
    let bucket = buckets::of(context, request).await?;
    let name: String = request.path("objectName")?;
    check_name(&name)?;
    Ok((bucket.value.resource.name, name))
}

/// The object of that name, and its bytes.
pub async fn open(
    region: &Region,
    bucket: &str,
    name: &str,
) -> Result<(Versioned<ObjectRecord>, ObjectSource), ApiError> {
    let not_found = || ApiError::object_not_found(name, bucket);
    for _ in 0..OPENINGS_MAX {
        let object = write::existing(region, bucket, name).await?.ok_or_else(not_found)?;
        // Without them it was written anew since it was looked up.
        let Some(segments) = object.segments(&region.db).await? else { continue };
        let Some(source) = ObjectSource::open(&region.store, &segments) else { continue };
        return Ok((object, source));
    }
    Err(not_found())
}

/// `PutObject`.
pub async fn put(context: Context, request: Request) -> Result<Reply, ApiError> {
    let (bucket, name) = place(&context, &request).await?;
    put_into(&context, &request, bucket, name).await
}

pub(super) async fn put_into(
    context: &Context,
    request: &Request,
    bucket: String,
    name: String,
) -> Result<Reply, ApiError> {
    let region = &context.region;
    let attributes = Attributes::of(request)?;
    let conditions = Conditions::of(request)?;
    // Now, so that a client that would be refused then sends nothing; and again when it is written.
    let existing = write::existing(region, &bucket, &name).await?;
    conditions.check(existing.map(|existing| existing.etag()).as_deref())?;
    let received = receive::receive(region, request, PUT_BYTES_MAX).await?;
    let md5 = received.md5.map(|md5| BASE64.encode(&md5));
    let segments = vec![received.segment()];
    let new = NewObject { bucket, name, segments, md5: md5.clone(), attributes };
    let written = write::write(region, &new, &conditions, Timestamp::now(), Batch::new).await?;
    // It is a root of collection now.
    drop(received);
    Ok(write::written(&written).header("opc-content-md5", md5.unwrap_or_default()))
}

/// `GetObject`, whole or the range that is asked for.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    super::refuse_queries(&request, &["versionId"])?;
    let (bucket, name) = place(&context, &request).await?;
    let mut reply = get_from(&context, &request, &bucket, &name).await?;
    for (parameter, header) in TOLD_INSTEAD {
        if let Some(value) = request.query::<String>(parameter)? {
            object_head::check_text(parameter, &value)?;
            reply = reply.header(*header, value);
        }
    }
    Ok(reply)
}

pub(super) async fn get_from(
    context: &Context,
    request: &Request,
    bucket: &str,
    name: &str,
) -> Result<Reply, ApiError> {
    attributes::refuse_not_supported(request)?;
    let (object, source) = open(&context.region, bucket, name).await?;
    match buckets::condition(request, &object.etag())? {
        Some(reply) => Ok(reply),
        None => Ok(tell(&object, Reply::content(Arc::new(source)))),
    }
}

/// `HeadObject`.
pub async fn head(context: Context, request: Request) -> Result<Reply, ApiError> {
    super::refuse_queries(&request, &["versionId"])?;
    let (bucket, name) = place(&context, &request).await?;
    head_of(&context, &request, &bucket, &name).await
}

pub(super) async fn head_of(
    context: &Context,
    request: &Request,
    bucket: &str,
    name: &str,
) -> Result<Reply, ApiError> {
    attributes::refuse_not_supported(request)?;
    let found = write::existing(&context.region, bucket, name).await?;
    let object = found.ok_or_else(|| ApiError::object_not_found(name, bucket))?;
    match buckets::condition(request, &object.etag())? {
        Some(reply) => Ok(reply),
        None => Ok(tell(&object, Reply::head(object.size_bytes))),
    }
}

fn tell(object: &Versioned<ObjectRecord>, reply: Reply) -> Reply {
    let reply = reply
        .etag(object.etag())
        .header("last-modified", http_date(object.time_created.as_second()))
        .header("storage-tier", "Standard");
    let reply = object.attributes.tell(reply);
    match &object.md5 {
        None => reply,
        Some(md5) if md5.contains('-') => reply.header("opc-multipart-md5", md5),
        Some(md5) => reply.header("content-md5", md5),
    }
}

/// `DeleteObject`.
pub async fn delete(context: Context, request: Request) -> Result<Reply, ApiError> {
    super::refuse_queries(&request, &["versionId"])?;
    let (bucket, name) = place(&context, &request).await?;
    write::delete(&context.region, &bucket, &name, request.if_match.as_deref()).await?;
    Ok(Reply::no_content().header("last-modified", http_date(context.now.as_second())))
}

/// `ListObjects`.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let bucket = buckets::of(&context, &request).await?;
    list_visible(&context, &request, &bucket.resource.name, "").await
}

pub(super) async fn list_visible(
    context: &Context,
    request: &Request,
    bucket: &str,
    visible: &str,
) -> Result<Reply, ApiError> {
    listing::answer(context, request, bucket, visible).await
}

/// `CopyObject` within the region: no byte is copied, so it is over when it is answered.
pub async fn copy(context: Context, request: Request) -> Result<Reply, ApiError> {
    let region = &context.region;
    let bucket = buckets::of(&context, &request).await?;
    attributes::refuse_not_supported(&request)?;
    let details: CopyObjectDetails = request.json()?;
    super::refuse_given(&[("sourceVersionId", details.source_version_id.is_some())])?;
    attributes::check_tier(
        "destinationObjectStorageTier",
        details.destination_object_storage_tier,
    )?;
    if !details.destination_region.eq_ignore_ascii_case(&region.config.region) {
        let must = format!("must be {}: objects are not copied elsewhere", region.config.region);
        return Err(ApiError::invalid_parameter("destinationRegion", must));
    }
    check_name(&details.destination_object_name)?;
    let to =
        buckets::find(region, &details.destination_namespace, &details.destination_bucket).await?;
    let from = &bucket.resource.name;
    let (source, bytes) = open(region, from, &details.source_object_name).await?;
    Conditions { if_match: details.source_object_if_match, ..Conditions::default() }
        .check(Some(&source.etag()))?;
    let mut attributes = source.attributes.clone();
    if let Some(metadata) = details.destination_object_metadata {
        attributes.metadata = object_head::metadata(metadata)?;
    }
    let new = NewObject {
        bucket: to.value.resource.name,
        name: details.destination_object_name,
        segments: bytes.segments(),
        md5: source.md5.clone(),
        attributes,
    };
    let conditions = Conditions {
        if_match: details.destination_object_if_match,
        if_none_match: details.destination_object_if_none_match,
        token: None,
    };
    let namespace = buckets::namespace(region);
    let compartment = bucket.resource.compartment_id.clone();
    let copied = CopyRecord::new(&namespace, compartment, &source, &new, context.now);
    let also = || Batch::new().insert(&copied);
    write::write(region, &new, &conditions, Timestamp::now(), also).await?;
    // As long as this is open its disks are not collected.
    drop(bytes);
    Ok(Reply::accepted().work_request(copied.id()))
}

/// `GetWorkRequest` of a copy.
pub async fn get_work_request(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id: String = request.path("workRequestId")?;
    let found = context.region.db.get::<CopyRecord>(&id).await?;
    Reply::ok(&found.ok_or_else(ApiError::not_authorized_or_not_found)?.resource)
}

/// `RenameObject`.
pub async fn rename(context: Context, request: Request) -> Result<Reply, ApiError> {
    let bucket = buckets::of(&context, &request).await?;
    let details: RenameObjectDetails = request.json()?;
    check_name(&details.new_name)?;
    if details.new_name == details.source_name {
        return Err(ApiError::invalid_parameter("newName", "must be another name than sourceName"));
    }
    let from = write::From {
        name: details.source_name,
        conditions: Conditions { if_match: details.source_if_match, ..Conditions::default() },
    };
    let conditions = Conditions {
        if_match: details.new_if_match,
        if_none_match: details.new_if_none_match,
        token: None,
    };
    let bucket = &bucket.resource.name;
    let renamed =
        write::rename(&context.region, bucket, &from, &details.new_name, &conditions).await?;
    Ok(write::written(&renamed))
}
