//! Namespaces of defined tags. A name is unique in the tenancy and cannot be changed.

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::tag_definitions::{
    CreateTagNamespaceDetails, TagNamespace, TagState, UpdateTagNamespaceDetails,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::{TagRecord, set_retired};
use super::{check_name, on_create, on_update};
use crate::app::claims::Claim;
use crate::app::{Context, identity, refuse_given};
use crate::db::{Batch, Document, ErrorKind, Query, Versioned};
use crate::http::{Reply, Request};

/// Namespaces of the tenancy.
const NAMESPACES_MAX: usize = 100;

/// A namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct NamespaceRecord {
    pub(super) resource: TagNamespace,
}

impl Document for NamespaceRecord {
    const KIND: &'static str = "tag_namespace";

    fn id(&self) -> String {
        self.resource.id.to_string()
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

fn claim(name: &str, owner: &Ocid, now: Timestamp) -> Claim {
    Claim { what: claimed(name), scope: None, owner: owner.to_string(), time_created: now }
}

fn claimed(name: &str) -> String {
    format!("tag_namespace/{}", name.to_lowercase())
}

/// `CreateTagNamespace`.
pub async fn create_tag_namespace(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CreateTagNamespaceDetails = request.json()?;
    refuse_given(&[("locks", details.locks.is_some_and(|locks| !locks.is_empty()))])?;
    check_name(&details.name)?;
    let compartment = details.compartment_id;
    identity::compartment_exists(&context, &compartment).await?;
    let freeform = details.freeform_tags;
    let defined =
        on_create(&context, &compartment, freeform.as_ref(), details.defined_tags).await?;
    let db = &context.region.db;
    if db.get::<Claim>(&claimed(&details.name)).await?.is_some() {
        let taken = format!("TagNamespace {} already exists", details.name);
        return Err(ApiError::conflict(taken));
    }
    if db.list_all::<NamespaceRecord>(Query::new()).await?.len() >= NAMESPACES_MAX {
        let limit = format!("The tenancy can have at most {NAMESPACES_MAX} tag namespaces");
        return Err(ApiError::limit_exceeded(limit));
    }
    let namespace = Versioned::first(NamespaceRecord {
        resource: TagNamespace {
            id: context.region.new_global_id("tagnamespace"),
            compartment_id: compartment,
            defined_tags: defined,
            description: details.description.into(),
            freeform_tags: freeform.unwrap_or_default(),
            is_retired: false,
            lifecycle_state: TagState::Active,
            locks: None,
            name: details.name.into(),
            time_created: context.now.into(),
        },
    });
    let resource = &namespace.resource;
    let claim = claim(&resource.name, &resource.id, context.now);
    let reply = Reply::ok(resource)?;
    context.commit(Batch::new().insert(&claim).create(&namespace), reply).await
}

pub(super) async fn load(
    context: &Context,
    request: &Request,
) -> Result<Versioned<NamespaceRecord>, ApiError> {
    crate::app::load(context, &request.path("tagNamespaceId")?).await
}

/// `GetTagNamespace`.
pub async fn get_tag_namespace(context: Context, request: Request) -> Result<Reply, ApiError> {
    let namespace = load(&context, &request).await?;
    Reply::ok(&namespace.resource)
}

/// `ListTagNamespaces`: those of a compartment, with `includeSubcompartments` all of the tenancy.
pub async fn list_tag_namespaces(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let mut query = Query::new();
    if request.query::<bool>("includeSubcompartments")?.unwrap_or(false) {
        if compartment != context.region.tenancy {
            let only = "can be true only if compartmentId is the tenancy's";
            return Err(ApiError::invalid_parameter("includeSubcompartments", only));
        }
    } else {
        query = query.compartment(compartment.as_str());
    }
    if let Some(state) = request.query::<String>("lifecycleState")? {
        query = query.state(state.to_ascii_uppercase());
    }
    let shown = |one: &NamespaceRecord| Some(one.resource.clone());
    crate::app::list_by(&context, &request, query, shown).await
}

/// `UpdateTagNamespace`. Retired, it retires all its keys; each of them comes back by itself.
pub async fn update_tag_namespace(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateTagNamespaceDetails = request.json()?;
    let mut namespace = load(&context, &request).await?;
    request.check_etag(&namespace.etag())?;
    let resource = &mut namespace.value.resource;
    let (freeform, defined) = (details.freeform_tags, details.defined_tags);
    let has = (&resource.freeform_tags, &resource.defined_tags);
    on_update(&context, has, freeform.as_ref(), defined.as_ref()).await?;
    if let Some(description) = details.description {
        resource.description = description.into();
    }
    if let Some(tags) = defined {
        resource.defined_tags = tags;
    }
    if let Some(tags) = freeform {
        resource.freeform_tags = tags;
    }
    let mut batch = Batch::new();
    if let Some(retired) = details.is_retired {
        resource.is_retired = retired;
        resource.lifecycle_state = if retired { TagState::Inactive } else { TagState::Active };
        if retired {
            let keys = Query::new().parent(resource.id.as_str()).state(TagState::Active.as_str());
            for mut tag in context.region.db.list_all::<TagRecord>(keys).await? {
                set_retired(&mut tag.value, true);
                batch = batch.replace(&tag);
            }
        }
    }
    let reply = Reply::ok(&namespace.resource)?;
    context.commit(batch.replace(&namespace), reply).await
}

/// `DeleteTagNamespace`: of a retired one without keys.
pub async fn delete_tag_namespace(context: Context, request: Request) -> Result<Reply, ApiError> {
    let namespace = load(&context, &request).await?;
    request.check_etag(&namespace.etag())?;
    let resource = &namespace.resource;
    if !resource.is_retired {
        return Err(ApiError::conflict(format!(
            "TagNamespace {} cannot be deleted while it is in use: retire it first",
            resource.name
        )));
    }
    let db = &context.region.db;
    let mut batch = Batch::new().require_none::<TagRecord>(resource.id.as_str()).delete(&namespace);
    if let Some(claim) = db.get::<Claim>(&claimed(&resource.name)).await? {
        batch = batch.delete(&claim);
    }
    match db.apply(batch).await {
        Ok(()) => Ok(Reply::no_content()),
        Err(error) if matches!(&error.kind, ErrorKind::Conflict { kind, .. } if kind == TagRecord::KIND) => {
            Err(ApiError::conflict(format!(
                "TagNamespace {} cannot be deleted while it has tag keys: delete them first",
                resource.name
            )))
        }
        Err(error) => Err(error.into()),
    }
}
