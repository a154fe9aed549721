//! The route table, the security list and the DHCP options that come with a VCN.

use calotype_api::error::ApiError;
use calotype_api::networks::Vcn;
use calotype_api::ocid::Ocid;
use calotype_api::vcn_parts::{
    AddressType, DhcpDnsOption, DhcpOption, DhcpSearchDomainOption, DhcpSettings, DnsServerType,
    DomainNameType, EgressSecurityRule, Gateway, IcmpOptions, IngressSecurityRule, NewPart,
    PortOptions, PortRange, RouteRule, Routes, SecurityRules,
};
use jiff::Timestamp;

use super::security::{ANY_PROTOCOL, ICMP, TCP};
use super::{Content, PartRecord, new};
use crate::app::network::outbound::ANYWHERE;
use crate::app::network::{VcnRecord, uses};
use crate::db::{Batch, Db, Error, Versioned};

const SSH_PORT: u16 = 22;
/// ICMP: the destination is unreachable; it would have to be sent in pieces.
const UNREACHABLE: u8 = 3;
const TOO_BIG: u8 = 4;

/// What a new VCN comes with.
#[derive(Debug)]
pub(in crate::app::network) struct Defaults {
    routes: Option<PartRecord<Routes>>,
    security: Option<PartRecord<SecurityRules>>,
    dhcp: Option<PartRecord<DhcpSettings>>,
}

/// What the new VCN comes with.
pub(in crate::app::network) fn defaults(vcn: &Vcn, now: Timestamp) -> Defaults {
    Defaults {
        routes: part(
            vcn,
            vcn.default_route_table_id.as_ref(),
            Routes { route_rules: Vec::new() },
            now,
        ),
        security: part(vcn, vcn.default_security_list_id.as_ref(), security(vcn), now),
        dhcp: part(vcn, vcn.default_dhcp_options_id.as_ref(), dhcp(vcn), now),
    }
}

/// Inserts what a new VCN comes with, and a gateway that all goes to which has no other place to go to.
pub(in crate::app::network) fn with_way_out(
    batch: Batch,
    vcn: &VcnRecord,
    gateway: &Ocid,
    now: Timestamp,
) -> Result<Batch, ApiError> {
    let mut defaults = defaults(&vcn.resource, now);
    let content = Gateway { is_enabled: true, route_table_id: None };
    let mut part = new(gateway.clone(), frame(&vcn.resource), content, now);
    part.resource.display_name.clone_from(&vcn.resource.display_name);
    let mut batch = batch.insert(&part);
    if let Some(table) = &mut defaults.routes {
        table.resource.content.route_rules = vec![RouteRule {
            cidr_block: None,
            description: None,
            destination: Some(ANYWHERE.to_owned()),
            destination_type: None,
            network_entity_id: gateway.clone(),
            route_type: None,
        }];
        table.resource.content.complete()?;
        batch = batch.insert(&uses::claim(gateway, &table.resource.id, now));
    }
    Ok(defaults.insert(batch))
}

impl Defaults {
    pub(in crate::app::network) fn insert(&self, mut batch: Batch) -> Batch {
        if let Some(part) = &self.routes {
            batch = batch.insert(part);
        }
        if let Some(part) = &self.security {
            batch = batch.insert(part);
        }
        if let Some(part) = &self.dhcp {
            batch = batch.insert(part);
        }
        batch
    }
}

fn part<C: Content>(
    vcn: &Vcn,
    id: Option<&Ocid>,
    content: C,
    now: Timestamp,
) -> Option<PartRecord<C>> {
    let mut part = new(id?.clone(), frame(vcn), content, now);
    part.resource.display_name = format!("Default {} for {}", C::NAME, vcn.display_name);
    part.is_default = true;
    Some(part)
}

fn frame(vcn: &Vcn) -> NewPart {
    NewPart {
        compartment_id: vcn.compartment_id.clone(),
        defined_tags: None,
        display_name: None,
        freeform_tags: None,
        vcn_id: vcn.id.clone(),
    }
}

/// All may go out. SSH may come in, and what tells of packets that did not arrive.
fn security(vcn: &Vcn) -> SecurityRules {
    let from = |source: &str, protocol: &str| IngressSecurityRule {
        description: None,
        icmp_options: None,
        is_stateless: Some(false),
        protocol: protocol.to_owned(),
        source: source.to_owned(),
        source_type: Some(AddressType::CidrBlock),
        tcp_options: None,
        udp_options: None,
    };
    let ssh = PortOptions {
        destination_port_range: Some(PortRange { max: SSH_PORT, min: SSH_PORT }),
        source_port_range: None,
    };
    let icmp = |code| Some(IcmpOptions { code, r#type: UNREACHABLE });
    let mut ingress = vec![
        IngressSecurityRule { tcp_options: Some(ssh), ..from(ANYWHERE, TCP) },
        IngressSecurityRule { icmp_options: icmp(Some(TOO_BIG)), ..from(ANYWHERE, ICMP) },
    ];
    for block in &vcn.cidr_blocks {
        ingress.push(IngressSecurityRule { icmp_options: icmp(None), ..from(block, ICMP) });
    }
    SecurityRules {
        egress_security_rules: vec![EgressSecurityRule {
            description: None,
            destination: ANYWHERE.to_owned(),
            destination_type: Some(AddressType::CidrBlock),
            icmp_options: None,
            is_stateless: Some(false),
            protocol: ANY_PROTOCOL.to_owned(),
            tcp_options: None,
            udp_options: None,
        }],
        ingress_security_rules: ingress,
    }
}

fn dhcp(vcn: &Vcn) -> DhcpSettings {
    let resolver = DhcpOption::DomainNameServer(DhcpDnsOption {
        custom_dns_servers: Some(Vec::new()),
        server_type: DnsServerType::VcnLocalPlusInternet,
    });
    let domain = vcn.vcn_domain_name.clone().map(|domain| {
        DhcpOption::SearchDomain(DhcpSearchDomainOption { search_domain_names: vec![domain] })
    });
    DhcpSettings {
        domain_name_type: Some(DomainNameType::CustomDomain),
        options: std::iter::once(resolver).chain(domain).collect(),
    }
}

/// Deletes, with the VCN, what came with it. A gateway that its route table still names was refused before.
pub(in crate::app::network) async fn without_defaults(
    db: &Db,
    vcn: &Versioned<VcnRecord>,
    batch: Batch,
) -> Result<Batch, Error> {
    let resource = &vcn.resource;
    let batch = without::<Routes>(db, resource.default_route_table_id.as_ref(), batch).await?;
    let batch =
        without::<SecurityRules>(db, resource.default_security_list_id.as_ref(), batch).await?;
    without::<DhcpSettings>(db, resource.default_dhcp_options_id.as_ref(), batch).await
}

async fn without<C: Content>(db: &Db, id: Option<&Ocid>, batch: Batch) -> Result<Batch, Error> {
    let Some(id) = id else { return Ok(batch) };
    let part = db.get::<PartRecord<C>>(id.as_str()).await?;
    Ok(part.map_or(Batch::new(), |part| Batch::new().delete(&part)).and(batch))
}
