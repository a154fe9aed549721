//! A VNIC from launch to termination: its addresses are claimed in the batch that makes the instance,
//! and free again when it is released.

use std::net::Ipv4Addr;

use calotype_api::error::ApiError;
use calotype_api::instances::CreateVnicDetails;
use calotype_api::networks::{Vnic, VnicState};
use calotype_api::ocid::Ocid;
use calotype_api::tags::DefinedTags;
use calotype_api::vcn_parts::Group;
use calotype_net::{PublicAddress, SubnetConfig, VnicConfig};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::cidr::Cidr;
use super::parts::Content as _;
use super::records::{Label, SubnetRecord, VcnRecord, VnicRecord};
use super::{outbound, random_mac, uses};
use crate::app::claims::Claim;
use crate::app::{Context, refuse_given, tags};
use crate::db::{self, Batch, Db, Query, Versioned};

/// First bytes of the hardware address of a VNIC.
const VNIC_MAC_PREFIX: [u8; 3] = [0x02, 0x00, 0x17];
/// MTU of every subnet, as in OCI.
const MTU: u16 = 9000;
/// Addresses tried at random before all free ones of the subnet are looked through.
const RANDOM_TRIES: u32 = 16;
/// Characters of a host name.
const HOSTNAME_LENGTH_MAX: usize = 63;
/// Network security groups that a VNIC can be in.
const GROUPS_MAX: usize = 5;
/// How often a release is tried when something else is written meanwhile.
const RELEASE_ATTEMPTS_MAX: u32 = 16;

/// Whose VNIC is planned.
#[derive(Debug, Clone)]
pub struct VnicOwner {
    /// The instance.
    pub instance_id: Ocid,
    /// Its compartment, also the VNIC's.
    pub compartment_id: Ocid,
    /// Its name, also the VNIC's unless that is given another.
    pub display_name: String,
    /// Its availability domain.
    pub availability_domain: String,
    /// Whether it is the one that the instance is launched with.
    pub is_primary: bool,
    /// The name of its attachment, unless that is the VNIC's.
    pub attachment_name: Option<String>,
}

/// A VNIC of which nothing is written yet.
#[derive(Debug)]
pub struct PlannedVnic {
    /// Its id.
    pub vnic_id: Ocid,
    /// The name the guest will have, if one can be made of what was given.
    pub hostname: Option<String>,
    /// The card as it will be.
    pub record: Versioned<VnicRecord>,
    /// Its documents. A conflict when they are written means that an address was taken meanwhile:
    /// plan again.
    pub batch: Batch,
}

/// Plans a VNIC.
pub async fn plan_vnic(
    context: &Context,
    owner: &VnicOwner,
    details: &CreateVnicDetails,
) -> Result<PlannedVnic, ApiError> {
    let id = context.region.new_id("vnic");
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.clone());
    let defined = tags::on_create(context, &owner.compartment_id, freeform, defined).await?;
    let details = CreateVnicDetails { defined_tags: Some(defined), ..details.clone() };
    plan(&context.region.db, id, owner, &details, context.now).await
}

pub(super) async fn plan(
    db: &Db,
    id: Ocid,
    owner: &VnicOwner,
    details: &CreateVnicDetails,
    now: Timestamp,
) -> Result<PlannedVnic, ApiError> {
    check(details)?;
    let (subnet, cidr) = subnet_of(db, owner, details).await?;
    let public = assigns_public_ip(&subnet, details)?;
    let mut claims = Claims { db, owner: &id, now, batch: Batch::new(), claimed: Vec::new() };
    let private_ip = claims.private_ip(&subnet.resource.id, cidr, details.private_ip).await?;
    let mac = claims.mac().await?;
    let public_ip = if public { Some(claims.public_ip().await?) } else { None };
    if let Some(label) = &details.hostname_label {
        claims.hostname(&subnet.resource.id, label).await?;
    }
    let nsg_ids = details.nsg_ids.clone().unwrap_or_default();
    claims.groups(&subnet, &nsg_ids).await?;
    let Claims { batch, claimed, .. } = claims;
    let display_name = details
        .display_name
        .as_ref()
        .map_or_else(|| owner.display_name.clone(), ToString::to_string);
    // A guest has one name: that of its first card.
    let named = || owner.is_primary.then(|| hostname_from(&owner.display_name)).flatten();
    let hostname = details.hostname_label.clone().or_else(named);
    let record = Versioned::first(VnicRecord {
        resource: Vnic {
            id: id.clone(),
            availability_domain: owner.availability_domain.clone(),
            compartment_id: owner.compartment_id.clone(),
            defined_tags: details.defined_tags.clone().unwrap_or_default(),
            display_name,
            freeform_tags: details.freeform_tags.clone().unwrap_or_default(),
            hostname_label: details.hostname_label.clone(),
            ipv6_addresses: None,
            is_primary: owner.is_primary,
            lifecycle_state: VnicState::Available,
            mac_address: Some(mac.to_uppercase()),
            nsg_ids,
            private_ip: Some(private_ip),
            public_ip,
            route_table_id: None,
            security_attributes: None,
            skip_source_dest_check: details.skip_source_dest_check.unwrap_or(false),
            subnet_id: subnet.resource.id.clone(),
            system_tags: DefinedTags::new(),
            time_created: now.into(),
            vlan_id: None,
        },
        instance_id: owner.instance_id.clone(),
        hostname: hostname.clone(),
        vlan_tag: 1 + u16::from_be_bytes(random()) % 4094,
        subnet_cidr_block: subnet.resource.cidr_block.clone(),
        claims: claimed,
        private_label: Label::default(),
        public_label: Label::default(),
        attachment_name: owner.attachment_name.clone(),
        time_released: None,
    });
    let batch = batch.require(&subnet).insert(&record.value);
    Ok(PlannedVnic { vnic_id: id, hostname, record, batch })
}

fn check(details: &CreateVnicDetails) -> Result<(), ApiError> {
    let pairs = details.ipv6_address_ipv6_subnet_cidr_pair_details.as_ref();
    refuse_given(&[
        ("createVnicDetails.assignIpv6Ip", details.assign_ipv6_ip == Some(true)),
        (
            "createVnicDetails.ipv6AddressIpv6SubnetCidrPairDetails",
            pairs.is_some_and(|pairs| !pairs.is_empty()),
        ),
        ("createVnicDetails.privateIpId", details.private_ip_id.is_some()),
        ("createVnicDetails.securityAttributes", details.security_attributes.is_some()),
        ("createVnicDetails.vlanId", details.vlan_id.is_some()),
    ])?;
    if let Some(label) = &details.hostname_label {
        check_hostname("createVnicDetails.hostnameLabel", label)?;
    }
    check_groups("createVnicDetails.nsgIds", details.nsg_ids.as_deref())
}

async fn subnet_of(
    db: &Db,
    owner: &VnicOwner,
    details: &CreateVnicDetails,
) -> Result<(Versioned<SubnetRecord>, Cidr), ApiError> {
    let id = details
        .subnet_id
        .as_ref()
        .ok_or_else(|| ApiError::missing_parameter("createVnicDetails.subnetId"))?;
    let missing = || ApiError::related_resource_not_found("Subnet", id);
    let subnet = db.get::<SubnetRecord>(id.as_str()).await?.ok_or_else(missing)?;
    let cidr = subnet.cidr().ok_or_else(|| {
        tracing::error!(subnet = %id, "the stored block of a subnet cannot be read");
        ApiError::internal()
    })?;
    if let Some(domain) = &subnet.resource.availability_domain
        && *domain != owner.availability_domain
    {
        let other = format!("names a subnet of availability domain {domain}");
        return Err(ApiError::invalid_parameter("createVnicDetails.subnetId", other));
    }
    if let Some(block) = &details.subnet_cidr
        && *block != subnet.resource.cidr_block
    {
        let blocks = format!("is not {}, the subnet's", subnet.resource.cidr_block);
        return Err(ApiError::invalid_parameter("createVnicDetails.subnetCidr", blocks));
    }
    Ok((subnet, cidr))
}

fn assigns_public_ip(subnet: &SubnetRecord, details: &CreateVnicDetails) -> Result<bool, ApiError> {
    let prohibited = subnet.resource.prohibit_public_ip_on_vnic;
    if prohibited && details.assign_public_ip == Some(true) {
        return Err(ApiError::invalid_parameter(
            "createVnicDetails.assignPublicIp",
            "cannot be true: the subnet prohibits public addresses",
        ));
    }
    Ok(details.assign_public_ip.unwrap_or(!prohibited))
}

/// Refuses what is no host name.
pub(super) fn check_hostname(field: &str, label: &str) -> Result<(), ApiError> {
    if is_hostname(label) {
        return Ok(());
    }
    let rule = format!(
        "must be 1 to {HOSTNAME_LENGTH_MAX} letters, digits and hyphens, with no hyphen first or last"
    );
    Err(ApiError::invalid_parameter(field, rule))
}

/// Refuses more groups than a VNIC can be in.
pub(super) fn check_groups(field: &str, ids: Option<&[Ocid]>) -> Result<(), ApiError> {
    let ids = ids.unwrap_or_default();
    let twice = ids.iter().enumerate().any(|(number, id)| ids[..number].contains(id));
    let right = ids.iter().all(|id| id.resource_type() == Group::KIND);
    if right && !twice && ids.len() <= GROUPS_MAX {
        return Ok(());
    }
    let rule = format!("must be at most {GROUPS_MAX} network security groups, all different");
    Err(ApiError::invalid_parameter(field, rule))
}

fn is_hostname(text: &str) -> bool {
    (1..=HOSTNAME_LENGTH_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What of a display name can be a host name.
fn hostname_from(display_name: &str) -> Option<String> {
    let mut name: String = display_name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    while name.contains("--") {
        name = name.replace("--", "-");
    }
    name.truncate(HOSTNAME_LENGTH_MAX);
    let name = name.trim_matches('-').to_owned();
    is_hostname(&name).then_some(name)
}

/// What a VNIC claims.
struct Claims<'a> {
    db: &'a Db,
    owner: &'a Ocid,
    now: Timestamp,
    batch: Batch,
    claimed: Vec<String>,
}

impl Claims<'_> {
    /// Claims `what` with the batch, unless it is claimed already.
    async fn claim(&mut self, what: String, scope: Option<&Ocid>) -> Result<bool, ApiError> {
        if self.db.get::<Claim>(&what).await?.is_some() {
            return Ok(false);
        }
        let claim = Claim {
            what: what.clone(),
            scope: scope.map(ToString::to_string),
            owner: self.owner.to_string(),
            time_created: self.now,
        };
        self.batch = std::mem::take(&mut self.batch).insert(&claim);
        self.claimed.push(what);
        Ok(true)
    }

    /// The address that was asked for, or a free one. At random, so that launches at the same time
    /// do not all reach for the same.
    async fn private_ip(
        &mut self,
        subnet: &Ocid,
        cidr: Cidr,
        asked: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, ApiError> {
        let field = "createVnicDetails.privateIp";
        if let Some(address) = asked {
            if !cidr.is_usable(address) {
                return Err(ApiError::invalid_parameter(
                    field,
                    format!(
                        "{address} is not one of {cidr} that an instance can have: not its first two, \
                     not its last"
                    ),
                ));
            }
            if self.claim(claim_of(subnet, address), Some(subnet)).await? {
                return Ok(address);
            }
            return Err(ApiError::conflict(format!("{field} {address} is in use already")));
        }
        for _ in 0..RANDOM_TRIES {
            let address = cidr.address(u32::from_be_bytes(random()) % cidr.usable());
            if self.claim(claim_of(subnet, address), Some(subnet)).await? {
                return Ok(address);
            }
        }
        let taken = self.db.list_all::<Claim>(Query::new().parent(subnet.as_str())).await?;
        let taken: std::collections::HashSet<_> =
            taken.into_iter().map(|claim| claim.value.what).collect();
        for number in 0..cidr.usable() {
            let address = cidr.address(number);
            let what = claim_of(subnet, address);
            if !taken.contains(&what) && self.claim(what, Some(subnet)).await? {
                return Ok(address);
            }
        }
        Err(ApiError::limit_exceeded(format!("Subnet {subnet} has no free address left in {cidr}")))
    }

    async fn mac(&mut self) -> Result<String, ApiError> {
        for _ in 0..RANDOM_TRIES {
            let mac = random_mac(VNIC_MAC_PREFIX);
            if self.claim(format!("mac/{mac}"), None).await? {
                return Ok(mac);
            }
        }
        Err(ApiError::limit_exceeded("The region has no free hardware address left"))
    }

    /// An address of the host's loopback network, apart from those that people use by hand.
    async fn public_ip(&mut self) -> Result<Ipv4Addr, ApiError> {
        for _ in 0..RANDOM_TRIES {
            let [second, third, fourth]: [u8; 3] = random();
            let address = Ipv4Addr::new(127, second.max(1), third, fourth.clamp(1, 254));
            if self.claim(public_claim(address), None).await? {
                return Ok(address);
            }
        }
        Err(ApiError::limit_exceeded("The region has no free public address left"))
    }

    /// A place in each of the groups.
    async fn groups(&mut self, subnet: &SubnetRecord, groups: &[Ocid]) -> Result<(), ApiError> {
        if groups.is_empty() {
            return Ok(());
        }
        let vcn = self.db.get::<VcnRecord>(subnet.resource.vcn_id.as_str()).await?;
        let vcn = vcn.ok_or_else(ApiError::not_authorized_or_not_found)?;
        let places = uses::change(self.db, &vcn, self.owner, &[], groups, self.now).await?;
        self.batch = std::mem::take(&mut self.batch).and(places);
        self.claimed.extend(groups.iter().map(|group| uses::name(group, self.owner)));
        Ok(())
    }

    async fn hostname(&mut self, subnet: &Ocid, label: &str) -> Result<(), ApiError> {
        if self.claim(hostname_claim(subnet, label), Some(subnet)).await? {
            return Ok(());
        }
        Err(ApiError::conflict(format!(
            "createVnicDetails.hostnameLabel {label} is in use in the subnet already"
        )))
    }
}

/// The name of the claim to a host name.
pub(super) fn hostname_claim(subnet: &Ocid, label: &str) -> String {
    format!("hostname/{subnet}/{}", label.to_ascii_lowercase())
}

/// The name of the claim to a public address.
pub(super) fn public_claim(address: Ipv4Addr) -> String {
    format!("public/{address}")
}

fn claim_of(subnet: &Ocid, address: Ipv4Addr) -> String {
    format!("address/{subnet}/{address}")
}

fn random<const N: usize>() -> [u8; N] {
    let uuid = Uuid::new_v4();
    // The first six bytes of a version 4 UUID are all random.
    std::array::from_fn(|index| uuid.as_bytes()[index % 6])
}

/// Detaches a VNIC: it is TERMINATED, its addresses are free again. Idempotent.
pub async fn release_vnic(db: &Db, vnic_id: &Ocid) -> Result<(), db::Error> {
    let mut attempt = 1;
    loop {
        let Some(vnic) = db.get::<VnicRecord>(vnic_id.as_str()).await? else { return Ok(()) };
        if !vnic.is_alive() {
            return Ok(());
        }
        let batch = released(db, vnic, Timestamp::now()).await?;
        match db.apply(batch).await {
            Err(error) if error.is_conflict() && attempt < RELEASE_ATTEMPTS_MAX => attempt += 1,
            result => return result,
        }
    }
}

/// What releases a VNIC.
pub(super) async fn released(
    db: &Db,
    mut vnic: Versioned<VnicRecord>,
    now: Timestamp,
) -> Result<Batch, db::Error> {
    let mut batch = Batch::new();
    for what in std::mem::take(&mut vnic.value.claims) {
        match db.get::<Claim>(&what).await? {
            Some(claim) if claim.owner == vnic.resource.id.as_str() => {
                batch = batch.delete(&claim);
            }
            _ => {}
        }
    }
    vnic.value.resource.lifecycle_state = VnicState::Terminated;
    vnic.value.time_released = Some(now);
    Ok(batch.replace(&vnic))
}

/// Whose a VNIC is.
#[derive(Debug, Clone)]
pub struct VnicOwnerView {
    /// The instance.
    pub instance_id: Ocid,
    /// The name of its guest.
    pub hostname: Option<String>,
}

async fn alive(db: &Db, vnic_id: &Ocid) -> Result<Option<VnicRecord>, db::Error> {
    let vnic = db.get::<VnicRecord>(vnic_id.as_str()).await?;
    Ok(vnic.map(|vnic| vnic.value).filter(VnicRecord::is_alive))
}

/// Whose the VNIC is; `None` if it is released.
pub async fn owner_of(db: &Db, vnic_id: &Ocid) -> Result<Option<VnicOwnerView>, db::Error> {
    let vnic = alive(db, vnic_id).await?;
    Ok(vnic.map(|vnic| VnicOwnerView { instance_id: vnic.instance_id, hostname: vnic.hostname }))
}

/// Its hardware address, in lower case.
pub async fn mac_address(db: &Db, vnic_id: &Ocid) -> Result<Option<String>, db::Error> {
    let vnic = alive(db, vnic_id).await?;
    Ok(vnic.and_then(|vnic| vnic.resource.mac_address).map(|mac| mac.to_lowercase()))
}

/// What the virtual network must know to plug the VNIC in; `None` if it is released. The guest's
/// ports 22 and `public_tcp_ports` are published on its public address, if it has one.
pub async fn vnic_config(
    db: &Db,
    vnic_id: &Ocid,
    public_tcp_ports: &[u16],
) -> Result<Option<VnicConfig>, db::Error> {
    let Some(vnic) = alive(db, vnic_id).await? else { return Ok(None) };
    let resource = vnic.resource;
    let Some(subnet) = db.get::<SubnetRecord>(resource.subnet_id.as_str()).await? else {
        return Ok(None);
    };
    let outbound = outbound::of(db, &subnet).await?;
    let made = || {
        let cidr = subnet.cidr()?;
        Some(VnicConfig {
            id: resource.id.to_string(),
            subnet: SubnetConfig {
                id: subnet.resource.id.to_string(),
                cidr: (cidr.network(), cidr.prefix()),
                virtual_router_ip: cidr.router(),
                virtual_router_mac: mac_bytes(&subnet.resource.virtual_router_mac)?,
                outbound,
                domain_name: subnet.resource.subnet_domain_name.clone(),
                mtu: MTU,
            },
            mac: mac_bytes(resource.mac_address.as_deref()?)?,
            private_ip: resource.private_ip?,
            hostname: vnic.hostname.clone(),
            public: resource
                .public_ip
                .map(|ip| PublicAddress { ip, tcp_ports: public_tcp_ports.to_vec() }),
        })
    };
    Ok(made())
}

fn mac_bytes(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// The metadata service's `vnics` document: of all cards of an instance, the primary one first.
pub async fn metadata_of(
    db: &Db,
    vnic_ids: impl Iterator<Item = &Ocid>,
) -> Result<Value, db::Error> {
    let mut all = Vec::new();
    for id in vnic_ids {
        let Some(vnic) = alive(db, id).await? else { continue };
        let subnet = db.get::<SubnetRecord>(vnic.resource.subnet_id.as_str()).await?;
        let router = subnet.and_then(|subnet| subnet.resource.virtual_router_ip);
        all.push(json!({
            "vnicId": vnic.resource.id,
            "privateIp": vnic.resource.private_ip,
            "vlanTag": vnic.vlan_tag,
            "macAddr": vnic.resource.mac_address.map(|mac| mac.to_lowercase()),
            "virtualRouterIp": router,
            "subnetCidrBlock": vnic.subnet_cidr_block,
        }));
    }
    Ok(Value::Array(all))
}
