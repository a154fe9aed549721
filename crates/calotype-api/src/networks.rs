//! Networks: VCNs, subnets, network cards and their addresses.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::boot_volumes::AttachmentState;
use crate::instances::CreateVnicDetails;
use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::text::{DisplayName, Text};
use crate::time::Time;
use crate::vcn_parts::PartState;
use crate::wire_enum::wire_enum;

/// A virtual cloud network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vcn {
    pub id: Ocid,
    pub byoipv6_cidr_blocks: Option<Vec<String>>,
    pub cidr_block: String,
    pub cidr_blocks: Vec<String>,
    pub compartment_id: Ocid,
    pub default_dhcp_options_id: Option<Ocid>,
    pub default_route_table_id: Option<Ocid>,
    pub default_security_list_id: Option<Ocid>,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    pub dns_label: Option<String>,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub ipv6_cidr_blocks: Option<Vec<String>>,
    pub ipv6_private_cidr_blocks: Option<Vec<String>>,
    pub is_zpr_only: Option<bool>,
    pub lifecycle_state: NetworkState,
    pub security_attributes: Option<DefinedTags>,
    #[serde(default)]
    pub system_tags: DefinedTags,
    pub time_created: Time,
    pub vcn_domain_name: Option<String>,
}

/// Body of CreateVcn: `cidrBlock` (deprecated) or `cidrBlocks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateVcnDetails {
    pub byoipv6_cidr_details: Option<Vec<Value>>,
    pub cidr_block: Option<String>,
    pub cidr_blocks: Option<Vec<String>>,
    pub compartment_id: Ocid,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub dns_label: Option<String>,
    pub freeform_tags: Option<FreeformTags>,
    pub ipv6_private_cidr_blocks: Option<Vec<String>>,
    pub is_ipv6_enabled: Option<bool>,
    pub is_oracle_gua_allocation_enabled: Option<bool>,
    pub is_zpr_only: Option<bool>,
    pub security_attributes: Option<DefinedTags>,
}

/// Body of UpdateVcn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateVcnDetails {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub is_zpr_only: Option<bool>,
    pub security_attributes: Option<DefinedTags>,
}

/// Who resolves the names of a VCN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VcnDnsResolverAssociation {
    pub dns_resolver_id: Option<Ocid>,
    pub lifecycle_state: PartState,
    pub vcn_id: Ocid,
}

/// A subnet of a VCN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    pub id: Ocid,
    pub availability_domain: Option<String>,
    pub cidr_block: String,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub dhcp_options_id: Option<Ocid>,
    pub display_name: String,
    pub dns_label: Option<String>,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub ipv4_cidr_blocks: Option<Vec<String>>,
    pub ipv6_cidr_block: Option<String>,
    pub ipv6_cidr_blocks: Option<Vec<String>>,
    pub ipv6_virtual_router_ip: Option<String>,
    pub lifecycle_state: NetworkState,
    pub prohibit_internet_ingress: bool,
    pub prohibit_public_ip_on_vnic: bool,
    pub route_table_id: Ocid,
    pub security_list_ids: Option<Vec<Ocid>>,
    pub subnet_domain_name: Option<String>,
    #[serde(default)]
    pub system_tags: DefinedTags,
    pub time_created: Time,
    pub vcn_id: Ocid,
    pub virtual_router_ip: Option<Ipv4Addr>,
    pub virtual_router_mac: String,
}

/// Body of CreateSubnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateSubnetDetails {
    pub availability_domain: Option<Text<1, 255>>,
    pub cidr_block: Option<String>,
    pub compartment_id: Ocid,
    pub defined_tags: Option<DefinedTags>,
    pub dhcp_options_id: Option<Ocid>,
    pub display_name: Option<DisplayName>,
    pub dns_label: Option<String>,
    pub freeform_tags: Option<FreeformTags>,
    pub ipv4_cidr_blocks: Option<Vec<String>>,
    pub ipv6_cidr_block: Option<String>,
    pub ipv6_cidr_blocks: Option<Vec<String>>,
    pub prohibit_internet_ingress: Option<bool>,
    pub prohibit_public_ip_on_vnic: Option<bool>,
    pub route_table_id: Option<Ocid>,
    pub security_list_ids: Option<Vec<Ocid>>,
    pub vcn_id: Ocid,
}

/// Body of UpdateSubnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateSubnetDetails {
    pub cidr_block: Option<String>,
    pub defined_tags: Option<DefinedTags>,
    pub dhcp_options_id: Option<Ocid>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub ipv6_cidr_block: Option<String>,
    pub ipv6_cidr_blocks: Option<Vec<String>>,
    pub route_table_id: Option<Ocid>,
    pub security_list_ids: Option<Vec<Ocid>>,
}

/// A virtual network card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vnic {
    pub id: Ocid,
    pub availability_domain: String,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub hostname_label: Option<String>,
    pub ipv6_addresses: Option<Vec<String>>,
    pub is_primary: bool,
    pub lifecycle_state: VnicState,
    pub mac_address: Option<String>,
    pub nsg_ids: Vec<Ocid>,
    pub private_ip: Option<Ipv4Addr>,
    pub public_ip: Option<Ipv4Addr>,
    pub route_table_id: Option<Ocid>,
    pub security_attributes: Option<DefinedTags>,
    pub skip_source_dest_check: bool,
    pub subnet_id: Ocid,
    #[serde(default)]
    pub system_tags: DefinedTags,
    pub time_created: Time,
    pub vlan_id: Option<Ocid>,
}

/// Body of UpdateVnic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateVnicDetails {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub hostname_label: Option<String>,
    pub nsg_ids: Option<Vec<Ocid>>,
    pub route_table_id: Option<Ocid>,
    pub security_attributes: Option<DefinedTags>,
    pub skip_source_dest_check: Option<bool>,
}

/// A network card attached to an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VnicAttachment {
    pub id: Ocid,
    pub availability_domain: String,
    pub compartment_id: Ocid,
    pub display_name: String,
    pub instance_id: Ocid,
    pub lifecycle_state: AttachmentState,
    pub nic_index: Option<u64>,
    pub subnet_id: Ocid,
    pub time_created: Time,
    pub vlan_id: Option<Ocid>,
    pub vlan_tag: Option<u64>,
    pub vnic_id: Option<Ocid>,
}

/// Body of AttachVnic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttachVnicDetails {
    pub create_vnic_details: CreateVnicDetails,
    pub display_name: Option<DisplayName>,
    pub instance_id: Ocid,
    pub nic_index: Option<u64>,
}

/// A private address of a network card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrivateIp {
    pub id: Ocid,
    pub availability_domain: String,
    pub cidr_prefix_length: Option<u64>,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub hostname_label: Option<String>,
    pub ip_address: Ipv4Addr,
    pub ip_state: Option<IpState>,
    pub ipv4_subnet_cidr_at_creation: Option<String>,
    pub is_primary: bool,
    pub lifetime: Option<IpLifetime>,
    pub route_table_id: Option<Ocid>,
    pub subnet_id: Ocid,
    pub time_created: Time,
    pub vlan_id: Option<Ocid>,
    pub vnic_id: Option<Ocid>,
}

/// Body of UpdatePrivateIp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdatePrivateIpDetails {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub hostname_label: Option<String>,
    pub lifetime: Option<IpLifetime>,
    pub route_table_id: Option<Ocid>,
    pub vnic_id: Option<Ocid>,
}

/// A public address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicIp {
    pub id: Ocid,
    pub assigned_entity_id: Option<Ocid>,
    pub assigned_entity_type: Option<AssignedEntityType>,
    pub availability_domain: Option<String>,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub ip_address: Ipv4Addr,
    pub lifecycle_state: PublicIpState,
    pub lifetime: IpLifetime,
    pub private_ip_id: Option<Ocid>,
    pub public_ip_pool_id: Option<Ocid>,
    pub scope: PublicIpScope,
    pub time_created: Time,
}

/// Body of UpdatePublicIp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdatePublicIpDetails {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub private_ip_id: Option<Ocid>,
}

/// Body of GetPublicIpByPrivateIpId.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetPublicIpByPrivateIpIdDetails {
    pub private_ip_id: Ocid,
}

/// Body of GetPublicIpByIpAddress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetPublicIpByIpAddressDetails {
    pub ip_address: Ipv4Addr,
}

wire_enum! {
    /// The states of a VCN or subnet.
    NetworkState {
        Provisioning = "PROVISIONING",
        Available = "AVAILABLE",
        Terminating = "TERMINATING",
        Terminated = "TERMINATED",
        Updating = "UPDATING",
    }
}

wire_enum! {
    /// The states of a network card.
    VnicState {
        Provisioning = "PROVISIONING",
        Available = "AVAILABLE",
        Terminating = "TERMINATING",
        Terminated = "TERMINATED",
    }
}

wire_enum! {
    /// The states of a public address.
    PublicIpState {
        Provisioning = "PROVISIONING",
        Available = "AVAILABLE",
        Assigning = "ASSIGNING",
        Assigned = "ASSIGNED",
        Unassigning = "UNASSIGNING",
        Unassigned = "UNASSIGNED",
        Terminating = "TERMINATING",
        Terminated = "TERMINATED",
    }
}

wire_enum! {
    /// Whether a private address is in use.
    IpState {
        Assigned = "ASSIGNED",
        Available = "AVAILABLE",
    }
}

wire_enum! {
    /// How long an address lives.
    IpLifetime {
        Ephemeral = "EPHEMERAL",
        Reserved = "RESERVED",
    }
}

wire_enum! {
    /// Where a public address can be used.
    PublicIpScope {
        Region = "REGION",
        AvailabilityDomain = "AVAILABILITY_DOMAIN",
    }
}

wire_enum! {
    /// What a public address is assigned to.
    AssignedEntityType {
        PrivateIp = "PRIVATE_IP",
        NatGateway = "NAT_GATEWAY",
    }
}
