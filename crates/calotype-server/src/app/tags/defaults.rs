//! Tag defaults: what new resources of a compartment, and of those below it, are tagged with unless their maker says
//! something else. A required one must be said.

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::tag_definitions::{
    CreateTagDefaultDetails, TagDefault, TagDefaultState, TagState, UpdateTagDefaultDetails,
};
use calotype_api::tags::DefinedTags;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check_value;
use super::keys::TagRecord;
use crate::app::{Context, identity, refuse_given};
use crate::db::{Batch, Document, Query, Versioned};
use crate::http::{Reply, Request};

/// Defaults of one compartment.
const DEFAULTS_MAX: usize = 5;
/// Words in a default's value that stand for something else.
const PRINCIPAL: &str = "${iam.principal.name}";
const NOW: &str = "${oci.datetime}";

/// A default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TagDefaultRecord {
    pub(super) resource: TagDefault,
}

impl Document for TagDefaultRecord {
    const KIND: &'static str = "tag_default";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.resource.tag_definition_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.to_string())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// Tags a new resource of the compartment with the defaults that it was not tagged with.
pub(super) async fn apply(
    context: &Context,
    compartment: &Ocid,
    defined: &mut DefinedTags,
) -> Result<(), ApiError> {
    let db = &context.region.db;
    for compartment in identity::ancestry(db, compartment).await? {
        let here = Query::new().compartment(compartment.as_str());
        for default in db.list_all::<TagDefaultRecord>(here).await? {
            let default = &default.resource;
            let Some(tag) = db.get::<TagRecord>(default.tag_definition_id.as_str()).await? else {
                continue;
            };
            let (namespace, key) = (&tag.resource.tag_namespace_name, &tag.resource.name);
            let given = has(defined, namespace, key);
            if given || tag.resource.lifecycle_state != TagState::Active {
                continue;
            }
            if default.is_required {
                let required =
                    format!("{namespace}.{key} is required in compartment {compartment}");
                return Err(ApiError::invalid_parameter("definedTags", required));
            }
            let value = default.value.replace(PRINCIPAL, context.principal.user.as_str());
            let value = value.replace(NOW, &context.now.to_string());
            let tags = defined.entry(namespace.clone()).or_default();
            tags.insert(key.clone(), Value::String(value));
        }
    }
    Ok(())
}

/// Whether the tag is there, whatever the case of its name.
fn has(defined: &DefinedTags, namespace: &str, key: &str) -> bool {
    let same = |(name, _): &(&String, &_)| name.eq_ignore_ascii_case(namespace);
    let mut tags = defined.iter().filter(same).flat_map(|(_, tags)| tags.keys());
    tags.any(|name| name.eq_ignore_ascii_case(key))
}

/// `CreateTagDefault`.
pub async fn create_tag_default(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CreateTagDefaultDetails = request.json()?;
    refuse_given(&[("locks", details.locks.is_some_and(|locks| !locks.is_empty()))])?;
    let compartment = details.compartment_id;
    identity::compartment_exists(&context, &compartment).await?;
    let db = &context.region.db;
    let id = &details.tag_definition_id;
    let missing = || ApiError::related_resource_not_found("TagDefinition", id);
    let tag = db.get::<TagRecord>(id.as_str()).await?.ok_or_else(missing)?;
    let is_required = details.is_required.unwrap_or(false);
    check_default(&tag, &details.value, is_required)?;
    let here = Query::new().compartment(compartment.as_str());
    let others = db.list_all::<TagDefaultRecord>(here).await?;
    if others.iter().any(|other| other.resource.tag_definition_id == *id) {
        let twice =
            format!("A TagDefault for {} exists in the compartment already", tag.resource.name);
        return Err(ApiError::conflict(twice));
    }
    if others.len() >= DEFAULTS_MAX {
        let limit = format!("A compartment can have at most {DEFAULTS_MAX} tag defaults");
        return Err(ApiError::limit_exceeded(limit));
    }
    let default = Versioned::first(TagDefaultRecord {
        resource: TagDefault {
            id: context.region.new_global_id("tagdefault"),
            compartment_id: compartment,
            is_required,
            lifecycle_state: TagDefaultState::Active,
            locks: None,
            tag_definition_id: tag.resource.id.clone(),
            tag_definition_name: tag.resource.name.clone(),
            tag_namespace_id: tag.resource.tag_namespace_id.clone(),
            time_created: context.now.into(),
            value: details.value.into(),
        },
    });
    let reply = Reply::ok(&default.resource)?.etag(default.etag());
    // Replaced, so that of two defaults for the key one is too late, and so is one for a key that is being deleted.
    context.commit(Batch::new().replace(&tag).create(&default), reply).await
}

fn check_default(tag: &TagRecord, value: &str, is_required: bool) -> Result<(), ApiError> {
    if tag.resource.lifecycle_state != TagState::Active {
        let retired = format!("TagDefinition {} is retired", tag.resource.name);
        return Err(ApiError::incorrect_state(retired));
    }
    match (value.is_empty(), is_required) {
        (true, false) => Err(ApiError::missing_parameter("value")),
        (true, true) => Ok(()),
        (false, _) if value.contains(PRINCIPAL) || value.contains(NOW) => Ok(()),
        (false, _) => check_value(tag, value),
    }
}

async fn load(
    context: &Context,
    request: &Request,
) -> Result<Versioned<TagDefaultRecord>, ApiError> {
    crate::app::load(context, &request.path("tagDefaultId")?).await
}

/// `GetTagDefault`.
pub async fn get_tag_default(context: Context, request: Request) -> Result<Reply, ApiError> {
    let default = load(&context, &request).await?;
    Ok(Reply::ok(&default.resource)?.etag(default.etag()))
}

/// `ListTagDefaults`: by id, compartment or key.
pub async fn list_tag_defaults(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.query::<Ocid>("id")?;
    let mut query = Query::new();
    if let Some(compartment) = request.query::<Ocid>("compartmentId")? {
        identity::compartment_exists(&context, &compartment).await?;
        query = query.compartment(compartment.as_str());
    }
    if let Some(tag) = request.query::<Ocid>("tagDefinitionId")? {
        query = query.parent(tag.as_str());
    }
    crate::app::list_by(&context, &request, query, |one: &TagDefaultRecord| {
        let wanted = id.as_ref().is_none_or(|id| *id == one.resource.id);
        wanted.then(|| one.resource.clone())
    })
    .await
}

/// `UpdateTagDefault`.
pub async fn update_tag_default(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateTagDefaultDetails = request.json()?;
    let mut default = load(&context, &request).await?;
    request.check_etag(&default.etag())?;
    let tag: Versioned<TagRecord> =
        crate::app::load(&context, &default.resource.tag_definition_id).await?;
    let resource = &mut default.value.resource;
    resource.is_required = details.is_required.unwrap_or(resource.is_required);
    check_default(&tag, &details.value, resource.is_required)?;
    resource.value = details.value.into();
    crate::app::replace(&context, default, |default| Reply::ok(&default.resource)).await
}

/// `DeleteTagDefault`. What was tagged stays so.
pub async fn delete_tag_default(context: Context, request: Request) -> Result<Reply, ApiError> {
    let default = load(&context, &request).await?;
    request.check_etag(&default.etag())?;
    context.commit(Batch::new().delete(&default), Reply::no_content()).await
}
