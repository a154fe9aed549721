//! Private and public addresses, each seen, and labelled, through the VNIC that has it.

use std::net::Ipv4Addr;

use calotype_api::error::ApiError;
use calotype_api::networks::{
    AssignedEntityType, GetPublicIpByIpAddressDetails, GetPublicIpByPrivateIpIdDetails, IpLifetime,
    IpState, PrivateIp, PublicIp, PublicIpScope, PublicIpState, UpdatePrivateIpDetails,
    UpdatePublicIpDetails,
};
use calotype_api::ocid::Ocid;
use calotype_api::tags::{DefinedTags, FreeformTags};
use calotype_api::text::DisplayName;

use super::plug::public_claim;
use super::records::{Label, PRIVATE_IP, PUBLIC_IP, SubnetRecord, VNIC, VnicRecord, sibling};
use super::vnics::{load, rename_host};
use crate::app::claims::Claim;
use crate::app::{Context, identity, page_limit, refuse_given, tags};
use crate::db::{Batch, PageToken, Query};
use crate::http::{Reply, Request};

/// `GetPrivateIp`.
pub async fn get_private_ip(context: Context, request: Request) -> Result<Reply, ApiError> {
    let vnic = load(&context, &request.path("privateIpId")?, PRIVATE_IP).await?;
    let address = private_ip(&vnic).ok_or_else(ApiError::not_authorized_or_not_found)?;
    Ok(Reply::ok(&address)?.etag(vnic.etag()))
}

/// `ListPrivateIps`: those of a VNIC or of a subnet.
pub async fn list_private_ips(context: Context, request: Request) -> Result<Reply, ApiError> {
    let subnet = request.query::<Ocid>("subnetId")?;
    let vnic = request.query::<Ocid>("vnicId")?;
    let wanted = Wanted {
        address: request.query("ipAddress")?,
        subnet: subnet.clone(),
        state: request.query("ipState")?,
        lifetime: request.query("lifetime")?,
        vlan: request.query("vlanId")?,
    };
    if let Some(vnic) = vnic {
        let vnic = crate::app::load::<VnicRecord>(&context, &vnic).await?;
        let address = private_ip(&vnic).filter(|address| wanted.accepts(address));
        return crate::app::page_of(&request, address.as_slice());
    }
    let Some(subnet) = subnet else {
        return Err(ApiError::missing_parameter("subnetId or vnicId"));
    };
    crate::app::load::<SubnetRecord>(&context, &subnet).await?;
    let after = request.query::<String>("page")?;
    let after = after.map(|token| PageToken::parse(&token)).transpose()?;
    let query = Query::new().parent(subnet.as_str()).state("AVAILABLE");
    let query = query.limit(page_limit(&request)?).after(after);
    let page = context.region.db.list::<VnicRecord>(query).await?;
    let addresses = page.items.iter().filter_map(|vnic| private_ip(&vnic.value));
    let addresses: Vec<_> = addresses.filter(|address| wanted.accepts(address)).collect();
    Ok(Reply::ok(&addresses)?.maybe_next_page(page.next.map(|token| token.to_string())))
}

/// The filters of a list of private addresses.
struct Wanted {
    address: Option<Ipv4Addr>,
    subnet: Option<Ocid>,
    state: Option<IpState>,
    lifetime: Option<IpLifetime>,
    vlan: Option<Ocid>,
}

impl Wanted {
    fn accepts(&self, one: &PrivateIp) -> bool {
        self.address.is_none_or(|address| address == one.ip_address)
            && self.subnet.as_ref().is_none_or(|subnet| *subnet == one.subnet_id)
            && self.state.is_none_or(|state| Some(state) == one.ip_state)
            && self.lifetime.is_none_or(|lifetime| Some(lifetime) == one.lifetime)
            && self.vlan.is_none()
    }
}

/// `GetPublicIp`.
pub async fn get_public_ip(context: Context, request: Request) -> Result<Reply, ApiError> {
    public_ip_reply(&context, &request.path("publicIpId")?, PUBLIC_IP).await
}

/// `GetPublicIpByPrivateIpId`.
pub async fn get_public_ip_by_private_ip_id(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let details: GetPublicIpByPrivateIpIdDetails = request.json()?;
    public_ip_reply(&context, &details.private_ip_id, PRIVATE_IP).await
}

/// `GetPublicIpByIpAddress`.
pub async fn get_public_ip_by_ip_address(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    let details: GetPublicIpByIpAddressDetails = request.json()?;
    let claim = context.region.db.get::<Claim>(&public_claim(details.ip_address)).await?;
    let owner = claim.and_then(|claim| claim.owner.parse::<Ocid>().ok());
    let vnic = owner.ok_or_else(ApiError::not_authorized_or_not_found)?;
    public_ip_reply(&context, &vnic, VNIC).await
}

/// `UpdatePrivateIp`: its name and tags, and its guest's host name.
pub async fn update_private_ip(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdatePrivateIpDetails = request.json()?;
    let mut vnic = load(&context, &request.path("privateIpId")?, PRIVATE_IP).await?;
    private_ip(&vnic).ok_or_else(ApiError::not_authorized_or_not_found)?;
    request.check_etag(&vnic.etag())?;
    let moved = details.vnic_id.is_some_and(|id| id != vnic.resource.id);
    refuse_given(&[
        ("lifetime", details.lifetime == Some(IpLifetime::Reserved)),
        ("routeTableId", details.route_table_id.is_some()),
        // The primary address of a VNIC stays with it, in OCI, too; and there are no others here.
        ("vnicId", moved),
    ])?;
    let label = &mut vnic.value.private_label;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(&context, (&label.freeform_tags, &label.defined_tags), freeform, defined)
        .await?;
    relabel(label, details.display_name, details.defined_tags, details.freeform_tags);
    let batch = match details.hostname_label {
        Some(name) => rename_host(&context, &mut vnic.value, &name, "hostnameLabel").await?,
        None => Batch::new(),
    };
    let address = private_ip(&vnic).ok_or_else(ApiError::internal)?;
    let reply = Reply::ok(&address)?.etag(vnic.next_etag());
    context.commit(batch.replace(&vnic), reply).await
}

/// `UpdatePublicIp`: its name and tags. One that lives with its VNIC cannot be assigned to another.
pub async fn update_public_ip(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdatePublicIpDetails = request.json()?;
    let mut vnic = load(&context, &request.path("publicIpId")?, PUBLIC_IP).await?;
    public_ip(&vnic).ok_or_else(ApiError::not_authorized_or_not_found)?;
    request.check_etag(&vnic.etag())?;
    let moved = details
        .private_ip_id
        .is_some_and(|id| sibling(&id, PUBLIC_IP) != sibling(&vnic.resource.id, PUBLIC_IP));
    refuse_given(&[("privateIpId", moved)])?;
    let label = &mut vnic.value.public_label;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(&context, (&label.freeform_tags, &label.defined_tags), freeform, defined)
        .await?;
    relabel(label, details.display_name, details.defined_tags, details.freeform_tags);
    let address = public_ip(&vnic).ok_or_else(ApiError::internal)?;
    crate::app::replace(&context, vnic, |_| Reply::ok(&address)).await
}

fn relabel(
    label: &mut Label,
    name: Option<DisplayName>,
    defined: Option<DefinedTags>,
    freeform: Option<FreeformTags>,
) {
    label.display_name = name.map(String::from).or(label.display_name.take());
    label.defined_tags = defined.unwrap_or(std::mem::take(&mut label.defined_tags));
    label.freeform_tags = freeform.unwrap_or(std::mem::take(&mut label.freeform_tags));
}

/// `ListIpv6s`: no VNIC has one, which is only said of what is there.
pub async fn list_ipv6s(context: Context, request: Request) -> Result<Reply, ApiError> {
    if let Some(subnet) = request.query::<Ocid>("subnetId")? {
        crate::app::load::<SubnetRecord>(&context, &subnet).await?;
    }
    if let Some(vnic) = request.query::<Ocid>("vnicId")? {
        crate::app::load::<VnicRecord>(&context, &vnic).await?;
    }
    crate::app::page_of::<()>(&request, &[])
}

async fn public_ip_reply(context: &Context, id: &Ocid, kind: &str) -> Result<Reply, ApiError> {
    let vnic = load(context, id, kind).await?;
    let address = public_ip(&vnic).ok_or_else(ApiError::not_authorized_or_not_found)?;
    Ok(Reply::ok(&address)?.etag(vnic.etag()))
}

/// `ListPublicIps`: there are only those that live with their VNIC, whose scope is the availability
/// domain.
pub async fn list_public_ips(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    let scope: PublicIpScope = request.required_query("scope")?;
    let lifetime = request.query::<IpLifetime>("lifetime")?;
    let domain = request.query::<String>("availabilityDomain")?;
    let pool = request.query::<Ocid>("publicIpPoolId")?;
    identity::compartment_exists(&context, &compartment).await?;
    crate::app::list(&context, &request, &compartment, |vnic: &VnicRecord| {
        public_ip(vnic).filter(|address| {
            address.scope == scope
                && lifetime.is_none_or(|lifetime| lifetime == address.lifetime)
                && (domain.is_none() || domain == address.availability_domain)
                && pool.is_none()
        })
    })
    .await
}

pub(super) fn private_ip(vnic: &VnicRecord) -> Option<PrivateIp> {
    let resource = Some(&vnic.resource).filter(|_| vnic.is_alive())?;
    Some(PrivateIp {
        id: sibling(&resource.id, PRIVATE_IP)?,
        availability_domain: resource.availability_domain.clone(),
        cidr_prefix_length: None,
        compartment_id: resource.compartment_id.clone(),
        defined_tags: vnic.private_label.defined_tags.clone(),
        display_name: named(&vnic.private_label, vnic),
        freeform_tags: vnic.private_label.freeform_tags.clone(),
        hostname_label: resource.hostname_label.clone(),
        ip_address: resource.private_ip?,
        ip_state: Some(IpState::Assigned),
        ipv4_subnet_cidr_at_creation: Some(vnic.subnet_cidr_block.clone()),
        is_primary: true,
        lifetime: Some(IpLifetime::Ephemeral),
        route_table_id: None,
        subnet_id: resource.subnet_id.clone(),
        time_created: resource.time_created,
        vlan_id: None,
        vnic_id: Some(resource.id.clone()),
    })
}

pub(super) fn public_ip(vnic: &VnicRecord) -> Option<PublicIp> {
    let resource = Some(&vnic.resource).filter(|_| vnic.is_alive())?;
    let private_ip_id = sibling(&resource.id, PRIVATE_IP)?;
    Some(PublicIp {
        id: sibling(&resource.id, PUBLIC_IP)?,
        assigned_entity_id: Some(private_ip_id.clone()),
        assigned_entity_type: Some(AssignedEntityType::PrivateIp),
        availability_domain: Some(resource.availability_domain.clone()),
        compartment_id: resource.compartment_id.clone(),
        defined_tags: vnic.public_label.defined_tags.clone(),
        display_name: named(&vnic.public_label, vnic),
        freeform_tags: vnic.public_label.freeform_tags.clone(),
        ip_address: resource.public_ip?,
        lifecycle_state: PublicIpState::Assigned,
        lifetime: IpLifetime::Ephemeral,
        private_ip_id: Some(private_ip_id),
        public_ip_pool_id: None,
        scope: PublicIpScope::AvailabilityDomain,
        time_created: resource.time_created,
    })
}

fn named(label: &Label, vnic: &VnicRecord) -> String {
    label.display_name.clone().unwrap_or_else(|| vnic.resource.display_name.clone())
}
