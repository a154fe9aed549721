//! Which destinations a guest may reach beyond its subnet. Pure but for one question to the host.

use std::net::Ipv4Addr;

use crate::config::SubnetConfig;
use crate::host::Host;

/// The address of the metadata service and of the DNS forwarder.
pub(crate) const SERVICE_IP: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Networks that no guest reaches through us, whatever the host could route.
const FORBIDDEN: [(Ipv4Addr, u8); 9] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local: among others the metadata service of a cloud that the host itself runs in.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Such services elsewhere: Oracle's older cloud, Alibaba, Azure.
    (Ipv4Addr::new(192, 0, 0, 192), 32),
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Multicast, reserved and broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];

/// Whether a guest of `subnet` may open flows to `ip` while outbound traffic is on.
///
/// Private networks of others are allowed, for that is where package mirrors live. The guest's own
/// subnet is not: it is reached through the switch, and what is not there must not be looked for
/// in a network of the host that happens to use the same numbers.
pub(crate) fn may_reach(subnet: &SubnetConfig, host: &dyn Host, ip: Ipv4Addr) -> bool {
    !FORBIDDEN.iter().any(|&network| contains(network, ip))
        && !subnet.contains(ip)
        && !host.owns(ip)
}

fn contains((network, bits): (Ipv4Addr, u8), ip: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    ip.to_bits() & mask == network.to_bits()
}

/// Whether `ip` lies in a local prefix of `table`, the text of `/proc/net/fib_trie`.
///
/// There a leaf `|-- 10.0.0.5` is followed by lines such as `/32 host LOCAL` for its prefixes.
pub(crate) fn is_local_in(table: &str, ip: Ipv4Addr) -> bool {
    let mut leaf: Option<Ipv4Addr> = None;
    for line in table.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if let (Some(network), Some(prefix)) = (leaf, local_prefix(line))
            && contains((network, prefix), ip)
        {
            return true;
        }
    }
    false
}

fn local_prefix(line: &str) -> Option<u8> {
    let mut words = line.strip_prefix('/')?.split_whitespace();
    let bits = words.next()?.parse().ok().filter(|&bits| bits <= 32)?;
    words.any(|word| word == "LOCAL").then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ThisHost;

    fn subnet() -> SubnetConfig {
        crate::testing::subnet("policy")
    }

    #[test]
    fn refuses_loopback_link_local_multicast_reserved_and_own_addresses() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.8.7",
            "169.254.0.1",
            "169.254.1.1",
            "169.254.169.254",
            "192.0.0.192",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.251",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "10.0.0.77",
        ] {
            let ip = ip.parse().unwrap();
            assert!(!may_reach(&subnet(), &ThisHost, ip), "{ip}");
        }
    }

    #[test]
    fn allows_public_and_foreign_private_addresses() {
        for ip in ["198.51.100.7", "8.8.8.8", "10.99.0.1", "172.31.250.250", "100.64.77.1"] {
            let ip = ip.parse().unwrap();
            assert!(may_reach(&subnet(), &ThisHost, ip), "{ip}");
        }
    }

    #[test]
    fn knows_every_address_that_the_host_lists_as_its_own() {
        let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
        let mut leaf = None;
        for line in table.lines().map(str::trim) {
            if let Some(address) = line.strip_prefix("|-- ") {
                leaf = address.parse::<Ipv4Addr>().ok();
            } else if local_prefix(line).is_some() {
                let ip = leaf.expect("a prefix follows a leaf");
                assert!(ThisHost.owns(ip), "{ip}");
                assert!(is_local_in(&table, ip), "{ip}");
            }
        }
        assert!(!ThisHost.owns(Ipv4Addr::new(198, 51, 100, 7)));
    }

    #[test]
    fn reads_local_prefixes_from_a_routing_table() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n\
                     Local:\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 10.0.0.5\n\
                     \x20       /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        for (ip, local) in
            [("10.0.0.5", true), ("127.3.4.5", true), ("10.0.0.6", false), ("10.0.0.255", false)]
        {
            assert_eq!(is_local_in(table, ip.parse().unwrap()), local, "{ip}");
        }
        assert!(!is_local_in("|-- x\n/99 host LOCAL\n/ LOCAL", Ipv4Addr::LOCALHOST));
    }
}
