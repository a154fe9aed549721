//! What a caller says about a subnet and a VNIC, checked once before anything is plugged in.

use std::net::Ipv4Addr;

use crate::error::{Error, Result};
use crate::limits::{MTU_MAX, MTU_MIN};

/// A subnet: one switch, one virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetConfig {
    /// OCID of the subnet; VNICs with the same id share a switch.
    pub id: String,
    /// Network address and prefix length, for example `(10.0.0.0, 24)`.
    pub cidr: (Ipv4Addr, u8),
    /// The router's address, the first host address of the subnet.
    pub virtual_router_ip: Ipv4Addr,
    /// The router's MAC address, unicast.
    pub virtual_router_mac: [u8; 6],
    /// Whether guests reach anything beyond their subnet, the metadata service and DHCP, when the first of
    /// them comes.
    pub outbound: bool,
    /// DHCP option 15, and the suffix that guests search.
    pub domain_name: Option<String>,
    /// IP MTU of the subnet in bytes, 576 to 9,216. OCI's is 9,000.
    pub mtu: u16,
}

/// One virtual network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VnicConfig {
    /// OCID of the VNIC; the metadata source is asked by it.
    pub id: String,
    /// Where it is plugged in.
    pub subnet: SubnetConfig,
    /// Its MAC address, unicast and unique in the subnet.
    pub mac: [u8; 6],
    /// Its address by DHCP, inside `subnet.cidr` and unique in the subnet.
    pub private_ip: Ipv4Addr,
    /// DHCP option 12.
    pub hostname: Option<String>,
    /// Where the host reaches it, if anywhere.
    pub public: Option<PublicAddress>,
}

/// The address under which the host publishes TCP ports of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAddress {
    /// An address of the host, normally of 127.0.0.0/8.
    pub ip: Ipv4Addr,
    /// Guest ports to publish. 22 is published always, whether listed or not.
    pub tcp_ports: Vec<u16>,
}

impl SubnetConfig {
    /// The netmask that belongs to the prefix length.
    pub(crate) fn netmask(&self) -> Ipv4Addr {
        let bits = u32::from(self.cidr.1).min(32);
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - bits).unwrap_or(0))
    }

    /// Whether `ip` belongs to the subnet.
    pub(crate) fn contains(&self, ip: Ipv4Addr) -> bool {
        ip & self.netmask() == self.cidr.0 & self.netmask()
    }

    /// The subnet's directed broadcast address.
    pub(crate) fn broadcast(&self) -> Ipv4Addr {
        self.cidr.0 | !self.netmask()
    }
}

impl VnicConfig {
    /// Refuses what could not work or would endanger a neighbour.
    pub(crate) fn check(&self) -> Result<()> {
        let subnet = &self.subnet;
        if subnet.cidr.1 > 30 {
            return Err(Error::invalid("subnet.cidr", "a prefix of at most 30 bits"));
        }
        if !(MTU_MIN..=MTU_MAX).contains(&subnet.mtu) {
            return Err(Error::invalid("subnet.mtu", "an MTU of 576 to 9,216 bytes"));
        }
        if !is_unicast(subnet.virtual_router_mac) {
            return Err(Error::invalid("subnet.virtual_router_mac", "a unicast MAC address"));
        }
        if !is_unicast(self.mac) || self.mac == subnet.virtual_router_mac {
            return Err(Error::invalid("mac", "a unicast MAC address other than the router's"));
        }
        if !is_host(subnet, subnet.virtual_router_ip) {
            return Err(Error::invalid("subnet.virtual_router_ip", "a host address of the subnet"));
        }
        if !is_host(subnet, self.private_ip) || self.private_ip == subnet.virtual_router_ip {
            return Err(Error::invalid("private_ip", "a free host address of the subnet"));
        }
        Ok(())
    }
}

fn is_unicast(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

fn is_host(subnet: &SubnetConfig, ip: Ipv4Addr) -> bool {
    subnet.contains(ip) && ip != subnet.cidr.0 && ip != subnet.broadcast()
}
