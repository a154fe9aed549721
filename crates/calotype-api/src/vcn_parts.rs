//! The parts of a VCN that are managed alike: gateways, route tables, security lists, DHCP options and network security
//! groups. All have the same frame, [`Part`], around what only one of them has.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::text::DisplayName;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// A part of a VCN; `C` is what it consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part<C> {
    pub id: Ocid,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub display_name: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub lifecycle_state: PartState,
    #[serde(default)]
    pub system_tags: DefinedTags,
    pub time_created: Time,
    pub vcn_id: Ocid,
    #[serde(flatten)]
    pub content: C,
}

/// What every body that creates a part says.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPart {
    pub compartment_id: Ocid,
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
    pub vcn_id: Ocid,
}

/// What every body that updates a part can say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PartChanges {
    pub defined_tags: Option<DefinedTags>,
    pub display_name: Option<DisplayName>,
    pub freeform_tags: Option<FreeformTags>,
}

/// A body that creates a part.
pub trait CreatePart {
    /// What the part consists of.
    type Content;

    /// The frame and what is in it.
    fn split(self) -> (NewPart, Self::Content);
}

/// A body that updates a part.
pub trait UpdatePart {
    /// What the part consists of.
    type Content;

    /// Changes the content; returns what is left to change.
    fn apply(self, content: &mut Self::Content) -> PartChanges;
}

/// Declares what a part consists of and the bodies that create and update it, which have the same fields beside the
/// frame's. Written out, because a flattened structure could not refuse unknown fields.
macro_rules! part {
    (
        $(#[$meta:meta])* $content:ident, $create:ident, $update:ident { $($field:ident: $type:ty,)* }
    ) => {
        part! { $(#[$meta])* $content, $create { $($field: $type,)* } }

        #[doc = concat!("Body that updates [`", stringify!($content), "`].")]
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $update {
            pub defined_tags: Option<DefinedTags>,
            pub display_name: Option<DisplayName>,
            pub freeform_tags: Option<FreeformTags>,
            $(pub $field: Option<$type>,)*
        }

        impl UpdatePart for $update {
            type Content = $content;

            fn apply(self, content: &mut $content) -> PartChanges {
                let Self { defined_tags, display_name, freeform_tags, $($field,)* } = self;
                $(if let Some(value) = $field { content.$field = value; })*
                PartChanges { defined_tags, display_name, freeform_tags }
            }
        }
    };
    ($(#[$meta:meta])* $content:ident, $create:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $content { $(pub $field: $type,)* }

        #[doc = concat!("Body that creates [`", stringify!($content), "`].")]
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $create {
            pub compartment_id: Ocid,
            pub defined_tags: Option<DefinedTags>,
            pub display_name: Option<DisplayName>,
            pub freeform_tags: Option<FreeformTags>,
            pub vcn_id: Ocid,
            $(pub $field: $type,)*
        }

        impl CreatePart for $create {
            type Content = $content;

            fn split(self) -> (NewPart, $content) {
                let Self { compartment_id, defined_tags, display_name, freeform_tags, vcn_id, $($field,)* } = self;
                let frame = NewPart { compartment_id, defined_tags, display_name, freeform_tags, vcn_id };
                (frame, $content { $($field,)* })
            }
        }
    };
}

part! {
    /// A gateway to what lies beyond the VCN.
    Gateway, CreateInternetGatewayDetails, UpdateInternetGatewayDetails {
        is_enabled: bool,
        route_table_id: Option<Ocid>,
    }
}

part! {
    /// Where packets that leave a subnet go.
    Routes, CreateRouteTableDetails, UpdateRouteTableDetails {
        route_rules: Vec<RouteRule>,
    }
}

part! {
    /// Which packets may enter and leave.
    SecurityRules, CreateSecurityListDetails, UpdateSecurityListDetails {
        egress_security_rules: Vec<EgressSecurityRule>,
        ingress_security_rules: Vec<IngressSecurityRule>,
    }
}

part! {
    /// What guests learn by DHCP.
    DhcpSettings, CreateDhcpDetails, UpdateDhcpDetails {
        domain_name_type: Option<DomainNameType>,
        options: Vec<DhcpOption>,
    }
}

part! {
    /// A group of network cards: nothing beside the frame.
    Group, CreateNetworkSecurityGroupDetails {}
}

pub type InternetGateway = Part<Gateway>;
pub type RouteTable = Part<Routes>;
pub type SecurityList = Part<SecurityRules>;
pub type DhcpOptions = Part<DhcpSettings>;
pub type NetworkSecurityGroup = Part<Group>;

/// Where packets to one destination go. `cidrBlock` is the older name of `destination`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteRule {
    pub cidr_block: Option<String>,
    pub description: Option<String>,
    pub destination: Option<String>,
    pub destination_type: Option<AddressType>,
    pub network_entity_id: Ocid,
    pub route_type: Option<RouteType>,
}

/// What a guest may send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressSecurityRule {
    pub description: Option<String>,
    pub destination: String,
    pub destination_type: Option<AddressType>,
    pub icmp_options: Option<IcmpOptions>,
    pub is_stateless: Option<bool>,
    pub protocol: String,
    pub tcp_options: Option<PortOptions>,
    pub udp_options: Option<PortOptions>,
}

/// What a guest may be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressSecurityRule {
    pub description: Option<String>,
    pub icmp_options: Option<IcmpOptions>,
    pub is_stateless: Option<bool>,
    pub protocol: String,
    pub source: String,
    pub source_type: Option<AddressType>,
    pub tcp_options: Option<PortOptions>,
    pub udp_options: Option<PortOptions>,
}

/// Which ICMP messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IcmpOptions {
    pub code: Option<u8>,
    pub r#type: u8,
}

/// Which ports of TCP or UDP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortOptions {
    pub destination_port_range: Option<PortRange>,
    pub source_port_range: Option<PortRange>,
}

pub type TcpOptions = PortOptions;
pub type UdpOptions = PortOptions;

/// Ports from `min` to `max`, both included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortRange {
    pub max: u16,
    pub min: u16,
}

/// Something that guests learn by DHCP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum DhcpOption {
    /// Who resolves names.
    DomainNameServer(DhcpDnsOption),
    /// What is appended to short names.
    SearchDomain(DhcpSearchDomainOption),
}

/// Who resolves names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DhcpDnsOption {
    pub custom_dns_servers: Option<Vec<String>>,
    pub server_type: DnsServerType,
}

/// What is appended to short names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DhcpSearchDomainOption {
    pub search_domain_names: Vec<String>,
}

/// A network card in a network security group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSecurityGroupVnic {
    pub resource_id: Option<Ocid>,
    pub time_associated: Option<Time>,
    pub vnic_id: Ocid,
}

wire_enum! {
    /// The states of a part of a VCN.
    PartState {
        Provisioning = "PROVISIONING",
        Available = "AVAILABLE",
        Terminating = "TERMINATING",
        Terminated = "TERMINATED",
    }
}

wire_enum! {
    /// How a rule names addresses.
    AddressType {
        CidrBlock = "CIDR_BLOCK",
        ServiceCidrBlock = "SERVICE_CIDR_BLOCK",
    }
}

wire_enum! {
    /// Where a route comes from.
    RouteType {
        Static = "STATIC",
        Local = "LOCAL",
    }
}

wire_enum! {
    /// Which domain guests are told.
    DomainNameType {
        SubnetDomain = "SUBNET_DOMAIN",
        VcnDomain = "VCN_DOMAIN",
        CustomDomain = "CUSTOM_DOMAIN",
    }
}

wire_enum! {
    /// Who resolves names.
    DnsServerType {
        VcnLocal = "VcnLocal",
        VcnLocalPlusInternet = "VcnLocalPlusInternet",
        CustomDnsServer = "CustomDnsServer",
    }
}
