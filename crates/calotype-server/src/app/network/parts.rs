//! The parts of a VCN that are managed alike: internet gateways, route tables, security lists, DHCP options and network
//! security groups. What only one of them has stands in a file of its own, as its [`Content`].
//!
//! A VCN is made with a route table, a security list and DHCP options of its own. Their ids are the VCN's with another
//! type in them; they are changed like all others, but go only with the VCN.

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::tags::DefinedTags;
use calotype_api::vcn_parts::{CreatePart, NewPart, Part, PartState, UpdatePart};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::default_name;
use super::records::VcnRecord;
use super::uses;
use crate::app::{Context, identity, tags};
use crate::db::{Document, Versioned};
use crate::http::{Reply, Request};

mod defaults;
mod dhcp;
mod gateways;
mod groups;
mod routes;
mod security;

pub(super) use defaults::{defaults, with_way_out, without_defaults};
pub use groups::{list_network_security_group_vnics, list_network_security_groups};

/// What a part consists of, and the rules for that alone.
pub trait Content: Serialize + DeserializeOwned + Clone + Send + Sync + Unpin + 'static {
    /// Type in its ids, and its kind in the catalog.
    const KIND: &'static str;
    /// What clients' people call it.
    const NAME: &'static str;
    /// The parameter of paths that names one.
    const PARAMETER: &'static str;
    /// Whether it has a say in where packets go.
    const ROUTES: bool = false;
    /// The body that creates one.
    type Create: CreatePart<Content = Self> + DeserializeOwned + Send;

    /// Fills in what was left out and refuses what cannot be.
    fn complete(&mut self) -> Result<(), ApiError> {
        Ok(())
    }

    /// The gateways that it sends packets to.
    fn gateways(&self) -> Vec<Ocid> {
        Vec::new()
    }
}

/// A part that can be changed.
pub trait Changeable: Content {
    /// The body that updates one.
    type Update: UpdatePart<Content = Self> + DeserializeOwned + Send;
}

/// A part of a VCN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "C: Serialize + DeserializeOwned")]
pub struct PartRecord<C> {
    /// The part as clients see it.
    pub resource: Part<C>,
    /// Whether it came with the VCN and goes with it.
    pub is_default: bool,
}

impl<C: Content> Document for PartRecord<C> {
    const KIND: &'static str = C::KIND;

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    /// What stands in the way of its VCN's deletion belongs to that.
    fn parent_id(&self) -> Option<String> {
        (!self.is_default).then(|| self.resource.vcn_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.to_string())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// A part that was just made.
pub(super) fn new<C: Content>(
    id: Ocid,
    frame: NewPart,
    content: C,
    now: Timestamp,
) -> PartRecord<C> {
    let name = frame.display_name.map_or_else(|| default_name(C::KIND, now), String::from);
    PartRecord {
        resource: Part {
            id,
            compartment_id: frame.compartment_id,
            defined_tags: frame.defined_tags.unwrap_or_default(),
            display_name: name,
            freeform_tags: frame.freeform_tags.unwrap_or_default(),
            lifecycle_state: PartState::Available,
            system_tags: DefinedTags::new(),
            time_created: now.into(),
            vcn_id: frame.vcn_id,
            content,
        },
        is_default: false,
    }
}

/// Creates a part of a VCN.
pub async fn create_part<C: Content>(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let (mut frame, mut inner) = request.json::<C::Create>()?.split();
    identity::compartment_exists(&context, &frame.compartment_id).await?;
    let (freeform, defined) = (frame.freeform_tags.as_ref(), frame.defined_tags.take());
    frame.defined_tags =
        Some(tags::on_create(&context, &frame.compartment_id, freeform, defined).await?);
    inner.complete()?;
    let db = &context.region.db;
    let vcn = db.get::<VcnRecord>(frame.vcn_id.as_str()).await?;
    let vcn = vcn.ok_or_else(|| ApiError::related_resource_not_found("VCN", &frame.vcn_id))?;
    let part = Versioned::first(new(context.region.new_id(C::KIND), frame, inner, context.now));
    let used = part.resource.content.gateways();
    let batch = uses::change(db, &vcn, &part.resource.id, &[], &used, context.now).await?;
    let reply = Reply::ok(&part.resource)?.etag(part.etag());
    context.commit(batch.require(&vcn).create(&part), reply).await
}

/// Answers with a part.
pub async fn get_part<C: Content>(context: Context, request: Request) -> Result<Reply, ApiError> {
    let part = of_request::<C>(&context, &request).await?;
    Ok(Reply::ok(&part.resource)?.etag(part.etag()))
}

async fn of_request<C: Content>(
    context: &Context,
    request: &Request,
) -> Result<Versioned<PartRecord<C>>, ApiError> {
    crate::app::load(context, &request.path(C::PARAMETER)?).await
}

/// Lists the parts of a compartment, optionally those of one VCN.
pub async fn list_parts<C: Content>(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let vcn = request.query::<Ocid>("vcnId")?;
    crate::app::list(&context, &request, &compartment, |part: &PartRecord<C>| {
        let here = vcn.as_ref().is_none_or(|vcn| *vcn == part.resource.vcn_id);
        here.then(|| part.resource.clone())
    })
    .await
}

/// Updates a part.
pub async fn update_part<C: Changeable>(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let details: C::Update = request.json()?;
    let mut part = of_request::<C>(&context, &request).await?;
    request.check_etag(&part.etag())?;
    let resource = &mut part.value.resource;
    let before = resource.content.gateways();
    let changes = details.apply(&mut resource.content);
    let (freeform, defined) = (changes.freeform_tags.as_ref(), changes.defined_tags.as_ref());
    tags::on_update(&context, (&resource.freeform_tags, &resource.defined_tags), freeform, defined)
        .await?;
    resource.content.complete()?;
    if let Some(name) = changes.display_name {
        resource.display_name = name.into();
    }
    if let Some(tags) = changes.defined_tags {
        resource.defined_tags = tags;
    }
    if let Some(tags) = changes.freeform_tags {
        resource.freeform_tags = tags;
    }
    let (id, vcn_id, after) =
        (resource.id.clone(), resource.vcn_id.clone(), resource.content.gateways());
    let vcn: Versioned<VcnRecord> = crate::app::load(&context, &vcn_id).await?;
    let db = &context.region.db;
    let batch = uses::change(db, &vcn, &id, &before, &after, context.now).await?;
    let reply = Reply::ok(&part.resource)?.etag(part.next_etag());
    let reply = context.commit(batch.replace(&part), reply).await?;
    if C::ROUTES {
        super::outbound::changed(&context.region, &vcn_id).await?;
    }
    Ok(reply)
}

/// Deletes a part that nothing uses, and that did not come with its VCN.
pub async fn delete_part<C: Content>(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let part = of_request::<C>(&context, &request).await?;
    request.check_etag(&part.etag())?;
    let resource = &part.resource;
    if part.is_default {
        return Err(ApiError::conflict(format!(
            "The {} {} is the default one of the VCN {} and is deleted with it.",
            C::NAME,
            resource.id,
            resource.vcn_id
        )));
    }
    let db = &context.region.db;
    let batch = uses::given_up(db, &resource.id, &resource.content.gateways()).await?;
    let batch = uses::refuse_users(batch, &resource.id).delete(&part);
    match db.apply(batch).await {
        Ok(()) => Ok(Reply::no_content()),
        Err(error) => Err(uses::explain(db, error, C::NAME, &resource.id).await),
    }
}
