//! Private and public addresses, each seen through the VNIC that has it.

use std::net::Ipv4Addr;

use calotype_api::error::ApiError;
use calotype_api::networks::{
    AssignedEntityType, GetPublicIpByPrivateIpIdDetails, IpLifetime, IpState, PrivateIp, PublicIp,
    PublicIpScope, PublicIpState,
};
use calotype_api::ocid::Ocid;
use calotype_api::tags::{DefinedTags, FreeformTags};

use super::records::{PRIVATE_IP, PUBLIC_IP, SubnetRecord, VnicRecord, sibling};
use super::vnics::load;
use crate::app::{Context, identity, page_limit};
use crate::db::{PageToken, Query};
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
        defined_tags: DefinedTags::new(),
        display_name: resource.display_name.clone(),
        freeform_tags: FreeformTags::new(),
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
        defined_tags: DefinedTags::new(),
        display_name: resource.display_name.clone(),
        freeform_tags: FreeformTags::new(),
        ip_address: resource.public_ip?,
        lifecycle_state: PublicIpState::Assigned,
        lifetime: IpLifetime::Ephemeral,
        private_ip_id: Some(private_ip_id),
        public_ip_pool_id: None,
        scope: PublicIpScope::AvailabilityDomain,
        time_created: resource.time_created,
    })
}
