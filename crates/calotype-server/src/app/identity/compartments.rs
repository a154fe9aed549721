//! Compartments: made, shown and changed. A name is unique among its siblings.

use calotype_api::error::ApiError;
use calotype_api::identity::{
    Compartment, CompartmentState, CreateCompartmentDetails, UpdateCompartmentDetails,
};
use calotype_api::ocid::Ocid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::tree::{check_nesting, line};
use crate::app::claims::Claim;
use crate::app::{Context, load, page_limit, sort, tags};
use crate::db::{Batch, Db, Document, PageToken, Query, Versioned};
use crate::http::{Reply, Request};

/// Characters of a compartment's name.
pub(super) const NAME_LENGTH_MAX: usize = 100;
/// Characters of a compartment's description.
const DESCRIPTION_LENGTH_MAX: usize = 400;

/// A compartment; the root's id is the tenancy's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompartmentRecord {
    /// The compartment as clients see it.
    pub resource: Compartment,
}

impl Document for CompartmentRecord {
    const KIND: &'static str = "compartment";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn compartment_id(&self) -> Option<String> {
        self.resource.compartment_id.as_ref().map(ToString::to_string)
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.to_string())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// Refuses a compartment that is not there or not active, as one that the caller may not see.
pub async fn compartment_exists(context: &Context, id: &Ocid) -> Result<(), ApiError> {
    active_compartment(&context.region.db, id).await.map(|_| ())
}

pub(super) async fn active_compartment(
    db: &Db,
    id: &Ocid,
) -> Result<Versioned<CompartmentRecord>, ApiError> {
    match db.get::<CompartmentRecord>(id.as_str()).await? {
        Some(record) if record.resource.lifecycle_state == CompartmentState::Active => Ok(record),
        _ => Err(ApiError::not_authorized_or_not_found()),
    }
}

/// `GetCompartment`.
pub async fn get_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("compartmentId")?;
    let compartment: Versioned<CompartmentRecord> = load(&context, &id).await?;
    Ok(Reply::ok(&compartment.resource)?.etag(compartment.etag()))
}

/// `ListCompartments`: the children of one, or everything below the root. The caller has access to
/// all, so `accessLevel` chooses none of them out.
pub async fn list_compartments(context: Context, request: Request) -> Result<Reply, ApiError> {
    let parent: Ocid = request.required_query("compartmentId")?;
    compartment_exists(&context, &parent).await?;
    let name = request.query::<String>("name")?;
    let mut query = Query::new().sort(sort(&request)?).limit(page_limit(&request)?);
    if request.query::<bool>("compartmentIdInSubtree")?.unwrap_or(false) {
        if parent != context.region.tenancy {
            return Err(ApiError::invalid_parameter(
                "compartmentIdInSubtree",
                "can be true only if compartmentId is the tenancy's",
            ));
        }
    } else {
        query = query.compartment(parent.as_str());
    }
    if let Some(state) = request.query::<String>("lifecycleState")? {
        query = query.state(state);
    }
    if let Some(name) = name {
        query = query.name(name);
    }
    let after = request.query::<String>("page")?;
    let after = after.map(|token| PageToken::parse(&token)).transpose()?;
    let page = context.region.db.list::<CompartmentRecord>(query.after(after)).await?;
    let below_the_root = page.items.iter().filter(|one| one.resource.compartment_id.is_some());
    let items: Vec<_> = below_the_root.map(|one| &one.resource).collect();
    Ok(Reply::ok(&items)?.maybe_next_page(page.next.map(|token| token.to_string())))
}

/// `CreateCompartment`.
pub async fn create_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut details: CreateCompartmentDetails = request.json()?;
    let (parent, freeform) = (&details.compartment_id, details.freeform_tags.as_ref());
    let defined = tags::on_create(&context, parent, freeform, details.defined_tags.take()).await?;
    details.defined_tags = Some(defined);
    let id = context.region.new_id("compartment");
    let (record, batch) = plan_compartment(&context.region.db, id, details, context.now).await?;
    let reply = Reply::ok(&record.resource)?.etag(record.etag());
    context.commit(batch, reply).await
}

pub(super) async fn plan_compartment(
    db: &Db,
    id: Ocid,
    details: CreateCompartmentDetails,
    now: Timestamp,
) -> Result<(Versioned<CompartmentRecord>, Batch), ApiError> {
    let CreateCompartmentDetails { compartment_id, defined_tags, description, freeform_tags, name } =
        details;
    check_name(&name)?;
    check_description(&description)?;
    let parent = active_compartment(db, &compartment_id).await?;
    check_nesting(line(db, &compartment_id).await?.len())?;
    let claim = claim(db, &compartment_id, &name, &id, now).await?;
    let record = Versioned::first(CompartmentRecord {
        resource: Compartment {
            id,
            compartment_id: Some(compartment_id),
            defined_tags: defined_tags.unwrap_or_default(),
            description,
            freeform_tags: freeform_tags.unwrap_or_default(),
            inactive_status: None,
            is_accessible: true,
            lifecycle_state: CompartmentState::Active,
            name,
            time_created: now.into(),
        },
    });
    let batch = Batch::new().require(&parent).insert(&claim).create(&record);
    Ok((record, batch))
}

/// The compartment that a request is about, if it can be changed: the tenancy's own cannot, nor one that is deleted.
pub(super) async fn changeable(
    context: &Context,
    request: &Request,
) -> Result<Versioned<CompartmentRecord>, ApiError> {
    let id = request.path("compartmentId")?;
    let compartment: Versioned<CompartmentRecord> = load(context, &id).await?;
    request.check_etag(&compartment.etag())?;
    if compartment.resource.compartment_id.is_none() {
        let root =
            "is the tenancy's: its root compartment can be neither changed, moved nor deleted";
        return Err(ApiError::invalid_parameter("compartmentId", root));
    }
    match compartment.resource.lifecycle_state {
        CompartmentState::Active => Ok(compartment),
        state => Err(ApiError::incorrect_state(format!("compartment {id} is {state}"))),
    }
}

/// `UpdateCompartment`: name, description and tags.
pub async fn update_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateCompartmentDetails = request.json()?;
    let mut compartment = changeable(&context, &request).await?;
    let (freeform, defined) = (details.freeform_tags, details.defined_tags);
    let before = (&compartment.resource.freeform_tags, &compartment.resource.defined_tags);
    tags::on_update(&context, before, freeform.as_ref(), defined.as_ref()).await?;
    let mut batch = Batch::new();
    if let Some(name) = details.name.filter(|name| *name != compartment.resource.name) {
        check_name(&name)?;
        let (db, parent) = (&context.region.db, parent(&compartment)?);
        let claim = claim(db, &parent, &name, &compartment.resource.id, context.now).await?;
        batch = unclaim(db, batch, &compartment).await?.insert(&claim);
        compartment.value.resource.name = name;
    }
    let resource = &mut compartment.value.resource;
    if let Some(description) = details.description {
        check_description(&description)?;
        resource.description = description;
    }
    if let Some(tags) = freeform {
        resource.freeform_tags = tags;
    }
    if let Some(tags) = defined {
        resource.defined_tags = tags;
    }
    let reply = Reply::ok(&compartment.resource)?.etag(compartment.next_etag());
    context.commit(batch.replace(&compartment), reply).await
}

/// What the compartment lies in.
pub(super) fn parent(compartment: &CompartmentRecord) -> Result<Ocid, ApiError> {
    compartment.resource.compartment_id.clone().ok_or_else(|| {
        tracing::error!(id = %compartment.resource.id, "a compartment lies in none");
        ApiError::internal()
    })
}

fn claimed(parent: &Ocid, name: &str) -> String {
    format!("compartment/{parent}/{name}")
}

/// The claim to a name among siblings, if nobody has it.
pub(super) async fn claim(
    db: &Db,
    parent: &Ocid,
    name: &str,
    owner: &Ocid,
    now: Timestamp,
) -> Result<Claim, ApiError> {
    let what = claimed(parent, name);
    if db.get::<Claim>(&what).await?.is_some() {
        return Err(ApiError::conflict(format!("Compartment '{name}' already exists")));
    }
    Ok(Claim { what, scope: None, owner: owner.to_string(), time_created: now })
}

/// Adds to `batch` that the compartment gives up its name.
pub(super) async fn unclaim(
    db: &Db,
    batch: Batch,
    compartment: &CompartmentRecord,
) -> Result<Batch, ApiError> {
    let what = claimed(&parent(compartment)?, &compartment.resource.name);
    Ok(match db.get::<Claim>(&what).await? {
        Some(claim) => batch.delete(&claim),
        None => batch,
    })
}

/// Adds to what a request writes that every compartment it puts something into, or changes something in, is ACTIVE in the
/// same instant: nothing comes into one that is being deleted.
pub(crate) fn only_into_active(batch: Batch) -> Batch {
    let active = CompartmentState::Active.as_str();
    batch
        .compartments()
        .into_iter()
        .fold(batch, |batch, id| batch.require_state::<CompartmentRecord>(id, active))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !(1..=NAME_LENGTH_MAX).contains(&name.chars().count()) {
        let range = format!("size must be between 1 and {NAME_LENGTH_MAX}");
        return Err(ApiError::invalid_parameter("name", range));
    }
    if name.chars().all(allowed) {
        return Ok(());
    }
    Err(ApiError::invalid_parameter("name", "can have only letters, digits, '.', '-' and '_'"))
}

fn check_description(description: &str) -> Result<(), ApiError> {
    if (1..=DESCRIPTION_LENGTH_MAX).contains(&description.chars().count()) {
        return Ok(());
    }
    let range = format!("size must be between 1 and {DESCRIPTION_LENGTH_MAX}");
    Err(ApiError::invalid_parameter("description", range))
}
