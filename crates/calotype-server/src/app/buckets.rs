//! Buckets: where objects lie. A bucket's name is unique in the tenancy's namespace and never changes.

use std::collections::BTreeMap;

use calotype_api::buckets::{
    AutoTiering, Bucket, BucketScope, BucketStorageTier, BucketSummary, CreateBucketDetails,
    NamespaceMetadata, PublicAccessType, UpdateBucketDetails, Versioning,
};
use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::object_head;
use calotype_api::ocid::Ocid;
use calotype_api::tags::{DefinedTags, FreeformTags};
use data_encoding::BASE32_NOPAD;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::multipart::UploadRecord;
use super::objects::ObjectRecord;
use super::preauthenticated_requests::PreauthenticatedRecord;
use super::{Context, identity, tags};
use crate::db::{Batch, Document, PageToken, Query, Sort, SortKey, SortOrder, Versioned};
use crate::http::{Reply, Request};
use crate::region::Region;

/// Characters of a bucket's name.
const NAME_LENGTH_MAX: usize = 256;
/// Characters of the namespace.
const NAMESPACE_LENGTH: usize = 12;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BucketRecord {
    /// The bucket as clients see it, without its etag, which is that of the document.
    pub resource: Bucket,
}

impl BucketRecord {
    /// A new bucket in the tenancy's root compartment, without tags and metadata.
    pub fn new(region: &Region, name: &str, created_by: &impl ToString, now: Timestamp) -> Self {
        let resource = Bucket {
            approximate_count: None,
            approximate_size: None,
            auto_tiering: Some(AutoTiering::Disabled),
            bucket_scope: Some(BucketScope::Namespace),
            compartment_id: region.tenancy.clone(),
            created_by: created_by.to_string(),
            defined_tags: Some(DefinedTags::new()),
            etag: String::new(),
            freeform_tags: Some(FreeformTags::new()),
            id: Some(region.new_id("bucket")),
            is_bucket_key_enabled: Some(false),
            is_read_only: Some(false),
            kms_key_id: None,
            metadata: BTreeMap::new(),
            name: name.to_owned(),
            namespace: namespace(region),
            object_events_enabled: Some(false),
            object_lifecycle_policy_etag: None,
            public_access_type: Some(PublicAccessType::NoPublicAccess),
            replication_enabled: Some(false),
            storage_tier: Some(BucketStorageTier::Standard),
            time_created: now.into(),
            versioning: Some(Versioning::Disabled),
        };
        Self { resource }
    }
}

impl Document for BucketRecord {
    const KIND: &'static str = "bucket";

    fn id(&self) -> String {
        self.resource.name.clone()
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// The namespace in which the tenancy's bucket names are unique: always the same for a tenancy.
pub fn namespace(region: &Region) -> String {
    let digest = blake3::hash(region.tenancy.as_str().as_bytes());
    let letters = BASE32_NOPAD.encode(digest.as_bytes()).to_ascii_lowercase();
    format!("ax{}", &letters[..NAMESPACE_LENGTH - 2])
}

/// The bucket of that name in that namespace; who may not see it learns not even that it exists.
pub async fn find(
    region: &Region,
    namespace: &str,
    bucket: &str,
) -> Result<Versioned<BucketRecord>, ApiError> {
    check_namespace(region, namespace)?;
    let found = region.db.get::<BucketRecord>(bucket).await?;
    found.ok_or_else(|| ApiError::bucket_not_found(bucket, namespace))
}

/// The bucket that the path of a request names.
pub async fn of(context: &Context, request: &Request) -> Result<Versioned<BucketRecord>, ApiError> {
    let namespace: String = request.path("namespaceName")?;
    find(&context.region, &namespace, &request.path::<String>("bucketName")?).await
}

fn check_namespace(region: &Region, namespace: &str) -> Result<(), ApiError> {
    if namespace == self::namespace(region) {
        return Ok(());
    }
    let message = format!(
        "Either the namespace '{namespace}' does not exist or you are not authorized to access it"
    );
    Err(ApiError::new(ErrorCode::NamespaceNotFound, message))
}

/// `GetNamespace`.
pub async fn get_namespace(context: Context, request: Request) -> Result<Reply, ApiError> {
    if let Some(tenancy) = request.query::<Ocid>("compartmentId")?
        && tenancy != context.region.tenancy
    {
        identity::compartment_exists(&context, &tenancy).await?;
    }
    Reply::ok(&namespace(&context.region))
}

/// `GetNamespaceMetadata`.
pub async fn get_namespace_metadata(context: Context, request: Request) -> Result<Reply, ApiError> {
    let namespace: String = request.path("namespaceName")?;
    check_namespace(&context.region, &namespace)?;
    let root = context.region.tenancy.clone();
    Reply::ok(&NamespaceMetadata {
        default_s3_compartment_id: root.clone(),
        default_swift_compartment_id: root,
        namespace,
    })
}

/// `CreateBucket`.
pub async fn create(context: Context, request: Request) -> Result<Reply, ApiError> {
    let namespace: String = request.path("namespaceName")?;
    check_namespace(&context.region, &namespace)?;
    let details: CreateBucketDetails = request.json()?;
    check_name(&details.name)?;
    super::refuse_given(&[
        ("kmsKeyId", details.kms_key_id.is_some()),
        ("isBucketKeyEnabled", details.is_bucket_key_enabled == Some(true)),
        ("objectEventsEnabled", details.object_events_enabled == Some(true)),
    ])?;
    check_words(&[
        ("autoTiering", details.auto_tiering.as_deref(), "Disabled"),
        ("bucketScope", details.bucket_scope.as_deref(), "NAMESPACE"),
        (
            "publicAccessType",
            details.public_access_type.map(PublicAccessType::as_str),
            "NoPublicAccess",
        ),
        ("storageTier", details.storage_tier.map(BucketStorageTier::as_str), "Standard"),
        ("versioning", details.versioning.map(Versioning::as_str), "Disabled"),
    ])?;
    identity::compartment_exists(&context, &details.compartment_id).await?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags);
    let compartment = &details.compartment_id;
    let defined_tags = tags::on_create(&context, compartment, freeform, defined).await?;
    let BucketRecord { resource } =
        BucketRecord::new(&context.region, &details.name, &context.principal.user, context.now);
    let bucket = Versioned::first(BucketRecord {
        resource: Bucket {
            compartment_id: details.compartment_id,
            defined_tags: Some(defined_tags),
            freeform_tags: Some(details.freeform_tags.unwrap_or_default()),
            metadata: object_head::metadata(details.metadata.unwrap_or_default())?,
            ..resource
        },
    });
    let name = &bucket.resource.name;
    let location = format!("/n/{}/b/{name}", bucket.resource.namespace);
    let reply = shown(&bucket, bucket.etag())?.header("location", location);
    match context.commit(Batch::new().create(&bucket), reply).await {
        Err(error) if error.code == ErrorCode::Conflict => Err(ApiError::new(
            ErrorCode::BucketAlreadyExists,
            format!(
                "Either the bucket '{name}' already exists or you are not authorized to create it"
            ),
        )),
        other => other,
    }
}

/// What this region has only one of can be asked for and nothing else.
fn check_words(words: &[(&str, Option<&str>, &str)]) -> Result<(), ApiError> {
    for (field, asked, only) in words {
        if asked.is_some_and(|asked| asked != *only) {
            return Err(ApiError::invalid_parameter(
                field,
                format_args!("can only be {only} in this region"),
            ));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let message = format!(
        "A bucket's name has 1 to {NAME_LENGTH_MAX} letters, digits, periods, underscores and hyphens"
    );
    Err(ApiError::new(ErrorCode::InvalidBucketName, message))
}

fn shown(bucket: &BucketRecord, etag: String) -> Result<Reply, ApiError> {
    Ok(Reply::ok(&Bucket { etag: etag.clone(), ..bucket.resource.clone() })?.etag(etag))
}

/// `GetBucket`, with the number and size of its objects if they are asked for.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut bucket = of(&context, &request).await?;
    let etag = bucket.etag();
    if let Some(reply) = condition(&request, &etag)? {
        return Ok(reply);
    }
    let fields = request.query::<String>("fields")?.unwrap_or_default();
    let asked = |field| fields.split(',').any(|asked| asked == field);
    let (region, resource) = (&context.region, &mut bucket.value.resource);
    if asked("approximateCount") {
        let query = Query::new().parent(&resource.name);
        resource.approximate_count = Some(region.db.count::<ObjectRecord>(&query).await?);
    }
    if asked("approximateSize") {
        resource.approximate_size = Some(size_bytes(region, &resource.name).await?);
    }
    shown(&bucket, etag)
}

/// Bytes of a bucket's objects.
async fn size_bytes(region: &Region, bucket: &str) -> Result<u64, ApiError> {
    let mut size_bytes = 0;
    let add = |object: Versioned<ObjectRecord>| size_bytes += object.size_bytes;
    region.db.for_each(Query::new().parent(bucket), add).await?;
    Ok(size_bytes)
}

/// `HeadBucket`.
pub async fn head(context: Context, request: Request) -> Result<Reply, ApiError> {
    let etag = of(&context, &request).await?.etag();
    match condition(&request, &etag)? {
        Some(reply) => Ok(reply),
        None => Ok(Reply::no_content().status(StatusCode::OK).etag(etag)),
    }
}

/// Whether what is there is what the request wants to see: an answer or a refusal if not.
pub fn condition(request: &Request, etag: &str) -> Result<Option<Reply>, ApiError> {
    let is_met = |wanted: &str| wanted == "*" || wanted.trim_matches('"') == etag;
    if request.if_match.as_deref().is_some_and(|wanted| !is_met(wanted)) {
        return Err(ApiError::if_match_failed());
    }
    let known = request.header("if-none-match")?.is_some_and(|known| is_met(&known));
    Ok(known.then(|| Reply::no_content().status(StatusCode::NOT_MODIFIED).etag(etag)))
}

/// `ListBuckets` of a compartment, by name.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    check_namespace(&context.region, &request.path::<String>("namespaceName")?)?;
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let with_tags = request.query::<String>("fields")?.is_some();
    let sort = Sort { key: SortKey::Name, order: SortOrder::Ascending };
    let query = Query::new().compartment(compartment.as_str()).sort(sort);
    page(&context, &request, query, |bucket: &Versioned<BucketRecord>| {
        let resource = bucket.resource.clone();
        Some(BucketSummary {
            bucket_scope: resource.bucket_scope.map(|scope| scope.to_string()),
            compartment_id: resource.compartment_id,
            created_by: resource.created_by,
            defined_tags: resource.defined_tags.filter(|_| with_tags),
            etag: bucket.etag(),
            freeform_tags: resource.freeform_tags.filter(|_| with_tags),
            name: resource.name,
            namespace: resource.namespace,
            time_created: resource.time_created,
        })
    })
    .await
}

/// Answers a page of what `query` finds, as `show` shows it.
pub(super) async fn page<T: Document, A: Serialize>(
    context: &Context,
    request: &Request,
    query: Query,
    show: impl Fn(&Versioned<T>) -> Option<A>,
) -> Result<Reply, ApiError> {
    let after = request.query::<String>("page")?;
    let after = after.map(|token| PageToken::parse(&token)).transpose()?;
    let query = query.limit(super::page_limit(request)?).after(after);
    let page = context.region.db.list::<T>(query).await?;
    let items: Vec<_> = page.items.iter().filter_map(show).collect();
    Ok(Reply::ok(&items)?.maybe_next_page(page.next.map(|token| token.to_string())))
}

/// `UpdateBucket`: tags, metadata and compartment.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateBucketDetails = request.json()?;
    let mut bucket = of(&context, &request).await?;
    if condition(&request, &bucket.etag())?.is_some() {
        return Err(ApiError::if_none_match_failed());
    }
    super::refuse_given(&[
        ("kmsKeyId", details.kms_key_id.is_some()),
        ("isBucketKeyEnabled", details.is_bucket_key_enabled == Some(true)),
        ("objectEventsEnabled", details.object_events_enabled == Some(true)),
    ])?;
    let resource = &mut bucket.value.resource;
    check_words(&[
        ("autoTiering", details.auto_tiering.as_deref(), "Disabled"),
        ("bucketScope", details.bucket_scope.as_deref(), "NAMESPACE"),
        ("name", details.name.as_deref(), &resource.name),
        ("namespace", details.namespace.as_deref(), &resource.namespace),
        (
            "publicAccessType",
            details.public_access_type.map(PublicAccessType::as_str),
            "NoPublicAccess",
        ),
        ("versioning", details.versioning.map(Versioning::as_str), "Disabled"),
    ])?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    let has_freeform = resource.freeform_tags.clone().unwrap_or_default();
    let has_defined = resource.defined_tags.clone().unwrap_or_default();
    tags::on_update(&context, (&has_freeform, &has_defined), freeform, defined).await?;
    if let Some(compartment) = details.compartment_id {
        identity::compartment_exists(&context, &compartment).await?;
        resource.compartment_id = compartment;
    }
    if let Some(metadata) = details.metadata {
        resource.metadata = changed(&resource.metadata, object_head::metadata(metadata)?);
    }
    if details.freeform_tags.is_some() {
        resource.freeform_tags = details.freeform_tags;
    }
    if details.defined_tags.is_some() {
        resource.defined_tags = details.defined_tags;
    }
    let batch = Batch::new().replace(&bucket);
    let reply = shown(&bucket, bucket.next_etag())?;
    context.commit(batch, reply).await
}

/// Metadata of a bucket is merged, not replaced; an empty value takes a key away.
fn changed(
    now: &BTreeMap<String, String>,
    by: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut metadata = now.clone();
    metadata.extend(by);
    metadata.retain(|_, value| !value.is_empty());
    metadata
}

/// `DeleteBucket`, if there is nothing in it and nobody was given access to it.
pub async fn delete(context: Context, request: Request) -> Result<Reply, ApiError> {
    let bucket = of(&context, &request).await?;
    condition(&request, &bucket.etag())?;
    let name = &bucket.resource.name;
    let batch = Batch::new()
        .require_none::<ObjectRecord>(name)
        .require_none::<UploadRecord>(name)
        .require_none::<PreauthenticatedRecord>(name)
        .delete(&bucket);
    let Err(error) = context.region.db.apply(batch).await else { return Ok(Reply::no_content()) };
    let crate::db::ErrorKind::Conflict { kind, .. } = &error.kind else { return Err(error.into()) };
    let what = match kind.as_str() {
        ObjectRecord::KIND => "objects in it",
        UploadRecord::KIND => "multipart uploads in progress: commit or abort them",
        PreauthenticatedRecord::KIND => "pre-authenticated requests for it: delete them",
        _ => return Err(error.into()),
    };
    let message = format!("Bucket named '{name}' is not empty: there are {what}");
    Err(ApiError::new(ErrorCode::BucketNotEmpty, message))
}
