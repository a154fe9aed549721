//! VCNs: created, read, renamed, deleted when they are empty.

use calotype_api::error::ApiError;
use calotype_api::networks::{
    CreateVcnDetails, NetworkState, UpdateVcnDetails, Vcn, VcnDnsResolverAssociation,
};
use calotype_api::ocid::Ocid;
use calotype_api::tags::DefinedTags;
use calotype_api::vcn_parts::{DhcpSettings, Gateway, Group, PartState, Routes, SecurityRules};
use jiff::Timestamp;

use super::cidr::Cidr;
use super::parts::{PartRecord, defaults, without_defaults};
use super::records::{SubnetRecord, VcnRecord, sibling};
use super::{default_name, dns_label, uses};
use crate::app::{Context, identity, refuse_given, tags};
use crate::db::{Batch, Db, Document, ErrorKind, Query, Versioned};
use crate::http::{Reply, Request};

/// Blocks that a network may have.
const BLOCKS_MAX: usize = 5;

/// `CreateVcn`.
pub async fn create_vcn(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut details: CreateVcnDetails = request.json()?;
    let compartment = &details.compartment_id;
    identity::compartment_exists(&context, compartment).await?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.take());
    let defined = tags::on_create(&context, compartment, freeform, defined).await?;
    details.defined_tags = Some(defined);
    let vcn = new(context.region.new_id("vcn"), details, context.now)?;
    let vcn = Versioned::first(vcn);
    let reply = Reply::ok(&vcn.resource)?.etag(vcn.etag());
    let batch = defaults(&vcn.resource, context.now).insert(Batch::new().create(&vcn));
    context.commit(batch, reply).await
}

/// A network as asked for, or what is wrong with it.
pub(super) fn new(
    id: Ocid,
    details: CreateVcnDetails,
    now: Timestamp,
) -> Result<VcnRecord, ApiError> {
    let some = Option::is_some;
    refuse_given(&[
        ("byoipv6CidrDetails", details.byoipv6_cidr_details.is_some_and(|list| !list.is_empty())),
        (
            "ipv6PrivateCidrBlocks",
            details.ipv6_private_cidr_blocks.is_some_and(|list| !list.is_empty()),
        ),
        ("isIpv6Enabled", details.is_ipv6_enabled == Some(true)),
        ("isOracleGuaAllocationEnabled", details.is_oracle_gua_allocation_enabled == Some(true)),
        ("isZprOnly", details.is_zpr_only == Some(true)),
        ("securityAttributes", some(&details.security_attributes)),
    ])?;
    let blocks = blocks(details.cidr_block, details.cidr_blocks)?;
    if let Some(label) = &details.dns_label {
        dns_label(label)?;
    }
    let display_name = details.display_name.map_or_else(|| default_name("vcn", now), String::from);
    Ok(VcnRecord {
        resource: Vcn {
            byoipv6_cidr_blocks: None,
            cidr_block: blocks[0].clone(),
            cidr_blocks: blocks,
            compartment_id: details.compartment_id,
            default_dhcp_options_id: sibling(&id, "dhcpoptions"),
            default_route_table_id: sibling(&id, "routetable"),
            default_security_list_id: sibling(&id, "securitylist"),
            defined_tags: details.defined_tags.unwrap_or_default(),
            display_name,
            vcn_domain_name: details.dns_label.as_ref().map(|label| domain_name(label)),
            dns_label: details.dns_label,
            freeform_tags: details.freeform_tags.unwrap_or_default(),
            id,
            ipv6_cidr_blocks: None,
            ipv6_private_cidr_blocks: None,
            is_zpr_only: None,
            lifecycle_state: NetworkState::Available,
            security_attributes: None,
            system_tags: DefinedTags::new(),
            time_created: now.into(),
        },
        subnets: Vec::new(),
    })
}

fn domain_name(label: &str) -> String {
    format!("{label}.oraclevcn.com")
}

/// The blocks, in either way they may be given; at least one.
fn blocks(one: Option<String>, several: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    let (field, blocks) = match (one, several) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid_parameter(
                "cidrBlock",
                "cannot be given with cidrBlocks",
            ));
        }
        (Some(block), None) => ("cidrBlock", vec![block]),
        (None, Some(blocks)) if !blocks.is_empty() => ("cidrBlocks", blocks),
        (None, _) => return Err(ApiError::missing_parameter("cidrBlocks")),
    };
    if blocks.len() > BLOCKS_MAX {
        let limit = format!("can be at most {BLOCKS_MAX}");
        return Err(ApiError::invalid_parameter(field, limit));
    }
    let mut seen: Vec<Cidr> = Vec::new();
    for block in &blocks {
        let block: Cidr =
            block.parse().map_err(|wrong| ApiError::invalid_parameter(field, wrong))?;
        if let Some(other) = seen.iter().find(|other| other.overlaps(block)) {
            return Err(ApiError::invalid_parameter(field, format!("{block} overlaps {other}")));
        }
        seen.push(block);
    }
    Ok(blocks)
}

/// `GetVcn`.
pub async fn get_vcn(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("vcnId")?;
    let vcn: Versioned<VcnRecord> = crate::app::load(&context, &id).await?;
    Ok(Reply::ok(&vcn.resource)?.etag(vcn.etag()))
}

/// `ListVcns`.
pub async fn list_vcns(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    crate::app::list(&context, &request, &compartment, |vcn: &VcnRecord| Some(vcn.resource.clone()))
        .await
}

/// `UpdateVcn`: its name and tags.
pub async fn update_vcn(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateVcnDetails = request.json()?;
    refuse_given(&[
        ("isZprOnly", details.is_zpr_only == Some(true)),
        ("securityAttributes", details.security_attributes.is_some()),
    ])?;

    let mut vcn: Versioned<VcnRecord> = crate::app::load(&context, &request.path("vcnId")?).await?;
    request.check_etag(&vcn.etag())?;
    let resource = &mut vcn.value.resource;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(&context, (&resource.freeform_tags, &resource.defined_tags), freeform, defined)
        .await?;
    if let Some(name) = details.display_name {
        resource.display_name = name.into();
    }
    if let Some(tags) = details.defined_tags {
        resource.defined_tags = tags;
    }
    if let Some(tags) = details.freeform_tags {
        resource.freeform_tags = tags;
    }
    crate::app::replace(&context, vcn, |vcn| Reply::ok(&vcn.resource)).await
}

/// `GetVcnDnsResolverAssociation`: every VCN has a resolver, at 169.254.169.254. There is no operation on it.
pub async fn get_vcn_dns_resolver_association(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let vcn: Versioned<VcnRecord> = crate::app::load(&context, &request.path("vcnId")?).await?;
    let association = VcnDnsResolverAssociation {
        dns_resolver_id: sibling(&vcn.resource.id, "dnsresolver"),
        lifecycle_state: PartState::Available,
        vcn_id: vcn.resource.id.clone(),
    };
    Ok(Reply::ok(&association)?.etag(vcn.etag()))
}

/// `DeleteVcn`: of one that has nothing but what it came with.
pub async fn delete_vcn(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id: Ocid = request.path("vcnId")?;
    let vcn: Versioned<VcnRecord> = crate::app::load(&context, &id).await?;
    request.check_etag(&vcn.etag())?;
    let db = &context.region.db;
    let batch = Batch::new()
        .require_none::<SubnetRecord>(id.as_str())
        .require_none::<PartRecord<Routes>>(id.as_str())
        .require_none::<PartRecord<SecurityRules>>(id.as_str())
        .require_none::<PartRecord<DhcpSettings>>(id.as_str())
        .require_none::<PartRecord<Group>>(id.as_str())
        .require_none::<PartRecord<Gateway>>(id.as_str());
    let batch = without_defaults(db, &vcn, batch).await?.delete(&vcn);
    match db.apply(batch).await {
        Ok(()) => Ok(Reply::no_content()),
        Err(error) => match (&error.kind, first_inside(db, &id).await?) {
            (ErrorKind::Conflict { .. }, Some(inside)) => {
                Err(uses::referenced("VCN", &id, &inside))
            }
            _ => Err(error.into()),
        },
    }
}

/// Something that stands in the way of the VCN's deletion.
async fn first_inside(db: &Db, vcn: &Ocid) -> Result<Option<String>, crate::db::Error> {
    async fn first<T: Document>(db: &Db, vcn: &Ocid) -> Result<Option<String>, crate::db::Error> {
        let page = db.list::<T>(Query::new().parent(vcn.as_str()).limit(1)).await?;
        Ok(page.items.first().map(|item| item.id()))
    }
    if let Some(subnet) = first::<SubnetRecord>(db, vcn).await? {
        return Ok(Some(subnet));
    }
    if let Some(table) = first::<PartRecord<Routes>>(db, vcn).await? {
        return Ok(Some(table));
    }
    if let Some(list) = first::<PartRecord<SecurityRules>>(db, vcn).await? {
        return Ok(Some(list));
    }
    if let Some(options) = first::<PartRecord<DhcpSettings>>(db, vcn).await? {
        return Ok(Some(options));
    }
    if let Some(group) = first::<PartRecord<Group>>(db, vcn).await? {
        return Ok(Some(group));
    }
    first::<PartRecord<Gateway>>(db, vcn).await
}
