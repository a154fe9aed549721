//! The virtual router of a port: what happens to each frame that its guest sends.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    TcpControl, TcpPacket, TcpRepr, UdpPacket, UdpRepr,
};

use crate::nat;
use crate::packet;
use crate::policy::{self, SERVICE_IP};
use crate::port::Port;
use crate::stack::{FlowKey, Stack};
use crate::switch::{self, Route};
use crate::{dhcp, dns};

const ETHERNET_HEADER_SIZE: usize = 14;
const DHCP_SERVER_PORT: u16 = 67;
const DNS_PORT: u16 = 53;

/// Takes one frame of the guest, whatever it holds.
pub(crate) fn receive(port: &Arc<Port>, stack: &mut Stack, frame: &[u8]) {
    match switch::route(&port.vnic, frame) {
        Route::Drop => {}
        Route::Neighbour(ip) => port.subnet.deliver(ip, frame),
        Route::RouterArp(ip) => {
            let vnic = &port.vnic;
            let mac = vnic.subnet.virtual_router_mac;
            packet::send_arp_reply(&mut stack.out, ip, mac, vnic.private_ip, vnic.mac);
        }
        Route::Router => receive_packet(port, stack, &frame[ETHERNET_HEADER_SIZE..]),
    }
}

/// Takes an IPv4 packet whose source was checked and whose destination is not the subnet's.
fn receive_packet(port: &Arc<Port>, stack: &mut Stack, bytes: &[u8]) {
    let Ok(packet) = Ipv4Packet::new_checked(bytes) else { return };
    let Ok(header) = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()) else { return };
    // Nothing that guests do here needs fragments: flows use the path's MTU and DNS has TCP.
    if packet.more_frags() || packet.frag_offset() != 0 {
        return;
    }
    // Behind the packet there may be Ethernet padding.
    let bytes = &bytes[..usize::from(packet.total_len()).min(bytes.len())];
    match header.next_header {
        IpProtocol::Tcp => receive_tcp(port, stack, &header, bytes, packet.payload()),
        IpProtocol::Udp => receive_udp(port, stack, &header, bytes, packet.payload()),
        IpProtocol::Icmp => receive_icmp(port, stack, &header, bytes, packet.payload()),
        _ => refuse(port, stack, Icmpv4DstUnreachable::ProtoUnreachable, bytes),
    }
}

/// Tells the guest that its packet goes nowhere.
pub(crate) fn refuse(port: &Port, stack: &mut Stack, reason: Icmpv4DstUnreachable, refused: &[u8]) {
    packet::send_unreachable(&mut stack.out, port.vnic.subnet.virtual_router_ip, reason, refused);
}

/// Whether the guest may send to `ip` beyond its subnet now.
fn may_leave(port: &Port, ip: Ipv4Addr) -> bool {
    *port.subnet.outbound.borrow() && policy::may_reach(&port.vnic.subnet, port.host.as_ref(), ip)
}

fn receive_tcp(
    port: &Arc<Port>,
    stack: &mut Stack,
    header: &Ipv4Repr,
    bytes: &[u8],
    payload: &[u8],
) {
    let Ok(segment) = TcpPacket::new_checked(payload) else { return };
    let (source, target) = (IpAddress::Ipv4(header.src_addr), IpAddress::Ipv4(header.dst_addr));
    let far = SocketAddrV4::new(header.dst_addr, segment.dst_port());
    let key = FlowKey { guest_port: segment.src_port(), far };
    if !segment.syn() || segment.ack() {
        return stack.receive(bytes);
    }
    let checksums = ChecksumCapabilities::default();
    let Ok(syn) = TcpRepr::parse(&segment, &source, &target, &checksums) else { return };
    if syn.control != TcpControl::Syn || stack.dialing.contains(&key) {
        return;
    }
    if !stack.admits(key) {
        // Either a repeated SYN of a flow that is on its way, or one flow too many. The engine
        // knows the first, and the guest will come back with the second.
        if stack.knows(key) {
            stack.receive(bytes);
        }
        return;
    }
    let outbound = *port.subnet.outbound.borrow();
    if far.ip() == &SERVICE_IP {
        match far.port() {
            80 => nat::tcp::accept_metadata(port, stack, key, bytes),
            DNS_PORT if outbound => nat::tcp::accept_dns(port, stack, key, bytes),
            _ => stack.receive(bytes),
        }
    } else if may_leave(port, *far.ip()) {
        nat::tcp::dial(port, stack, key, bytes);
    } else {
        // The engine answers what it does not know with a reset.
        stack.receive(bytes);
    }
}

fn receive_udp(
    port: &Arc<Port>,
    stack: &mut Stack,
    header: &Ipv4Repr,
    bytes: &[u8],
    payload: &[u8],
) {
    let Ok(packet) = UdpPacket::new_checked(payload) else { return };
    let (source, target) = (IpAddress::Ipv4(header.src_addr), IpAddress::Ipv4(header.dst_addr));
    let checksums = ChecksumCapabilities::default();
    let Ok(ports) = UdpRepr::parse(&packet, &source, &target, &checksums) else { return };
    let data = packet.payload();
    let guest = SocketAddrV4::new(header.src_addr, ports.src_port);
    let far = SocketAddrV4::new(header.dst_addr, ports.dst_port);
    let is_router = switch::is_router(&port.vnic, *far.ip());
    if ports.dst_port == DHCP_SERVER_PORT && (is_router || far.ip().is_broadcast()) {
        if let Some((to, reply)) = dhcp::answer(&port.vnic, data) {
            let router = SocketAddrV4::new(port.vnic.subnet.virtual_router_ip, DHCP_SERVER_PORT);
            packet::send_udp(&mut stack.out, router, to, &reply);
        }
    } else if far.ip() == &SERVICE_IP && far.port() == DNS_PORT && *port.subnet.outbound.borrow() {
        dns::forward(port, guest, data);
    } else if is_router {
        refuse(port, stack, Icmpv4DstUnreachable::PortUnreachable, bytes);
    } else {
        let key = FlowKey { guest_port: guest.port(), far };
        // Flows end by themselves when they are no longer allowed; only new ones must be judged.
        if stack.udp.contains(key) || may_leave(port, *far.ip()) {
            nat::udp::forward(port, stack, key, data);
        } else {
            refuse(port, stack, Icmpv4DstUnreachable::CommProhibited, bytes);
        }
    }
}

fn receive_icmp(
    port: &Arc<Port>,
    stack: &mut Stack,
    header: &Ipv4Repr,
    bytes: &[u8],
    payload: &[u8],
) {
    let Ok(message) = Icmpv4Packet::new_checked(payload) else { return };
    let checksums = ChecksumCapabilities::default();
    let Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) =
        Icmpv4Repr::parse(&message, &checksums)
    else {
        // Errors about our own packets and everything else: TCP and UDP find out by themselves.
        return;
    };
    if switch::is_router(&port.vnic, header.dst_addr) {
        let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
        packet::send_icmp(&mut stack.out, header.dst_addr, header.src_addr, &reply);
    } else {
        // Pinging the world needs privileges that this process should not have.
        refuse(port, stack, Icmpv4DstUnreachable::CommProhibited, bytes);
    }
}
