//! Identity: the tenancy, its compartments, and the geography of the region: one availability domain
//! of three fault domains.

use calotype_api::error::ApiError;
use calotype_api::identity::{
    AvailabilityDomain, Compartment, CompartmentState, CreateCompartmentDetails, FaultDomain,
    Region, RegionSubscription, RegionSubscriptionStatus, Tenancy,
};
use calotype_api::ocid::{Ocid, RANDOM_BYTES};
use calotype_api::tags::{DefinedTags, FreeformTags};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::claims::Claim;
use super::{Context, tags};
use crate::config::Config;
use crate::db::{Batch, Db, Document, PageToken, Query, Versioned};
use crate::http::{Reply, Request};

/// Names of the fault domains.
const FAULT_DOMAINS: [&str; 3] = ["FAULT-DOMAIN-1", "FAULT-DOMAIN-2", "FAULT-DOMAIN-3"];
/// Compartments below each other, the root not counted.
const DEPTH_MAX: usize = 6;
/// Characters of a compartment's name.
const NAME_LENGTH_MAX: usize = 100;
/// Characters of a compartment's description.
const DESCRIPTION_LENGTH_MAX: usize = 400;

/// The tenancy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TenancyRecord {
    /// The tenancy as clients see it.
    pub resource: Tenancy,
    time_created: Timestamp,
}

impl Document for TenancyRecord {
    const KIND: &'static str = "tenancy";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

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

async fn active_compartment(db: &Db, id: &Ocid) -> Result<Versioned<CompartmentRecord>, ApiError> {
    match db.get::<CompartmentRecord>(id.as_str()).await? {
        Some(record) if record.resource.lifecycle_state == CompartmentState::Active => Ok(record),
        _ => Err(ApiError::not_authorized_or_not_found()),
    }
}

/// Refuses an availability domain that the region does not have.
#[expect(clippy::unused_async, reason = "other regions will have to look it up")]
pub async fn availability_domain_exists(context: &Context, name: &str) -> Result<(), ApiError> {
    known_domain(&context.region.config, name)
}

fn known_domain(config: &Config, name: &str) -> Result<(), ApiError> {
    let known = config.availability_domain();
    if name == known {
        return Ok(());
    }
    Err(ApiError::invalid_parameter("availabilityDomain", format!("must be {known}")))
}

/// The fault domain that was asked for, or any.
pub fn fault_domain(asked: Option<&str>) -> Result<String, ApiError> {
    let Some(asked) = asked else {
        let any = usize::from(Uuid::new_v4().as_bytes()[0]) % FAULT_DOMAINS.len();
        return Ok(FAULT_DOMAINS[any].to_owned());
    };
    if FAULT_DOMAINS.contains(&asked) {
        return Ok(asked.to_owned());
    }
    let known = FAULT_DOMAINS.join(", ");
    Err(ApiError::invalid_parameter("faultDomain", format!("must be one of {known}")))
}

/// The tenancy and its root compartment, of a new region.
pub fn root_documents(config: &Config, tenancy: &Ocid, now: Timestamp) -> Batch {
    let description = "The tenancy of this region".to_owned();
    let tenancy_record = TenancyRecord {
        resource: Tenancy {
            id: tenancy.clone(),
            defined_tags: DefinedTags::new(),
            description: description.clone(),
            freeform_tags: FreeformTags::new(),
            home_region_key: config.region_key.to_uppercase(),
            name: "calotype".to_owned(),
            upi_idcs_compatibility_layer_endpoint: None,
        },
        time_created: now,
    };
    let root = CompartmentRecord {
        resource: Compartment {
            id: tenancy.clone(),
            compartment_id: None,
            defined_tags: DefinedTags::new(),
            description,
            freeform_tags: FreeformTags::new(),
            inactive_status: None,
            is_accessible: true,
            lifecycle_state: CompartmentState::Active,
            name: tenancy_record.resource.name.clone(),
            time_created: now.into(),
        },
    };
    Batch::new().insert(&tenancy_record).insert(&root)
}

/// `GetTenancy`.
pub async fn get_tenancy(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("tenancyId")?;
    let tenancy: Versioned<TenancyRecord> = super::load(&context, &id).await?;
    Reply::ok(&tenancy.resource)
}

/// `GetCompartment`.
pub async fn get_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("compartmentId")?;
    let compartment: Versioned<CompartmentRecord> = super::load(&context, &id).await?;
    Ok(Reply::ok(&compartment.resource)?.etag(compartment.etag()))
}

/// `ListCompartments`: the children of one, or everything below the root. The caller has access to
/// all, so `accessLevel` chooses none of them out.
pub async fn list_compartments(context: Context, request: Request) -> Result<Reply, ApiError> {
    let parent: Ocid = request.required_query("compartmentId")?;
    compartment_exists(&context, &parent).await?;
    let name = request.query::<String>("name")?;
    let mut query = Query::new().sort(super::sort(&request)?).limit(super::page_limit(&request)?);
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

async fn plan_compartment(
    db: &Db,
    id: Ocid,
    details: CreateCompartmentDetails,
    now: Timestamp,
) -> Result<(Versioned<CompartmentRecord>, Batch), ApiError> {
    let CreateCompartmentDetails { compartment_id, defined_tags, description, freeform_tags, name } =
        details;
    check_name(&name)?;
    if !(1..=DESCRIPTION_LENGTH_MAX).contains(&description.chars().count()) {
        return Err(ApiError::invalid_parameter(
            "description",
            format!("size must be between 1 and {DESCRIPTION_LENGTH_MAX}"),
        ));
    }
    let parent = active_compartment(db, &compartment_id).await?;
    check_depth(db, &parent).await?;
    let claim = Claim {
        what: format!("compartment/{compartment_id}/{name}"),
        scope: None,
        owner: id.to_string(),
        time_created: now,
    };
    if db.get::<Claim>(&claim.what).await?.is_some() {
        return Err(ApiError::conflict(format!("Compartment '{name}' already exists")));
    }
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

/// The compartment and all above it, up to the root.
pub async fn ancestry(db: &Db, compartment: &Ocid) -> Result<Vec<Ocid>, ApiError> {
    let mut line = vec![compartment.clone()];
    for _ in 0..=DEPTH_MAX {
        let last = line.last().map_or("", |id| id.as_str());
        let record = db.get::<CompartmentRecord>(last).await?;
        let Some(above) = record.and_then(|record| record.value.resource.compartment_id) else {
            break;
        };
        line.push(above);
    }
    Ok(line)
}

async fn check_depth(db: &Db, parent: &CompartmentRecord) -> Result<(), ApiError> {
    let mut above = parent.resource.compartment_id.clone();
    for _ in 0..DEPTH_MAX {
        let Some(id) = above else { return Ok(()) };
        let record = active_compartment(db, &id).await?;
        above = record.value.resource.compartment_id;
    }
    let limit = format!("Compartments can be nested at most {DEPTH_MAX} deep");
    Err(ApiError::limit_exceeded(limit))
}

/// `ListAvailabilityDomains`.
pub async fn list_availability_domains(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let compartment_id = request.required_query("compartmentId")?;
    compartment_exists(&context, &compartment_id).await?;
    let name = context.region.config.availability_domain();
    let id = fixed_id(&context, "availabilitydomain", &name)?;
    Reply::ok(&[AvailabilityDomain { id, compartment_id, name }])
}

/// `ListFaultDomains`.
pub async fn list_fault_domains(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment_id: Ocid = request.required_query("compartmentId")?;
    let availability_domain: String = request.required_query("availabilityDomain")?;
    compartment_exists(&context, &compartment_id).await?;
    known_domain(&context.region.config, &availability_domain)?;
    let mut domains = Vec::new();
    for name in FAULT_DOMAINS {
        domains.push(FaultDomain {
            id: fixed_id(&context, "faultdomain", &format!("{availability_domain}/{name}"))?,
            availability_domain: availability_domain.clone(),
            compartment_id: compartment_id.clone(),
            name: name.to_owned(),
        });
    }
    Reply::ok(&domains)
}

/// `ListRegions`.
pub async fn list_regions(context: Context, _: Request) -> Result<Reply, ApiError> {
    let config = &context.region.config;
    let region = Region { key: config.region_key.to_uppercase(), name: config.region.clone() };
    Reply::ok(&[region])
}

/// `ListRegionSubscriptions`.
pub async fn list_region_subscriptions(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    if request.path::<Ocid>("tenancyId")? != context.region.tenancy {
        return Err(ApiError::not_authorized_or_not_found());
    }
    let config = &context.region.config;
    Reply::ok(&[RegionSubscription {
        is_home_region: true,
        region_key: config.region_key.to_uppercase(),
        region_name: config.region.clone(),
        status: RegionSubscriptionStatus::Ready,
    }])
}

/// The OCID of what is not stored: always the same for the same name in this tenancy.
fn fixed_id(context: &Context, kind: &str, name: &str) -> Result<Ocid, ApiError> {
    let mut unique = [0; RANDOM_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(context.region.tenancy.as_str().as_bytes()).update(b"/").update(name.as_bytes());
    hasher.finalize_xof().fill(&mut unique);
    Ocid::new(kind, &context.region.config.realm, None, &unique).map_err(|error| {
        tracing::error!(%error, kind, "cannot make an OCID");
        ApiError::internal()
    })
}

#[cfg(test)]
mod tests;
