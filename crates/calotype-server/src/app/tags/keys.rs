//! Keys of defined tags. A name is unique in its namespace and cannot be changed.

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::tag_definitions::{
    CreateTagDetails, Tag, TagState, TagSummary, TagValidator, UpdateTagDetails,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::defaults::TagDefaultRecord;
use super::namespaces::load as load_namespace;
use super::{check_name, key_named, on_create, on_update};
use crate::app::Context;
use crate::app::claims::Claim;
use crate::db::{Batch, Db, Document, Error, Query, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::delete_tag::DeleteTag;

/// Keys of one namespace.
const KEYS_MAX: usize = 100;
/// Values that a validator can name.
const VALUES_MAX: usize = 100;

/// A key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The key as clients see it.
    pub resource: Tag,
}

impl Document for TagRecord {
    const KIND: &'static str = "tag";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.resource.tag_namespace_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.to_string())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.name.to_lowercase())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// What makes a key's name its own.
fn claimed(namespace: &Ocid, name: &str) -> String {
    format!("tag/{namespace}/{}", name.to_lowercase())
}

/// `CreateTag`.
pub async fn create_tag(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CreateTagDetails = request.json()?;
    let namespace = load_namespace(&context, &request).await?;
    let within = &namespace.resource;
    check_name(&details.name)?;
    check_validator(details.validator.as_ref())?;
    if within.is_retired {
        let retired = format!("TagNamespace {} is retired", within.name);
        return Err(ApiError::incorrect_state(retired));
    }
    let (compartment, freeform) = (&within.compartment_id, details.freeform_tags);
    let defined = on_create(&context, compartment, freeform.as_ref(), details.defined_tags).await?;
    let db = &context.region.db;
    let what = claimed(&within.id, &details.name);
    if db.get::<Claim>(&what).await?.is_some() {
        let taken = format!("TagDefinition {}.{} already exists", within.name, details.name);
        return Err(ApiError::conflict(taken));
    }
    if db.list_all::<TagRecord>(Query::new().parent(within.id.as_str())).await?.len() >= KEYS_MAX {
        let limit = format!("A tag namespace can have at most {KEYS_MAX} keys");
        return Err(ApiError::limit_exceeded(limit));
    }
    let tag = Versioned::first(TagRecord {
        resource: Tag {
            id: context.region.new_global_id("tagdefinition"),
            compartment_id: compartment.clone(),
            defined_tags: defined,
            description: details.description.into(),
            freeform_tags: freeform.unwrap_or_default(),
            is_cost_tracking: Some(details.is_cost_tracking.unwrap_or(false)),
            is_retired: false,
            lifecycle_state: TagState::Active,
            name: details.name.into(),
            tag_namespace_id: within.id.clone(),
            tag_namespace_name: within.name.clone(),
            time_created: context.now.into(),
            validator: details.validator,
        },
    });
    let owner = tag.resource.id.to_string();
    let claim = Claim { what, scope: None, owner, time_created: context.now };
    let reply = Reply::ok(&tag.resource)?.etag(tag.etag());
    // Replaced, so that whoever retires the namespace meanwhile retires this key as well, or is too late.
    context.commit(Batch::new().replace(&namespace).insert(&claim).create(&tag), reply).await
}

fn check_validator(validator: Option<&TagValidator>) -> Result<(), ApiError> {
    let Some(TagValidator::Enum { values }) = validator else { return Ok(()) };
    let count = values.as_ref().map_or(0, Vec::len);
    if (1..=VALUES_MAX).contains(&count) {
        return Ok(());
    }
    let what = format!("must be 1 to {VALUES_MAX} values, not {count}");
    Err(ApiError::invalid_parameter("validator.values", what))
}

async fn load(context: &Context, request: &Request) -> Result<Versioned<TagRecord>, ApiError> {
    let namespace = load_namespace(context, request).await?;
    let name: String = request.path("tagName")?;
    let tag = key_named(&context.region.db, &namespace.resource.id, &name).await?;
    let tag = tag.ok_or_else(ApiError::not_authorized_or_not_found)?;
    crate::app::load(context, &tag.resource.id).await
}

/// `GetTag`.
pub async fn get_tag(context: Context, request: Request) -> Result<Reply, ApiError> {
    let tag = load(&context, &request).await?;
    Ok(Reply::ok(&tag.resource)?.etag(tag.etag()))
}

/// `ListTags` of a namespace.
pub async fn list_tags(context: Context, request: Request) -> Result<Reply, ApiError> {
    let namespace = load_namespace(&context, &request).await?;
    let mut query = Query::new().parent(namespace.resource.id.as_str());
    if let Some(state) = request.query::<String>("lifecycleState")? {
        query = query.state(state);
    }
    let shown = |tag: &TagRecord| Some(summary(tag.resource.clone()));
    crate::app::list_by(&context, &request, query, shown).await
}

fn summary(tag: Tag) -> TagSummary {
    TagSummary {
        id: tag.id,
        compartment_id: tag.compartment_id,
        defined_tags: tag.defined_tags,
        description: tag.description,
        freeform_tags: tag.freeform_tags,
        is_cost_tracking: tag.is_cost_tracking,
        is_retired: tag.is_retired,
        lifecycle_state: tag.lifecycle_state.to_string(),
        name: tag.name,
        time_created: tag.time_created,
    }
}

/// `UpdateTag`: also retires a key and takes it into use again.
pub async fn update_tag(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateTagDetails = request.json()?;
    check_validator(details.validator.as_ref())?;
    let namespace = load_namespace(&context, &request).await?;
    let mut tag = load(&context, &request).await?;
    request.check_etag(&tag.etag())?;
    if tag.resource.lifecycle_state == TagState::Deleting {
        return Err(ApiError::incorrect_state("The tag key is being deleted"));
    }
    let (freeform, defined) = (details.freeform_tags, details.defined_tags);
    let has = (&tag.resource.freeform_tags, &tag.resource.defined_tags);
    on_update(&context, has, freeform.as_ref(), defined.as_ref()).await?;
    if let Some(retired) = details.is_retired {
        if !retired && namespace.resource.is_retired {
            let first = "The key's namespace is retired: take that into use again first";
            return Err(ApiError::incorrect_state(first));
        }
        set_retired(&mut tag.value, retired);
    }
    let resource = &mut tag.value.resource;
    if let Some(description) = details.description {
        resource.description = description.into();
    }
    if let Some(tags) = defined {
        resource.defined_tags = tags;
    }
    if let Some(tags) = freeform {
        resource.freeform_tags = tags;
    }
    if let Some(tracking) = details.is_cost_tracking {
        resource.is_cost_tracking = Some(tracking);
    }
    // The default validator is none: a key that has it takes any value again.
    match details.validator {
        Some(TagValidator::Default {}) => resource.validator = None,
        Some(validator) => resource.validator = Some(validator),
        None => {}
    }
    let reply = Reply::ok(&tag.resource)?.etag(tag.next_etag());
    context.commit(Batch::new().require(&namespace).replace(&tag), reply).await
}

/// Retires a key, or takes it into use again.
pub(super) fn set_retired(tag: &mut TagRecord, retired: bool) {
    tag.resource.is_retired = retired;
    tag.resource.lifecycle_state = if retired { TagState::Inactive } else { TagState::Active };
}

/// `DeleteTag`: of a retired one. A workflow takes it from whatever has it.
pub async fn delete_tag(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut tag = load(&context, &request).await?;
    request.check_etag(&tag.etag())?;
    let name = format!("{}.{}", tag.resource.tag_namespace_name, tag.resource.name);
    if tag.resource.lifecycle_state != TagState::Inactive {
        let retire =
            format!("TagDefinition {name} cannot be deleted while it is in use: retire it first");
        return Err(ApiError::conflict(retire));
    }
    tag.value.resource.lifecycle_state = TagState::Deleting;
    let mut batch = Batch::new().replace(&tag);
    let used = Query::new().parent(tag.resource.id.as_str());
    for default in context.region.db.list_all::<TagDefaultRecord>(used).await? {
        batch = batch.delete(&default);
    }
    let job = DeleteTag::new(&tag);
    crate::app::submit_visible(&context, job, batch, Reply::accepted()).await
}

/// What removes a key and frees its name. Done twice, it does nothing more.
pub(crate) async fn removal(db: &Db, id: &Ocid) -> Result<Batch, Error> {
    let Some(tag) = db.get::<TagRecord>(id.as_str()).await? else { return Ok(Batch::new()) };
    let what = claimed(&tag.resource.tag_namespace_id, &tag.resource.name);
    let batch = Batch::new().delete(&tag);
    Ok(match db.get::<Claim>(&what).await? {
        Some(claim) => batch.delete(&claim),
        None => batch,
    })
}
