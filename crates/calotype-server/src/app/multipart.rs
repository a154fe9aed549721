//! Uploads in parts: begun, filled in any order, and made into an object of which no byte is copied.

use std::collections::BTreeSet;

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::object_head::check_name;
use calotype_api::objects::{
    CommitMultipartUploadDetails, CreateMultipartUploadDetails, MultipartUpload,
    MultipartUploadPartSummary, StorageTier,
};
use calotype_api::upload_parts::choose;
use data_encoding::BASE64;
use http::StatusCode;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::objects::attributes::{self, Attributes};
use super::objects::receive::{self, Received};
use super::objects::record::{self, NewObject, ObjectRecord, Segment};
use super::objects::write::{self, Conditions};
use super::objects::{self, OBJECT_BYTES_MAX, PUT_BYTES_MAX};
use super::{Context, buckets};
use crate::db::{Batch, Document, Query, Sort, SortKey, SortOrder, Versioned};
use crate::http::{Reply, Request};
use crate::region::Region;

pub mod writer;

/// Parts of an upload, and the greatest number of one.
pub const PARTS_MAX: u32 = 10_000;
/// How often a part is written that others come before.
const ATTEMPTS_MAX: usize = 16;

/// An upload that is in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// Its id.
    pub upload_id: String,
    /// Name of the bucket.
    pub bucket: String,
    /// Name that the object will have.
    pub object: String,
    /// What the object will say about itself.
    pub attributes: Attributes,
    time_created: Timestamp,
}

/// A part that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    upload_id: String,
    number: u32,
    /// Its bytes.
    pub segment: Segment,
    /// Base64 of its MD5, if a client brought it.
    md5: Option<String>,
    time_created: Timestamp,
}

impl Document for UploadRecord {
    const KIND: &'static str = "multipart_upload";

    fn id(&self) -> String {
        self.upload_id.clone()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.bucket.clone())
    }

    fn name(&self) -> Option<String> {
        Some(self.object.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

impl Document for PartRecord {
    const KIND: &'static str = "multipart_part";

    fn id(&self) -> String {
        part_id(&self.upload_id, self.number)
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.upload_id.clone())
    }

    /// In the order of numbers.
    fn name(&self) -> Option<String> {
        Some(format!("{:010}", self.number))
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

fn part_id(upload_id: &str, number: u32) -> String {
    format!("{upload_id}/{number}")
}

fn not_found(upload_id: &str) -> ApiError {
    let message = format!("The multipart upload '{upload_id}' was not found");
    ApiError::new(ErrorCode::UploadNotFound, message)
}

/// `CreateMultipartUpload`.
pub async fn create(context: Context, request: Request) -> Result<Reply, ApiError> {
    let bucket = buckets::of(&context, &request).await?;
    attributes::refuse_not_supported(&request)?;
    let details: CreateMultipartUploadDetails = request.json()?;
    let (bucket, object) = (bucket.value.resource.name, details.object.clone());
    let conditions = Conditions::of(&request)?;
    let attributes = Attributes::of_upload(details)?;
    let upload = begin(&context.region, bucket, object, attributes, &conditions).await?;
    Reply::ok(&shown(&context.region, &upload))
}

/// Begins the upload of an object which may replace what is there.
pub(super) async fn begin(
    region: &Region,
    bucket: String,
    object: String,
    attributes: Attributes,
    conditions: &Conditions,
) -> Result<UploadRecord, ApiError> {
    let existing = write::existing(region, &bucket, &object).await?;
    conditions.check(existing.map(|existing| existing.etag()).as_deref())?;
    let upload = new_upload(bucket, object, attributes)?;
    for _ in 0..ATTEMPTS_MAX {
        let namespace = buckets::namespace(region);
        let bucket = buckets::find(region, &namespace, &upload.bucket).await?;
        let batch = Batch::new().require(&bucket).insert(&upload);
        match region.db.apply(conditions.still_permitted(region, batch).await?).await {
            Ok(()) => return Ok(upload),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("The bucket is being changed by others, try again later"))
}

fn new_upload(
    bucket: String,
    object: String,
    attributes: Attributes,
) -> Result<UploadRecord, ApiError> {
    check_name(&object)?;
    let upload_id = Uuid::new_v4().to_string();
    Ok(UploadRecord { upload_id, bucket, object, attributes, time_created: Timestamp::now() })
}

pub(super) fn shown(region: &Region, upload: &UploadRecord) -> MultipartUpload {
    MultipartUpload {
        bucket: upload.bucket.clone(),
        namespace: buckets::namespace(region),
        object: upload.object.clone(),
        storage_tier: Some(StorageTier::Standard),
        time_created: upload.time_created.into(),
        upload_id: upload.upload_id.clone(),
    }
}

/// The upload of that id, if it is one of that object.
pub(super) async fn find(
    region: &Region,
    bucket: &str,
    object: &str,
    upload_id: &str,
) -> Result<Versioned<UploadRecord>, ApiError> {
    let found = region.db.get::<UploadRecord>(upload_id).await?;
    let found = found.filter(|upload| upload.bucket == bucket && upload.object == object);
    found.ok_or_else(|| not_found(upload_id))
}

async fn of(context: &Context, request: &Request) -> Result<Versioned<UploadRecord>, ApiError> {
    let (bucket, object) = objects::place(context, request).await?;
    let upload_id: String = request.required_query("uploadId")?;
    find(&context.region, &bucket, &object, &upload_id).await
}

/// `UploadPart`.
pub async fn upload_part(context: Context, request: Request) -> Result<Reply, ApiError> {
    let upload = of(&context, &request).await?;
    let number = request.required_query("uploadPartNum")?;
    receive_part(&context, &request, &upload, number).await
}

pub(super) async fn receive_part(
    context: &Context,
    request: &Request,
    upload: &UploadRecord,
    number: u32,
) -> Result<Reply, ApiError> {
    if !(1..=PARTS_MAX).contains(&number) {
        let must = format!("must be between 1 and {PARTS_MAX}");
        return Err(ApiError::invalid_parameter("uploadPartNum", must));
    }
    attributes::refuse_not_supported(request)?;
    let region = &context.region;
    let conditions = Conditions::of(request)?;
    // Looked at before the bytes come, too: they need not.
    let existing = region.db.get::<PartRecord>(&part_id(&upload.upload_id, number)).await?;
    conditions.check(existing.as_ref().map(Versioned::etag).as_deref())?;
    let received = receive::receive(region, request, PUT_BYTES_MAX).await?;
    let part = record_part(region, &upload.upload_id, number, &received, &conditions).await?;
    Ok(Reply::no_content()
        .status(StatusCode::OK)
        .etag(part.etag())
        .header("opc-content-md5", part.md5.clone().unwrap_or_default()))
}

/// Writes a part whose bytes are stored, in place of one with the same number.
async fn record_part(
    region: &Region,
    upload_id: &str,
    number: u32,
    received: &Received,
    conditions: &Conditions,
) -> Result<Versioned<PartRecord>, ApiError> {
    let record = PartRecord {
        upload_id: upload_id.to_owned(),
        number,
        segment: received.segment(),
        md5: received.md5.map(|md5| BASE64.encode(&md5)),
        time_created: Timestamp::now(),
    };
    for _ in 0..ATTEMPTS_MAX {
        let upload = region.db.get::<UploadRecord>(upload_id).await?;
        // As long as it is in progress, and not only was.
        let batch = Batch::new().require(&upload.ok_or_else(|| not_found(upload_id))?);
        let batch = conditions.still_permitted(region, batch).await?;
        let existing = region.db.get::<PartRecord>(&part_id(upload_id, number)).await?;
        conditions.check(existing.as_ref().map(Versioned::etag).as_deref())?;
        let (part, batch) = match existing {
            None => {
                let part = Versioned::first(record.clone());
                let batch = batch.create(&part);
                (part, batch)
            }
            Some(existing) => {
                let mut part = Versioned { value: record.clone(), version: existing.version };
                let batch = batch.replace(&part);
                part.version = part.version.wrapping_add(1);
                (part, batch)
            }
        };
        match region.db.apply(batch).await {
            Ok(()) => return Ok(part),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("The part is being written by others, try again later"))
}

/// All parts of an upload, by number.
async fn parts(region: &Region, upload_id: &str) -> Result<Vec<Versioned<PartRecord>>, ApiError> {
    Ok(region.db.list_all::<PartRecord>(by_number(upload_id)).await?)
}

fn by_number(upload_id: &str) -> Query {
    let sort = Sort { key: SortKey::Name, order: SortOrder::Ascending };
    Query::new().parent(upload_id).sort(sort)
}

/// `CommitMultipartUpload`.
pub async fn commit(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CommitMultipartUploadDetails = request.json()?;
    let upload = of(&context, &request).await?;
    let conditions = Conditions::of(&request)?;
    let wanted = Some(&details);
    commit_upload(&context.region, &upload, wanted, &conditions)
        .await
        .map(|object| committed(&object))
}

pub(super) fn committed(object: &Versioned<ObjectRecord>) -> Reply {
    let md5 = object.md5.clone().unwrap_or_default();
    write::written(object).header("opc-multipart-md5", md5)
}

/// Makes an object of the parts of an upload that are wanted, or of all, in the order of their numbers.
pub(super) async fn commit_upload(
    region: &Region,
    upload: &Versioned<UploadRecord>,
    wanted: Option<&CommitMultipartUploadDetails>,
    conditions: &Conditions,
) -> Result<Versioned<ObjectRecord>, ApiError> {
    let all = parts(region, &upload.upload_id).await?;
    let chosen = match wanted {
        Some(wanted) => {
            let numbered = all.iter().map(|part| (part.number, (part.etag(), part))).collect();
            let chosen = choose(&numbered, &wanted.parts_to_commit)?;
            each_is_in_one_list(&all, &chosen, wanted.parts_to_exclude.as_deref())?;
            chosen
        }
        None => all.iter().collect(),
    };
    let new = object_of(upload, &chosen)?;
    // They go from one document to another.
    let kept = record::keep(&region.store, &new.segments);
    let kept = kept.ok_or_else(|| not_found(&upload.upload_id))?;
    let written = write_object(region, upload, &all, &new, conditions).await;
    drop(kept);
    if chosen.len() < all.len() {
        region.litter.note();
    }
    written
}

/// Writes the object of an upload that ends with it, as long as its parts are those that were read.
async fn write_object(
    region: &Region,
    upload: &Versioned<UploadRecord>,
    all: &[Versioned<PartRecord>],
    new: &NewObject,
    conditions: &Conditions,
) -> Result<Versioned<ObjectRecord>, ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        let (written, batch) = write::prepare(region, new, conditions, Timestamp::now()).await?;
        match region.db.apply(end_upload(batch, upload, all)).await {
            Ok(()) => return Ok(written),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
        // Somebody committed or aborted it first, or sent another part.
        find(region, &upload.bucket, &upload.object, &upload.upload_id).await?;
        let now = parts(region, &upload.upload_id).await?;
        let same = |(one, other): (&Versioned<PartRecord>, &Versioned<PartRecord>)| {
            (one.number, one.version) == (other.number, other.version)
        };
        if now.len() != all.len() || !now.iter().zip(all).all(same) {
            return Err(ApiError::conflict(
                "A part of the upload was written while it was committed: list its parts, and commit it again",
            ));
        }
    }
    Err(write::contended())
}

/// "Each part created for this upload must be in either partsToExclude or partsToCommit, but cannot be in both":
/// so nothing is thrown away that somebody forgot.
fn each_is_in_one_list(
    all: &[Versioned<PartRecord>],
    chosen: &[&Versioned<PartRecord>],
    excluded: Option<&[u32]>,
) -> Result<(), ApiError> {
    let chosen: BTreeSet<_> = chosen.iter().map(|part| part.number).collect();
    let excluded: BTreeSet<_> = excluded.unwrap_or_default().iter().copied().collect();
    for number in all.iter().map(|part| part.number) {
        let wrong = match (chosen.contains(&number), excluded.contains(&number)) {
            (true, true) => "is in partsToCommit, too",
            (false, false) => "is neither there nor in partsToCommit",
            _ => continue,
        };
        let wrong = format!("part {number} {wrong}");
        return Err(ApiError::invalid_parameter("partsToExclude", wrong));
    }
    Ok(())
}

/// Adds to `batch` that the upload and all its parts go; it meets a conflict if one more has come.
fn end_upload(
    batch: Batch,
    upload: &Versioned<UploadRecord>,
    parts: &[Versioned<PartRecord>],
) -> Batch {
    let batch = parts.iter().fold(batch.delete(upload), Batch::delete);
    batch.require_none::<PartRecord>(&upload.upload_id)
}

/// The object that an upload becomes.
fn object_of(
    upload: &UploadRecord,
    chosen: &[&Versioned<PartRecord>],
) -> Result<NewObject, ApiError> {
    if chosen.is_empty() {
        return Err(ApiError::invalid_parameter("partsToCommit", "must have at least one part"));
    }
    let segments: Vec<_> = chosen.iter().map(|part| part.segment).collect();
    let size_bytes: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    if size_bytes > OBJECT_BYTES_MAX {
        let has = format!("have {size_bytes} bytes together; the limit is {OBJECT_BYTES_MAX}");
        return Err(ApiError::invalid_parameter("partsToCommit", has));
    }
    Ok(NewObject {
        bucket: upload.bucket.clone(),
        name: upload.object.clone(),
        segments,
        md5: md5_of_parts(chosen),
        attributes: upload.attributes.clone(),
    })
}

/// The MD5 of the parts' MD5s, with their number, if all have one.
fn md5_of_parts(parts: &[&Versioned<PartRecord>]) -> Option<String> {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(BASE64.decode(part.md5.as_ref()?.as_bytes()).unwrap_or_default());
    }
    Some(format!("{}-{}", BASE64.encode(&md5.finalize()), parts.len()))
}

/// `AbortMultipartUpload`.
pub async fn abort(context: Context, request: Request) -> Result<Reply, ApiError> {
    let upload = of(&context, &request).await?;
    abort_upload(&context.region, upload).await?;
    Ok(Reply::no_content())
}

/// Forgets an upload and its parts.
pub(super) async fn abort_upload(
    region: &Region,
    mut upload: Versioned<UploadRecord>,
) -> Result<(), ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        let parts = parts(region, &upload.upload_id).await?;
        let batch = end_upload(Batch::new(), &upload, &parts);
        match region.db.apply(batch).await {
            Ok(()) => {
                region.litter.note();
                return Ok(());
            }
            // A part has come meanwhile, or the upload has ended.
            Err(error) if error.is_conflict() => {
                upload = find(region, &upload.bucket, &upload.object, &upload.upload_id).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("Parts are still being uploaded, try again later"))
}

/// `ListMultipartUploads` of a bucket, newest first.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let bucket = buckets::of(&context, &request).await?;
    let query = Query::new().parent(&bucket.resource.name);
    buckets::page(&context, &request, query, |upload: &Versioned<UploadRecord>| {
        Some(shown(&context.region, upload))
    })
    .await
}

/// `ListMultipartUploadParts`, by number.
pub async fn list_parts(context: Context, request: Request) -> Result<Reply, ApiError> {
    let upload = of(&context, &request).await?;
    let query = by_number(&upload.upload_id);
    buckets::page(&context, &request, query, |part: &Versioned<PartRecord>| {
        Some(MultipartUploadPartSummary {
            etag: part.etag(),
            md5: part.md5.clone().unwrap_or_default(),
            part_number: part.number,
            size: part.segment.size_bytes,
        })
    })
    .await
}
