//! Pre-authenticated requests: URLs by which whoever has one reads or writes objects until it expires.
//!
//! The URL has a secret in it, of which only a digest is kept: it is shown once. Who uses it acts for the user who
//! made it, and can do no more than that user may.

use calotype_api::error::ApiError;
use calotype_api::object_head::check_name;
use calotype_api::object_url::ObjectPath;
use calotype_api::objects::{CommitMultipartUploadDetails, MultipartUpload};
use calotype_api::ocid::Ocid;
use calotype_api::percent::encode;
use calotype_api::preauthenticated_requests::{
    AccessType, BucketListingAction, CreatePreauthenticatedRequestDetails, PreauthenticatedRequest,
    PreauthenticatedRequestSummary,
};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::objects::address::host;
use super::objects::attributes::Attributes;
use super::objects::write::Conditions;
use super::{Context, buckets, measured, multipart, objects};
use crate::db::{Batch, Document, Query, Versioned};
use crate::http::{Principal, Reply, Request};
use crate::region::Region;

/// Bytes of a secret.
const TOKEN_BYTES: usize = 48;

/// A pre-authenticated request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreauthenticatedRecord {
    /// A digest of the secret.
    id: String,
    name: String,
    bucket: String,
    access_type: AccessType,
    listing: BucketListingAction,
    /// The object; or, of those that are good for any, what its name begins with.
    object_name: Option<String>,
    user: Ocid,
    tenancy: Ocid,
    time_created: Timestamp,
    /// When it stops to be good for anything.
    pub time_expires: Timestamp,
}

impl Document for PreauthenticatedRecord {
    const KIND: &'static str = "preauthenticated_request";

    fn id(&self) -> String {
        self.id.clone()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.bucket.clone())
    }

    fn name(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

/// What an object is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be written.
    Write,
}

impl PreauthenticatedRecord {
    /// Refuses another bucket than its own, as one that it does not open.
    pub fn check_place(
        &self,
        region: &Region,
        namespace: &str,
        bucket: &str,
    ) -> Result<(), ApiError> {
        if namespace == buckets::namespace(region) && bucket == self.bucket {
            return Ok(());
        }
        Err(ApiError::not_authorized_or_not_found())
    }

    /// Refuses an object, or an access to it, that it is not good for.
    pub fn check_object(&self, access: Access, object: &str) -> Result<(), ApiError> {
        let may = match access {
            Access::Read => self.access_type.reads(),
            Access::Write => self.access_type.writes(),
        };
        let is_any = self.access_type.is_of_any_object();
        let fits = match &self.object_name {
            Some(prefix) if is_any => object.starts_with(prefix.as_str()),
            Some(name) => object == name,
            None => is_any,
        };
        if may && fits { Ok(()) } else { Err(ApiError::not_authorized_or_not_found()) }
    }
}

fn digest(token: &str) -> String {
    BASE64URL_NOPAD.encode(blake3::hash(token.as_bytes()).as_bytes())
}

/// The request of that secret. One that has expired is answered as one that never was.
pub async fn found(
    region: &Region,
    token: &str,
    now: Timestamp,
) -> Result<Versioned<PreauthenticatedRecord>, ApiError> {
    let found = region.db.get::<PreauthenticatedRecord>(&digest(token)).await?;
    let good = found.filter(|request| now < request.time_expires);
    good.ok_or_else(ApiError::not_authorized_or_not_found)
}

/// On whose behalf the request of that secret is carried out.
pub async fn bearer(region: &Region, token: &str, now: Timestamp) -> Result<Principal, ApiError> {
    let request = found(region, token, now).await?.value;
    Ok(Principal { user: request.user, tenancy: request.tenancy })
}

/// `CreatePreauthenticatedRequest`.
pub async fn create(context: Context, request: Request) -> Result<Reply, ApiError> {
    let bucket = buckets::of(&context, &request).await?;
    let details: CreatePreauthenticatedRequestDetails = request.json()?;
    let listing = check(&details, context.now)?;
    let mut secret = [0; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| ApiError::internal())?;
    let token = BASE64URL_NOPAD.encode(&secret);
    let record = PreauthenticatedRecord {
        id: digest(&token),
        name: measured("name", details.name)?,
        bucket: bucket.resource.name.clone(),
        access_type: details.access_type,
        listing,
        object_name: details.object_name,
        user: context.principal.user.clone(),
        tenancy: context.principal.tenancy.clone(),
        time_created: context.now,
        time_expires: details.time_expires.timestamp(),
    };
    let access_uri = access_uri(&context.region, &token, &record);
    let reply = Reply::ok(&PreauthenticatedRequest {
        access_type: record.access_type,
        full_path: Some(format!("https://{}{access_uri}", host(&context.region.config))),
        access_uri,
        bucket_listing_action: Some(record.listing),
        id: record.id.clone(),
        name: record.name.clone(),
        object_name: record.object_name.clone(),
        time_created: record.time_created.into(),
        time_expires: record.time_expires.into(),
    })?;
    // Not remembered for a repeated request: the secret is shown once, and not kept.
    context.region.db.apply(Batch::new().require(&bucket).insert(&record)).await?;
    Ok(reply)
}

fn check(
    details: &CreatePreauthenticatedRequestDetails,
    now: Timestamp,
) -> Result<BucketListingAction, ApiError> {
    let access = details.access_type;
    match &details.object_name {
        Some(name) => check_name(name)?,
        None if access.is_of_any_object() => {}
        None => return Err(ApiError::missing_parameter("objectName")),
    }
    if details.time_expires.timestamp() <= now {
        return Err(ApiError::invalid_parameter("timeExpires", "must be in the future"));
    }
    let listing = details.bucket_listing_action.as_deref().unwrap_or("Deny");
    let listing: BucketListingAction = listing
        .parse()
        .map_err(|wrong| ApiError::invalid_parameter("bucketListingAction", wrong))?;
    if listing == BucketListingAction::ListObjects && !(access.is_of_any_object() && access.reads())
    {
        let must = "can be ListObjects only for AnyObjectRead and AnyObjectReadWrite";
        return Err(ApiError::invalid_parameter("bucketListingAction", must));
    }
    Ok(listing)
}

/// The path of the URL: that of the object, or that to which an object's name is added.
fn access_uri(region: &Region, token: &str, record: &PreauthenticatedRecord) -> String {
    let object = match &record.object_name {
        Some(name) if !record.access_type.is_of_any_object() => name.clone(),
        _ => String::new(),
    };
    let (namespace, bucket) = (buckets::namespace(region), record.bucket.clone());
    ObjectPath { token: Some(token.to_owned()), namespace, bucket, object }.to_string()
}

fn summary(record: &PreauthenticatedRecord) -> PreauthenticatedRequestSummary {
    PreauthenticatedRequestSummary {
        access_type: record.access_type,
        bucket_listing_action: Some(record.listing.to_string()),
        id: record.id.clone(),
        name: record.name.clone(),
        object_name: record.object_name.clone(),
        time_created: record.time_created.into(),
        time_expires: record.time_expires.into(),
    }
}

async fn of(
    context: &Context,
    request: &Request,
) -> Result<Versioned<PreauthenticatedRecord>, ApiError> {
    let bucket = buckets::of(context, request).await?;
    let id: String = request.path("parId")?;
    let found = context.region.db.get::<PreauthenticatedRecord>(&id).await?;
    let found = found.filter(|found| found.bucket == bucket.resource.name);
    found.ok_or_else(ApiError::not_authorized_or_not_found)
}

/// `GetPreauthenticatedRequest`. Its secret is not known any more.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    Reply::ok(&summary(&*of(&context, &request).await?))
}

/// `ListPreauthenticatedRequests` of a bucket, newest first.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let bucket = buckets::of(&context, &request).await?;
    let prefix = request.query::<String>("objectNamePrefix")?.unwrap_or_default();
    let query = Query::new().parent(&bucket.resource.name);
    buckets::page(&context, &request, query, |record: &Versioned<PreauthenticatedRecord>| {
        let object = record.object_name.as_deref().unwrap_or_default();
        object.starts_with(&prefix).then(|| summary(record))
    })
    .await
}

/// `DeletePreauthenticatedRequest`: its URL is good for nothing from now on.
pub async fn delete(context: Context, request: Request) -> Result<Reply, ApiError> {
    let record = of(&context, &request).await?;
    context.commit(Batch::new().delete(&record), Reply::no_content()).await
}

/// The request by whose URL the service is asked, for the bucket of that URL.
async fn used(
    context: &Context,
    request: &Request,
) -> Result<Versioned<PreauthenticatedRecord>, ApiError> {
    let token: String = request.path("token")?;
    let record = found(&context.region, &token, context.now).await?;
    let namespace: String = request.path("namespaceName")?;
    record.check_place(&context.region, &namespace, &request.path::<String>("bucketName")?)?;
    Ok(record)
}

/// Bucket and object of the URL, if the request by whose URL the service is asked is good for them.
async fn opened(
    context: &Context,
    request: &Request,
    access: Access,
) -> Result<(String, String), ApiError> {
    let record = used(context, request).await?;
    record.check_object(access, &request.path::<String>("objectName")?)?;
    objects::place(context, request).await
}

/// `GetObject` by URL.
pub async fn get_object(context: Context, request: Request) -> Result<Reply, ApiError> {
    let (bucket, object) = opened(&context, &request, Access::Read).await?;
    objects::get_from(&context, &request, &bucket, &object).await
}

/// `HeadObject` by URL.
pub async fn head_object(context: Context, request: Request) -> Result<Reply, ApiError> {
    let (bucket, object) = opened(&context, &request, Access::Read).await?;
    objects::head_of(&context, &request, &bucket, &object).await
}

/// `ListObjects` by URL.
pub async fn list_objects(context: Context, request: Request) -> Result<Reply, ApiError> {
    let record = used(&context, &request).await?;
    if record.listing != BucketListingAction::ListObjects {
        return Err(ApiError::not_authorized_or_not_found());
    }
    let visible = record.object_name.as_deref().unwrap_or_default();
    objects::list_visible(&context, &request, &record.bucket, visible).await
}

/// An upload in parts that was begun by URL.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UploadByUrl {
    #[serde(flatten)]
    upload: MultipartUpload,
    /// Where its parts go: each below it by its number.
    access_uri: String,
}

/// `PutObject` by URL; with the header `opc-multipart: true`, `CreateMultipartUpload`.
pub async fn put_object(context: Context, request: Request) -> Result<Reply, ApiError> {
    let (bucket, object) = opened(&context, &request, Access::Write).await?;
    let in_parts = request.header("opc-multipart")?;
    if !in_parts.is_some_and(|word| word.trim().eq_ignore_ascii_case("true")) {
        return objects::put_into(&context, &request, bucket, object).await;
    }
    let region = &context.region;
    let attributes = Attributes::of(&request)?;
    let conditions = Conditions::of(&request)?;
    let upload = multipart::begin(region, bucket, object, attributes, &conditions).await?;
    let access_uri = format!(
        "/p/{}/n/{}/b/{}/u/{}/id/{}/",
        request.path::<String>("token")?,
        buckets::namespace(region),
        upload.bucket,
        encode(&upload.object),
        upload.upload_id
    );
    Reply::ok(&UploadByUrl { upload: multipart::shown(region, &upload), access_uri })
}

async fn upload(
    context: &Context,
    request: &Request,
) -> Result<Versioned<multipart::UploadRecord>, ApiError> {
    let (bucket, object) = opened(context, request, Access::Write).await?;
    let id: String = request.path("uploadId")?;
    multipart::find(&context.region, &bucket, &object, &id).await
}

/// `UploadPart` by URL.
pub async fn upload_part(context: Context, request: Request) -> Result<Reply, ApiError> {
    let upload = upload(&context, &request).await?;
    let number = request.path("uploadPartNum")?;
    multipart::receive_part(&context, &request, &upload, number).await
}

/// `CommitMultipartUpload` by URL: of the parts that the body names, or of all.
pub async fn commit_upload(context: Context, request: Request) -> Result<Reply, ApiError> {
    let upload = upload(&context, &request).await?;
    let details = match request.body.trim_ascii() {
        b"" | b"{}" => None,
        _ => Some(request.json::<CommitMultipartUploadDetails>()?),
    };
    let conditions = Conditions::of(&request)?;
    let (region, wanted) = (&context.region, details.as_ref());
    let object = multipart::commit_upload(region, &upload, wanted, &conditions).await?;
    Ok(multipart::committed(&object))
}

/// `AbortMultipartUpload` by URL.
pub async fn abort_upload(context: Context, request: Request) -> Result<Reply, ApiError> {
    let upload = upload(&context, &request).await?;
    multipart::abort_upload(&context.region, upload).await?;
    Ok(Reply::no_content())
}
