//! IPv4 blocks as networks and subnets may have them: strictly written, of a size and place allowed.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Fewest and most bits of a block's prefix.
const PREFIX_BITS: std::ops::RangeInclusive<u8> = 16..=30;

/// Blocks that no network may touch: this host, loopback, link-local (the metadata service),
/// multicast, reserved.
const FORBIDDEN: [Cidr; 5] = [
    Cidr { network: 0, prefix: 8 },
    Cidr { network: 0x7f00_0000, prefix: 8 },
    Cidr { network: 0xa9fe_0000, prefix: 16 },
    Cidr { network: 0xe000_0000, prefix: 4 },
    Cidr { network: 0xf000_0000, prefix: 4 },
];

/// A block of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    network: u32,
    prefix: u8,
}

/// A text that is no block allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotACidr {
    #[error("must be an IPv4 block such as 10.0.0.0/24, without bits set behind the prefix")]
    Malformed,
    #[error("must have a prefix of {} to {} bits", PREFIX_BITS.start(), PREFIX_BITS.end())]
    Size,
    #[error("must not touch {0}")]
    Forbidden(Cidr),
}

impl Cidr {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Bits of the prefix.
    pub(super) const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The network's own address.
    pub(super) const fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network)
    }

    /// The first host address: the virtual router's.
    pub(super) const fn router(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network + 1)
    }

    fn last(self) -> u32 {
        self.network | !self.mask()
    }

    /// Whether the address lies in the block.
    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.network
    }

    /// Whether all of `other` lies in the block.
    pub(super) fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.network())
    }

    /// Whether the two have an address in common.
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many addresses instances can have: all but the network's, the router's and the broadcast.
    pub(super) fn usable(self) -> u32 {
        self.last() - self.network - 2
    }

    /// The usable address of that number, from 0.
    pub(super) fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network + 2 + number.min(self.usable().saturating_sub(1)))
    }

    /// Whether an instance can have the address.
    pub(super) fn is_usable(self, address: Ipv4Addr) -> bool {
        self.contains(address)
            && address > self.router()
            && address < Ipv4Addr::from_bits(self.last())
    }
}

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let (address, prefix) = text.split_once('/').ok_or(NotACidr::Malformed)?;
        let address: Ipv4Addr = address.parse().map_err(|_| NotACidr::Malformed)?;
        // `parse` would take "+24" and "024".
        let written = !prefix.is_empty() && prefix.len() <= 2 && !prefix.starts_with(['0', '+']);
        let prefix = prefix.parse().ok().filter(|bits| written && *bits <= 32);
        let prefix: u8 = prefix.ok_or(NotACidr::Malformed)?;
        let cidr = Self { network: address.to_bits(), prefix };
        if cidr.network & !cidr.mask() != 0 {
            return Err(NotACidr::Malformed);
        }
        if !PREFIX_BITS.contains(&prefix) {
            return Err(NotACidr::Size);
        }
        match FORBIDDEN.into_iter().find(|forbidden| forbidden.overlaps(cidr)) {
            Some(forbidden) => Err(NotACidr::Forbidden(forbidden)),
            None => Ok(cidr),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn refuses_what_is_no_block_or_not_allowed() {
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0/24",
            "10.0.0.0/024",
            "10.0.0.0/+24",
            "10.0.0.0/33",
            "10.0.0.1/24",
            "010.0.0.0/24",
            " 10.0.0.0/24",
            "10.0.0.0/24 ",
            "::/64",
            "10.0.0.0/24/24",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(NotACidr::Malformed), "{text}");
        }
        for text in ["10.0.0.0/8", "10.0.0.0/15", "10.0.0.0/31", "10.0.0.1/32"] {
            assert!(matches!(text.parse::<Cidr>(), Err(NotACidr::Size)), "{text}");
        }
        for text in [
            "169.254.0.0/16",
            "169.254.169.0/24",
            "224.0.0.0/24",
            "240.0.0.0/16",
            "255.255.255.0/24",
            "127.0.0.0/24",
            "0.0.0.0/16",
        ] {
            assert!(matches!(text.parse::<Cidr>(), Err(NotACidr::Forbidden(_))), "{text}");
        }
    }

    #[test]
    fn keeps_the_first_two_and_the_last_address() {
        let block = cidr("10.0.0.0/30");
        assert_eq!(block.router(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(block.usable(), 1);
        assert_eq!(block.address(0), Ipv4Addr::new(10, 0, 0, 2));
        for last in [0, 1, 3, 4] {
            assert!(!block.is_usable(Ipv4Addr::new(10, 0, 0, last)));
        }
        assert_eq!(cidr("10.0.0.0/24").usable(), 253);
    }

    #[test]
    fn knows_inside_from_overlap() {
        let outer = cidr("10.0.0.0/16");
        assert!(outer.covers(cidr("10.0.255.0/24")) && outer.covers(outer));
        assert!(!outer.covers(cidr("10.1.0.0/24")) && !cidr("10.0.0.0/24").covers(outer));
        assert!(cidr("10.0.0.0/24").overlaps(outer) && outer.overlaps(cidr("10.0.0.0/24")));
        assert!(!cidr("10.0.0.0/24").overlaps(cidr("10.0.1.0/24")));
    }

    proptest! {
        #[test]
        fn every_usable_address_is_inside_and_usable(
            address in any::<u32>(), prefix in 16_u8..=30, number in any::<u32>()
        ) {
            let mask = u32::MAX << (32 - u32::from(prefix));
            let text = format!("{}/{prefix}", Ipv4Addr::from_bits(address & mask));
            if let Ok(block) = text.parse::<Cidr>() {
                prop_assert_eq!(block.to_string(), text);
                let address = block.address(number % block.usable());
                prop_assert!(block.is_usable(address) && block.contains(address));
            }
        }
    }
}
