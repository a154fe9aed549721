//! Security lists: stored and answered as they were sent, once they make sense. They filter no packet here: see
//! `docs/networks.md`.

use std::net::{Ipv4Addr, Ipv6Addr};

use calotype_api::error::ApiError;
use calotype_api::vcn_parts::{
    AddressType, CreateSecurityListDetails, IcmpOptions, PortOptions, SecurityRules,
    UpdateSecurityListDetails,
};

use super::{Changeable, Content};

/// Rules of one direction in a list.
const RULES_MAX: usize = 200;
/// Characters of a rule's description.
const DESCRIPTION_LENGTH_MAX: usize = 255;
/// Characters of the name of a service's addresses.
const SERVICE_LENGTH_MAX: usize = 255;
/// Every protocol.
pub(super) const ANY_PROTOCOL: &str = "all";
pub(super) const ICMP: &str = "1";
pub(super) const TCP: &str = "6";
const UDP: &str = "17";
const ICMPV6: &str = "58";

impl Content for SecurityRules {
    const KIND: &'static str = "securitylist";
    const NAME: &'static str = "Security List";
    const PARAMETER: &'static str = "securityListId";
    type Create = CreateSecurityListDetails;

    fn complete(&mut self) -> Result<(), ApiError> {
        check_count("egressSecurityRules", self.egress_security_rules.len())?;
        check_count("ingressSecurityRules", self.ingress_security_rules.len())?;
        for (number, rule) in self.egress_security_rules.iter_mut().enumerate() {
            let field = format!("egressSecurityRules[{number}]");
            let kind = *rule.destination_type.get_or_insert(AddressType::CidrBlock);
            rule.is_stateless.get_or_insert(false);
            check_destination(&format!("{field}.destination"), kind, &rule.destination)?;
            check_description(&field, rule.description.as_deref())?;
            let options = (&rule.tcp_options, &rule.udp_options, &rule.icmp_options);
            check_protocol(&field, &rule.protocol, options)?;
        }
        for (number, rule) in self.ingress_security_rules.iter_mut().enumerate() {
            let field = format!("ingressSecurityRules[{number}]");
            let kind = *rule.source_type.get_or_insert(AddressType::CidrBlock);
            rule.is_stateless.get_or_insert(false);
            check_destination(&format!("{field}.source"), kind, &rule.source)?;
            check_description(&field, rule.description.as_deref())?;
            let options = (&rule.tcp_options, &rule.udp_options, &rule.icmp_options);
            check_protocol(&field, &rule.protocol, options)?;
        }
        Ok(())
    }
}

impl Changeable for SecurityRules {
    type Update = UpdateSecurityListDetails;
}

fn check_count(field: &str, count: usize) -> Result<(), ApiError> {
    if count <= RULES_MAX {
        return Ok(());
    }
    Err(ApiError::invalid_parameter(field, format!("can be at most {RULES_MAX}")))
}

pub(super) fn check_description(field: &str, text: Option<&str>) -> Result<(), ApiError> {
    let range = 1..=DESCRIPTION_LENGTH_MAX;
    match text {
        Some(text) if !range.contains(&text.chars().count()) => Err(ApiError::invalid_parameter(
            &format!("{field}.description"),
            format!("size must be between 1 and {DESCRIPTION_LENGTH_MAX}"),
        )),
        _ => Ok(()),
    }
}

/// A block of addresses of any size, or the name of a service's.
pub(super) fn check_destination(
    field: &str,
    kind: AddressType,
    text: &str,
) -> Result<(), ApiError> {
    let right = match kind {
        AddressType::CidrBlock => is_block(text),
        AddressType::ServiceCidrBlock => (1..=SERVICE_LENGTH_MAX).contains(&text.chars().count()),
    };
    if right {
        return Ok(());
    }
    let what = format!(
        "must be a block such as 10.0.0.0/24, without bits set behind the prefix, not {text:.60}"
    );
    Err(ApiError::invalid_parameter(field, what))
}

fn is_block(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let written = !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit());
    let Some(bits) = bits.parse::<u32>().ok().filter(|_| written) else { return false };
    if let Ok(address) = address.parse::<Ipv4Addr>() {
        let host = u32::MAX.checked_shr(bits).unwrap_or(0);
        return bits <= Ipv4Addr::BITS && address.to_bits() & host == 0;
    }
    let Ok(address) = address.parse::<Ipv6Addr>() else { return false };
    let host = u128::MAX.checked_shr(bits).unwrap_or(0);
    bits <= Ipv6Addr::BITS && address.to_bits() & host == 0
}

type Options<'a> = (&'a Option<PortOptions>, &'a Option<PortOptions>, &'a Option<IcmpOptions>);

/// The protocol is `all` or a number, and only its own options are given.
fn check_protocol(field: &str, protocol: &str, options: Options<'_>) -> Result<(), ApiError> {
    let is_number = protocol.parse::<u8>().is_ok_and(|number| number.to_string() == protocol);
    if protocol != ANY_PROTOCOL && !is_number {
        let what = format!("must be all or a number from 0 to 255, not {protocol:.20}");
        return Err(ApiError::invalid_parameter(&format!("{field}.protocol"), what));
    }
    let (tcp, udp, icmp) = options;
    for (name, given, of) in [
        ("tcpOptions", tcp.is_some(), [TCP, TCP]),
        ("udpOptions", udp.is_some(), [UDP, UDP]),
        ("icmpOptions", icmp.is_some(), [ICMP, ICMPV6]),
    ] {
        if given && !of.contains(&protocol) {
            let what = format!("cannot be given with protocol {protocol}");
            return Err(ApiError::invalid_parameter(&format!("{field}.{name}"), what));
        }
    }
    for ports in [tcp, udp].into_iter().flatten() {
        check_ports(field, ports)?;
    }
    Ok(())
}

fn check_ports(field: &str, ports: &PortOptions) -> Result<(), ApiError> {
    for range in [&ports.source_port_range, &ports.destination_port_range].into_iter().flatten() {
        if range.min == 0 || range.max < range.min {
            let what = format!(
                "{} to {} is no range of ports: min is at least 1 and at most max",
                range.min, range.max
            );
            return Err(ApiError::invalid_parameter(&format!("{field}.portRange"), what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn completed(ingress: &Value) -> Result<SecurityRules, ApiError> {
        let rules = json!({"egressSecurityRules": [], "ingressSecurityRules": [ingress]});
        let mut rules: SecurityRules = serde_json::from_value(rules).unwrap();
        rules.complete().map(|()| rules)
    }

    #[test]
    fn blocks_are_of_either_family_and_any_size() {
        for block in ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/8", "::1/128"] {
            assert!(is_block(block), "{block}");
        }
        for text in ["10.0.0.1/8", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "::1/0", "all/0", "/"]
        {
            assert!(!is_block(text), "{text}");
        }
    }

    #[test]
    fn a_rule_is_answered_with_what_it_left_out() {
        let rules = completed(&json!({"protocol": "6", "source": "0.0.0.0/0"})).unwrap();
        let rule = &rules.ingress_security_rules[0];
        assert_eq!(rule.source_type, Some(AddressType::CidrBlock));
        assert_eq!(rule.is_stateless, Some(false));
    }

    #[test]
    fn a_rule_is_refused_by_the_field_that_is_wrong() {
        let ports = |min: u16, max: u16| json!({"destinationPortRange": {"min": min, "max": max}});
        let rule = |protocol: &str| json!({"protocol": protocol, "source": "0.0.0.0/0"});
        let with = |protocol: &str, name: &str, options: Value| {
            let mut rule = rule(protocol);
            rule[name] = options;
            rule
        };
        for (rule, field) in [
            (rule("tcp"), "protocol"),
            (rule("256"), "protocol"),
            (rule("06"), "protocol"),
            (with("17", "tcpOptions", ports(22, 22)), "tcpOptions"),
            (with("all", "icmpOptions", json!({"type": 3})), "icmpOptions"),
            (with("6", "tcpOptions", ports(23, 22)), "portRange"),
            (with("17", "udpOptions", ports(0, 22)), "portRange"),
            (with("6", "source", json!("10.0.0.1/24")), "source"),
            (with("6", "description", json!("")), "description"),
        ] {
            let error = completed(&rule).unwrap_err();
            let place = format!("ingressSecurityRules[0].{field} ");
            assert!(error.message.starts_with(&place), "{rule}: {error}");
        }
        completed(&with("6", "tcpOptions", ports(22, 23))).unwrap();
    }
}
