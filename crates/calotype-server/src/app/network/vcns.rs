//! VCNs: created, read, deleted when they are empty.

use calotype_api::error::ApiError;
use calotype_api::networks::{CreateVcnDetails, NetworkState, Vcn};
use calotype_api::ocid::Ocid;
use calotype_api::tags::DefinedTags;
use jiff::Timestamp;

use super::cidr::Cidr;
use super::records::{SubnetRecord, VcnRecord, sibling};
use super::{default_name, dns_label};
use crate::app::{Context, identity, refuse_given, tags};
use crate::db::{Batch, ErrorKind, Versioned};
use crate::http::{Reply, Request};

/// Blocks that a network may have.
const BLOCKS_MAX: usize = 5;

/// `CreateVcn`.
pub async fn create_vcn(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CreateVcnDetails = request.json()?;
    identity::compartment_exists(&context, &details.compartment_id).await?;
    let vcn = new(context.region.new_id("vcn"), details, context.now)?;
    let vcn = Versioned::first(vcn);
    let reply = Reply::ok(&vcn.resource)?.etag(vcn.etag());
    context.commit(Batch::new().create(&vcn), reply).await
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
    tags::check(details.freeform_tags.as_ref(), details.defined_tags.as_ref())?;
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

/// `DeleteVcn`: of one without subnets.
pub async fn delete_vcn(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("vcnId")?;
    let vcn: Versioned<VcnRecord> = crate::app::load(&context, &id).await?;
    request.check_etag(&vcn.etag())?;
    let batch = Batch::new().require_none::<SubnetRecord>(id.as_str()).delete(&vcn);
    match context.region.db.apply(batch).await {
        Err(error) if matches!(&error.kind, ErrorKind::Conflict { id: of, .. } if of == id.as_str()) => {
            Err(in_use(&vcn))
        }
        Err(error) => Err(error.into()),
        Ok(()) => Ok(Reply::no_content()),
    }
}

fn in_use(vcn: &VcnRecord) -> ApiError {
    let subnets: Vec<_> = vcn.subnets.iter().map(|subnet| subnet.id.as_str()).collect();
    let id = &vcn.resource.id;
    if subnets.is_empty() {
        return ApiError::conflict(format!("VCN {id} was changed by another request meanwhile"));
    }
    ApiError::conflict(format!(
        "VCN {id} cannot be deleted: it has the subnets {}. Delete them first.",
        subnets.join(", ")
    ))
}
