//! The DHCP server of a port. It has one lease to give, the VNIC's own address.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{
    DHCP_CLIENT_PORT, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress,
};

use crate::config::VnicConfig;
use crate::policy::SERVICE_IP;

/// Clients ask again after half of it; the address never changes, so long is fine.
const LEASE_SECONDS: u32 = 24 * 60 * 60;
/// Old clients drop replies shorter than a BOOTP message (RFC 1542, section 2.1).
const REPLY_SIZE_MIN: usize = 300;
/// Longest option data, by its one-byte length.
const OPTION_SIZE_MAX: usize = 255;

mod option {
    pub(super) const HOST_NAME: u8 = 12;
    pub(super) const DOMAIN_NAME: u8 = 15;
    pub(super) const INTERFACE_MTU: u8 = 26;
    pub(super) const BROADCAST: u8 = 28;
    pub(super) const REQUESTED_IP: u8 = 50;
    pub(super) const MESSAGE_TYPE: u8 = 53;
    pub(super) const SERVER_IDENTIFIER: u8 = 54;
    pub(super) const CLIENT_IDENTIFIER: u8 = 61;
    pub(super) const CLASSLESS_ROUTES: u8 = 121;
}

/// What a client asks. Read option by option, because one odd option must not lose the rest.
#[derive(Default)]
struct Question<'a> {
    kind: Option<DhcpMessageType>,
    requested_ip: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    client_identifier: Option<&'a [u8]>,
}

/// Answers a DHCP message of the guest: where to send the reply, and the reply. `None` when the
/// message is malformed, for another server, or wants no answer.
pub(crate) fn answer(vnic: &VnicConfig, data: &[u8]) -> Option<(SocketAddrV4, Vec<u8>)> {
    let packet = DhcpPacket::new_checked(data).ok()?;
    let question = read(&packet);
    if packet.client_hardware_address() != EthernetAddress(vnic.mac) {
        return None;
    }
    let router = vnic.subnet.virtual_router_ip;
    let is_for_us = question.server.is_none_or(|server| server == router);
    let client_ip = packet.client_ip();
    let asked = question.requested_ip.unwrap_or(client_ip);
    let kind = match question.kind? {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if !is_for_us => return None,
        DhcpMessageType::Request if asked == vnic.private_ip => DhcpMessageType::Ack,
        DhcpMessageType::Request => DhcpMessageType::Nak,
        DhcpMessageType::Inform => DhcpMessageType::Ack,
        _ => return None,
    };
    let informed = question.kind == Some(DhcpMessageType::Inform);
    let reply = write(vnic, &packet, &question, kind, !informed)?;
    // RFC 2131, section 4.1: refusals and clients that ask for it are answered by broadcast.
    let broadcast = packet.flags().bits() & 0x8000 != 0;
    let to = if kind == DhcpMessageType::Nak || (broadcast && client_ip.is_unspecified()) {
        Ipv4Addr::BROADCAST
    } else {
        vnic.private_ip
    };
    Some((SocketAddrV4::new(to, DHCP_CLIENT_PORT), reply))
}

fn read<'a>(packet: &'a DhcpPacket<&'a [u8]>) -> Question<'a> {
    let address = |data: &[u8]| <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from);
    let mut question = Question::default();
    for option in packet.options() {
        match option.kind {
            option::MESSAGE_TYPE if option.data.len() == 1 => {
                question.kind = Some(DhcpMessageType::from(option.data[0]));
            }
            option::REQUESTED_IP => question.requested_ip = address(option.data),
            option::SERVER_IDENTIFIER => question.server = address(option.data),
            option::CLIENT_IDENTIFIER => question.client_identifier = Some(option.data),
            _ => {}
        }
    }
    question
}

fn write(
    vnic: &VnicConfig,
    packet: &DhcpPacket<&[u8]>,
    question: &Question<'_>,
    message_type: DhcpMessageType,
    leases: bool,
) -> Option<Vec<u8>> {
    let subnet = &vnic.subnet;
    let refused = message_type == DhcpMessageType::Nak;
    let routes = classless_routes(subnet.virtual_router_ip);
    let mtu = subnet.mtu.to_be_bytes();
    let broadcast = subnet.broadcast().octets();
    let mut options = Vec::new();
    if let Some(data) = question.client_identifier {
        options.push(DhcpOption { kind: option::CLIENT_IDENTIFIER, data });
    }
    if !refused {
        options.push(DhcpOption { kind: option::INTERFACE_MTU, data: &mtu });
        options.push(DhcpOption { kind: option::BROADCAST, data: &broadcast });
        options.push(DhcpOption { kind: option::CLASSLESS_ROUTES, data: &routes });
        for (kind, name) in
            [(option::HOST_NAME, &vnic.hostname), (option::DOMAIN_NAME, &subnet.domain_name)]
        {
            let name = name.as_deref().map(str::as_bytes).unwrap_or_default();
            if (1..=OPTION_SIZE_MAX).contains(&name.len()) {
                options.push(DhcpOption { kind, data: name });
            }
        }
    }
    let given = !refused && leases;
    let repr = DhcpRepr {
        message_type,
        transaction_id: packet.transaction_id(),
        secs: 0,
        client_hardware_address: packet.client_hardware_address(),
        client_ip: if refused { Ipv4Addr::UNSPECIFIED } else { packet.client_ip() },
        your_ip: if given { vnic.private_ip } else { Ipv4Addr::UNSPECIFIED },
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: (!refused).then_some(subnet.virtual_router_ip),
        subnet_mask: (!refused).then(|| subnet.netmask()),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: packet.flags().bits() & 0x8000 != 0,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(subnet.virtual_router_ip),
        parameter_request_list: None,
        dns_servers: (!refused).then(|| std::iter::once(SERVICE_IP).collect()),
        max_size: None,
        lease_duration: given.then_some(LEASE_SECONDS),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &options,
    };
    let mut reply = vec![0; repr.buffer_len().max(REPLY_SIZE_MIN)];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut reply[..])).ok()?;
    Some(reply)
}

/// Option 121 (RFC 3442): link-local services and everything else through the router. A client
/// that understands it ignores the plain router option, so the default route stands here too.
fn classless_routes(router: Ipv4Addr) -> Vec<u8> {
    let gateway = router.octets();
    [&[16, 169, 254][..], &gateway, &[0], &gateway].concat()
}
