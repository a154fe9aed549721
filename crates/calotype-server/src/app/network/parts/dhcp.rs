//! DHCP options: stored and answered. Guests are told the region's own resolver and their subnet's domain whatever
//! stands here: see `docs/networks.md`.

use std::net::IpAddr;

use calotype_api::error::ApiError;
use calotype_api::vcn_parts::{
    CreateDhcpDetails, DhcpDnsOption, DhcpOption, DhcpSettings, DnsServerType, UpdateDhcpDetails,
};

use super::{Changeable, Content};

/// Resolvers that can be named.
const SERVERS_MAX: usize = 3;
/// Characters of a search domain.
const DOMAIN_LENGTH_MAX: usize = 254;

impl Content for DhcpSettings {
    const KIND: &'static str = "dhcpoptions";
    const NAME: &'static str = "DHCP Options";
    const PARAMETER: &'static str = "dhcpId";
    type Create = CreateDhcpDetails;

    fn complete(&mut self) -> Result<(), ApiError> {
        let (mut resolvers, mut domains) = (0, 0);
        for option in &self.options {
            match option {
                DhcpOption::DomainNameServer(option) => {
                    resolvers += 1;
                    check_resolver(option)?;
                }
                DhcpOption::SearchDomain(option) => {
                    domains += 1;
                    check_domains(&option.search_domain_names)?;
                }
            }
        }
        if resolvers != 1 || domains > 1 {
            let what = "must have one DomainNameServer and at most one SearchDomain";
            return Err(ApiError::invalid_parameter("options", what));
        }
        Ok(())
    }
}

impl Changeable for DhcpSettings {
    type Update = UpdateDhcpDetails;
}

fn check_resolver(option: &DhcpDnsOption) -> Result<(), ApiError> {
    let field = "options.customDnsServers";
    let servers = option.custom_dns_servers.as_deref().unwrap_or_default();
    let custom = option.server_type == DnsServerType::CustomDnsServer;
    if custom == servers.is_empty() || servers.len() > SERVERS_MAX {
        let what = format!(
            "must be 1 to {SERVERS_MAX} addresses with serverType CustomDnsServer, and none without"
        );
        return Err(ApiError::invalid_parameter(field, what));
    }
    match servers.iter().find(|text| text.parse::<IpAddr>().is_err()) {
        Some(text) => Err(ApiError::invalid_parameter(field, format!("{text:.60} is no address"))),
        None => Ok(()),
    }
}

fn check_domains(names: &[String]) -> Result<(), ApiError> {
    let field = "options.searchDomainNames";
    let [name] = names else {
        return Err(ApiError::invalid_parameter(field, "must be one domain"));
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if (1..=DOMAIN_LENGTH_MAX).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    let what = format!(
        "must be a domain of at most {DOMAIN_LENGTH_MAX} letters, digits, '.', '-' and '_'"
    );
    Err(ApiError::invalid_parameter(field, what))
}
