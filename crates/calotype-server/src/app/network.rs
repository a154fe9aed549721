//! Networks: VCNs, subnets, VNICs and their addresses. No two VNICs of the region have the same
//! hardware, private (in their subnet) or public address.
//!
//! The private address comes from the subnet's block, all but its first two and its last. The
//! "public" address is one of the host's own 127.0.0.0/8, on which the ports of the guest are
//! published; it is reached from this host only. Whether guests reach the internet is decided by their
//! subnet's route table: see [`outbound`].

use calotype_api::error::ApiError;
use calotype_api::networks::{CreateSubnetDetails, CreateVcnDetails};
use calotype_api::ocid::Ocid;
use calotype_api::text::DisplayName;
use jiff::Timestamp;
use uuid::Uuid;

use crate::config::Config;
use crate::db::Batch;
use crate::error::Error;
use crate::init::new_ocid;

mod addresses;
mod attachments;
mod cidr;
pub mod outbound;
mod parts;
mod plug;
mod records;
mod subnets;
#[cfg(test)]
mod tests;
mod uses;
mod vcns;
mod vnics;

pub use addresses::{
    get_private_ip, get_public_ip, get_public_ip_by_ip_address, get_public_ip_by_private_ip_id,
    list_ipv6s, list_private_ips, list_public_ips, update_private_ip, update_public_ip,
};
pub use attachments::{attach_vnic, detach_vnic};
pub use outbound::enforce_outbound;
pub use parts::{
    Content as PartContent, PartRecord, create_part, delete_part, get_part,
    list_network_security_group_vnics, list_network_security_groups, list_parts, update_part,
};
pub use plug::{
    PlannedVnic, VnicOwner, VnicOwnerView, mac_address, metadata_of, owner_of, plan_vnic,
    release_vnic, vnic_config,
};
pub use records::{SubnetPlace, SubnetRecord, VcnRecord, VnicRecord};
pub use subnets::{create_subnet, delete_subnet, get_subnet, list_subnets, update_subnet};
pub use vcns::{
    create_vcn, delete_vcn, get_vcn, get_vcn_dns_resolver_association, list_vcns, update_vcn,
};
pub use vnics::{get_vnic, get_vnic_attachment, list_vnic_attachments, update_vnic};

/// Block of the network of a new region.
const DEFAULT_VCN_CIDR: &str = "10.0.0.0/16";
/// Block of its subnet.
const DEFAULT_SUBNET_CIDR: &str = "10.0.0.0/24";
/// Name and DNS label of both.
const DEFAULT_NAME: &str = "default";
/// Characters of a DNS label of a network or subnet.
const DNS_LABEL_LENGTH_MAX: usize = 15;

/// A network and a subnet, both called `default`, with a way to the internet, for a new region: instances can be
/// launched at once.
pub fn default_network(
    config: &Config,
    compartment: &Ocid,
    now: Timestamp,
) -> crate::error::Result<Batch> {
    let id = |kind| new_ocid(kind, &config.realm, Some(&config.region));
    let internal = |source: ApiError| Error::Credentials {
        action: "make the first network",
        source: Box::new(source),
    };
    let name: Option<DisplayName> = DEFAULT_NAME.parse().ok();
    let details = CreateVcnDetails {
        byoipv6_cidr_details: None,
        cidr_block: None,
        cidr_blocks: Some(vec![DEFAULT_VCN_CIDR.to_owned()]),
        compartment_id: compartment.clone(),
        defined_tags: None,
        display_name: name.clone(),
        dns_label: Some(DEFAULT_NAME.to_owned()),
        freeform_tags: None,
        ipv6_private_cidr_blocks: None,
        is_ipv6_enabled: None,
        is_oracle_gua_allocation_enabled: None,
        is_zpr_only: None,
        security_attributes: None,
    };
    let mut vcn = vcns::new(id("vcn")?, details, now).map_err(internal)?;
    let details = CreateSubnetDetails {
        availability_domain: None,
        cidr_block: Some(DEFAULT_SUBNET_CIDR.to_owned()),
        compartment_id: compartment.clone(),
        defined_tags: None,
        dhcp_options_id: None,
        display_name: name,
        dns_label: Some(DEFAULT_NAME.to_owned()),
        freeform_tags: None,
        ipv4_cidr_blocks: None,
        ipv6_cidr_block: None,
        ipv6_cidr_blocks: None,
        prohibit_internet_ingress: None,
        prohibit_public_ip_on_vnic: None,
        route_table_id: None,
        security_list_ids: None,
        vcn_id: vcn.resource.id.clone(),
    };
    let subnet = subnets::new(id("subnet")?, &mut vcn, details, now).map_err(internal)?;
    let batch = Batch::new().insert(&vcn).insert(&subnet);
    parts::with_way_out(batch, &vcn, &id("internetgateway")?, now).map_err(internal)
}

/// The name of what was given none: kind and time.
fn default_name(kind: &str, now: Timestamp) -> String {
    format!("{kind}{}", now.strftime("%Y%m%d%H%M%S"))
}

/// A DNS label of a network or subnet: letters and digits, a letter first.
fn dns_label(label: &str) -> Result<(), ApiError> {
    let starts = label.starts_with(|c: char| c.is_ascii_alphabetic());
    let fits = label.len() <= DNS_LABEL_LENGTH_MAX;
    if starts && fits && label.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    let rule =
        format!("must be 1 to {DNS_LABEL_LENGTH_MAX} letters and digits and begin with a letter");
    Err(ApiError::invalid_parameter("dnsLabel", rule))
}

/// A hardware address with these first bytes.
fn random_mac(prefix: [u8; 3]) -> String {
    let random = Uuid::new_v4();
    let bytes: Vec<_> =
        prefix.iter().chain(&random.as_bytes()[..3]).map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
