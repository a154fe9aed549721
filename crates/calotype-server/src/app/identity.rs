//! Identity: the tenancy, its compartments, and the geography of the region: one availability domain
//! of three fault domains.

use calotype_api::error::ApiError;
use calotype_api::identity::{
    AvailabilityDomain, Compartment, CompartmentState, FaultDomain, Region, RegionSubscription,
    RegionSubscriptionStatus, Tenancy,
};
use calotype_api::ocid::{Ocid, RANDOM_BYTES};
use calotype_api::tags::{DefinedTags, FreeformTags};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Context;
use crate::config::Config;
use crate::db::{Batch, Document, Versioned};
use crate::http::{Reply, Request};

mod compartments;
mod removal;
mod tree;

pub use compartments::{
    CompartmentRecord, compartment_exists, create_compartment, get_compartment, list_compartments,
    update_compartment,
};
pub use removal::{delete_compartment, recover_compartment};
pub use tree::{ancestry, move_compartment};

pub(crate) use compartments::only_into_active;
pub(crate) use removal::{kept, removed};

/// Names of the fault domains.
const FAULT_DOMAINS: [&str; 3] = ["FAULT-DOMAIN-1", "FAULT-DOMAIN-2", "FAULT-DOMAIN-3"];

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
