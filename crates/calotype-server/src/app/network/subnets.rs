//! Subnets: created inside a VCN, read, changed, deleted when no instance is in them.

use calotype_api::error::ApiError;
use calotype_api::networks::{CreateSubnetDetails, NetworkState, Subnet, UpdateSubnetDetails};
use calotype_api::ocid::Ocid;
use calotype_api::tags::{DefinedTags, FreeformTags};
use calotype_api::vcn_parts::{DhcpSettings, Routes, SecurityRules};
use jiff::Timestamp;

use super::cidr::Cidr;
use super::records::{SubnetPlace, SubnetRecord, VcnRecord};
use super::{default_name, dns_label, outbound, random_mac, uses};
use crate::app::{Context, identity, refuse_given, tags};
use crate::db::{Batch, Db, Error, Versioned};
use crate::http::{Reply, Request};

/// How often the creation is tried when other subnets of the VCN come and go meanwhile.
const ATTEMPTS_MAX: u32 = 8;
/// Security lists of one subnet.
const SECURITY_LISTS_MAX: usize = 5;
/// First bytes of the address of a subnet's router.
const ROUTER_MAC_PREFIX: [u8; 3] = [0x00, 0x00, 0x17];

/// `CreateSubnet`.
pub async fn create_subnet(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut details: CreateSubnetDetails = request.json()?;
    let compartment = &details.compartment_id;
    identity::compartment_exists(&context, compartment).await?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.take());
    let defined = tags::on_create(&context, compartment, freeform, defined).await?;
    details.defined_tags = Some(defined);
    if let Some(domain) = &details.availability_domain {
        identity::availability_domain_exists(&context, domain).await?;
    }
    let mut attempt = 1;
    loop {
        let found = context.region.db.get::<VcnRecord>(details.vcn_id.as_str()).await?;
        let mut vcn =
            found.ok_or_else(|| ApiError::related_resource_not_found("VCN", &details.vcn_id))?;
        let id = context.region.new_id("subnet");
        let subnet = Versioned::first(new(id, &mut vcn, details.clone(), context.now)?);
        check_parts(&subnet.resource)?;
        let reply = Reply::ok(&subnet.resource)?.etag(subnet.etag());
        let (db, used) = (&context.region.db, subnet.used());
        let batch = uses::change(db, &vcn, &subnet.resource.id, &[], &used, context.now).await?;
        let batch = batch.replace(&vcn).create(&subnet);
        match context.region.db.apply(context.prepare(batch, &reply)).await {
            Ok(()) => return Ok(reply),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS_MAX => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// A subnet as asked for, which then has its place in the VCN, or what is wrong with it.
pub(super) fn new(
    id: Ocid,
    vcn: &mut VcnRecord,
    details: CreateSubnetDetails,
    now: Timestamp,
) -> Result<SubnetRecord, ApiError> {
    refuse_given(&[
        ("ipv6CidrBlock", details.ipv6_cidr_block.is_some()),
        ("ipv6CidrBlocks", details.ipv6_cidr_blocks.is_some_and(|list| !list.is_empty())),
    ])?;
    outbound::by_tag(details.freeform_tags.as_ref().unwrap_or(&FreeformTags::new()))?;
    let cidr = place(vcn, details.cidr_block, details.ipv4_cidr_blocks.as_deref())?;
    check_lists(details.security_list_ids.as_deref())?;
    if let Some(label) = &details.dns_label {
        dns_label(label)?;
        if vcn.subnets.iter().any(|other| other.dns_label.as_ref() == Some(label)) {
            let taken = format!("{label} is the label of another subnet of the VCN");
            return Err(ApiError::invalid_parameter("dnsLabel", taken));
        }
    }
    let prohibit_internet_ingress = details.prohibit_internet_ingress.unwrap_or(false)
        || details.prohibit_public_ip_on_vnic.unwrap_or(false);
    vcn.subnets.push(SubnetPlace {
        id: id.clone(),
        cidr_block: cidr.to_string(),
        dns_label: details.dns_label.clone(),
    });
    let network = &vcn.resource;
    let suffix = network.vcn_domain_name.as_ref();
    let subnet_domain_name = details
        .dns_label
        .as_ref()
        .and_then(|label| suffix.map(|suffix| format!("{label}.{suffix}")));
    Ok(SubnetRecord {
        resource: Subnet {
            id,
            availability_domain: details.availability_domain.map(String::from),
            cidr_block: cidr.to_string(),
            compartment_id: details.compartment_id,
            defined_tags: details.defined_tags.unwrap_or_default(),
            dhcp_options_id: details.dhcp_options_id.or(network.default_dhcp_options_id.clone()),
            display_name: details
                .display_name
                .map_or_else(|| default_name("subnet", now), String::from),
            dns_label: details.dns_label,
            freeform_tags: details.freeform_tags.unwrap_or_default(),
            ipv4_cidr_blocks: Some(vec![cidr.to_string()]),
            ipv6_cidr_block: None,
            ipv6_cidr_blocks: None,
            ipv6_virtual_router_ip: None,
            lifecycle_state: NetworkState::Available,
            prohibit_internet_ingress,
            // For IPv4 the two mean the same: no public address, nothing comes in.
            prohibit_public_ip_on_vnic: prohibit_internet_ingress,
            route_table_id: details
                .route_table_id
                .or_else(|| network.default_route_table_id.clone())
                .ok_or_else(ApiError::internal)?,
            security_list_ids: details
                .security_list_ids
                .or_else(|| network.default_security_list_id.clone().map(|id| vec![id])),
            subnet_domain_name,
            system_tags: DefinedTags::new(),
            time_created: now.into(),
            vcn_id: network.id.clone(),
            virtual_router_ip: Some(cidr.router()),
            virtual_router_mac: random_mac(ROUTER_MAC_PREFIX).to_uppercase(),
        },
    })
}

/// The subnet's block: inside one of the VCN's, beside its other subnets.
fn place(
    vcn: &VcnRecord,
    one: Option<String>,
    several: Option<&[String]>,
) -> Result<Cidr, ApiError> {
    let (field, block) = match (one, several) {
        (Some(block), None | Some([])) => ("cidrBlock", block),
        (None, Some([block])) => ("ipv4CidrBlocks", block.clone()),
        (Some(block), Some([other])) if block == *other => ("cidrBlock", block),
        (None, None | Some([])) => return Err(ApiError::missing_parameter("cidrBlock")),
        _ => {
            let one = "must be one block, the same as cidrBlock if both are given";
            return Err(ApiError::invalid_parameter("ipv4CidrBlocks", one));
        }
    };
    let refuse = |what: String| Err(ApiError::invalid_parameter(field, what));
    let cidr: Cidr = block.parse().map_err(|wrong| ApiError::invalid_parameter(field, wrong))?;
    let within = |outer: &String| outer.parse::<Cidr>().is_ok_and(|outer| outer.covers(cidr));
    let network = &vcn.resource;
    if !network.cidr_blocks.iter().any(within) {
        let blocks = network.cidr_blocks.join(", ");
        return refuse(format!("{cidr} is not inside the VCN's {blocks}"));
    }
    let overlapping = vcn
        .subnets
        .iter()
        .find(|other| other.cidr_block.parse::<Cidr>().is_ok_and(|other| other.overlaps(cidr)));
    match overlapping {
        Some(other) => {
            refuse(format!("{cidr} overlaps {} of subnet {}", other.cidr_block, other.id))
        }
        None => Ok(cidr),
    }
}

fn check_lists(ids: Option<&[Ocid]>) -> Result<(), ApiError> {
    let ids = ids.unwrap_or_default();
    let twice = ids.iter().enumerate().any(|(number, id)| ids[..number].contains(id));
    if ids.len() <= SECURITY_LISTS_MAX && !twice {
        return Ok(());
    }
    let rule = format!("can be at most {SECURITY_LISTS_MAX}, all different");
    Err(ApiError::invalid_parameter("securityListIds", rule))
}

/// Refuses parts of the VCN that are of another kind than they are used as.
fn check_parts(subnet: &Subnet) -> Result<(), ApiError> {
    uses::must_be::<Routes>(&subnet.route_table_id)?;
    subnet.dhcp_options_id.iter().try_for_each(uses::must_be::<DhcpSettings>)?;
    subnet.security_list_ids.iter().flatten().try_for_each(uses::must_be::<SecurityRules>)
}

/// `GetSubnet`.
pub async fn get_subnet(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("subnetId")?;
    let subnet: Versioned<SubnetRecord> = crate::app::load(&context, &id).await?;
    Ok(Reply::ok(&subnet.resource)?.etag(subnet.etag()))
}

/// `ListSubnets`, optionally those of one VCN.
pub async fn list_subnets(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let vcn = request.query::<Ocid>("vcnId")?;
    crate::app::list(&context, &request, &compartment, |subnet: &SubnetRecord| {
        let here = vcn.as_ref().is_none_or(|vcn| *vcn == subnet.resource.vcn_id);
        here.then(|| subnet.resource.clone())
    })
    .await
}

/// `UpdateSubnet`: its name, its tags, and the parts of the VCN that it uses. What that means for packets is in force
/// at once.
pub async fn update_subnet(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateSubnetDetails = request.json()?;

    check_lists(details.security_list_ids.as_deref())?;
    let mut subnet: Versioned<SubnetRecord> =
        crate::app::load(&context, &request.path("subnetId")?).await?;
    request.check_etag(&subnet.etag())?;
    let vcn: Versioned<VcnRecord> =
        crate::app::load(&context, &subnet.resource.vcn_id.clone()).await?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(
        &context,
        (&subnet.resource.freeform_tags, &subnet.resource.defined_tags),
        freeform,
        defined,
    )
    .await?;
    let before = subnet.used();
    change(&mut subnet.value.resource, details)?;
    check_parts(&subnet.resource)?;
    let (db, id) = (&context.region.db, subnet.resource.id.clone());
    let batch = uses::change(db, &vcn, &id, &before, &subnet.used(), context.now).await?;
    let reply = Reply::ok(&subnet.resource)?.etag(subnet.next_etag());
    let reply = context.commit(batch.replace(&subnet), reply).await?;
    outbound::changed(&context.region, &vcn.resource.id).await?;
    Ok(reply)
}

fn change(subnet: &mut Subnet, details: UpdateSubnetDetails) -> Result<(), ApiError> {
    let moved = details.cidr_block.is_some_and(|block| block != subnet.cidr_block);
    refuse_given(&[
        ("cidrBlock", moved),
        ("ipv6CidrBlock", details.ipv6_cidr_block.is_some()),
        ("ipv6CidrBlocks", details.ipv6_cidr_blocks.is_some_and(|list| !list.is_empty())),
    ])?;
    if let Some(name) = details.display_name {
        subnet.display_name = name.into();
    }
    if let Some(tags) = details.defined_tags {
        subnet.defined_tags = tags;
    }
    if let Some(tags) = details.freeform_tags {
        outbound::by_tag(&tags)?;
        subnet.freeform_tags = tags;
    }
    if let Some(table) = details.route_table_id {
        subnet.route_table_id = table;
    }
    subnet.dhcp_options_id = details.dhcp_options_id.or(subnet.dhcp_options_id.take());
    subnet.security_list_ids = details.security_list_ids.or(subnet.security_list_ids.take());
    Ok(())
}

/// `DeleteSubnet`: of one that no VNIC is in.
pub async fn delete_subnet(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id: Ocid = request.path("subnetId")?;
    let db = &context.region.db;
    let mut attempt = 1;
    loop {
        let subnet: Versioned<SubnetRecord> = crate::app::load(&context, &id).await?;
        request.check_etag(&subnet.etag())?;
        let batch = deletion(db, &subnet).await?;
        match db.apply(batch).await {
            Ok(()) => return Ok(Reply::no_content()),
            Err(error) if uses::is_use(&error) => {
                return Err(uses::explain(db, error, "Subnet", &id).await);
            }
            Err(error) if error.is_conflict() && attempt < ATTEMPTS_MAX => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What deletes the subnet, if nothing in it is claimed.
pub(super) async fn deletion(db: &Db, subnet: &Versioned<SubnetRecord>) -> Result<Batch, Error> {
    let id = &subnet.resource.id;
    let batch = uses::refuse_users(Batch::new(), id)
        .and(uses::given_up(db, id, &subnet.used()).await?)
        .delete(subnet);
    let Some(mut vcn) = db.get::<VcnRecord>(subnet.resource.vcn_id.as_str()).await? else {
        return Ok(batch);
    };
    vcn.value.subnets.retain(|place| place.id != *id);
    Ok(batch.replace(&vcn))
}
