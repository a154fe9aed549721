//! Packets that the virtual router writes itself: UDP, ICMP and ARP. TCP is the engine's.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpAddress, IpProtocol,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use crate::outbox::Outbox;

const HOP_LIMIT: u8 = 64;
const IPV4_HEADER_SIZE: usize = 20;
const UDP_HEADER_SIZE: usize = 8;
/// Bytes of the offending packet's payload that an ICMP error repeats (RFC 792).
const ICMP_QUOTE_SIZE: usize = 8;
const ETHERNET_MIN: usize = 60;

/// Sends a datagram to the guest, in fragments where it exceeds the MTU.
pub(crate) fn send_udp(out: &mut Outbox, from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) {
    let size = UDP_HEADER_SIZE + data.len();
    if size > usize::from(u16::MAX) - IPV4_HEADER_SIZE {
        return;
    }
    let mut datagram = vec![0; size];
    UdpRepr { src_port: from.port(), dst_port: to.port() }.emit(
        &mut UdpPacket::new_unchecked(&mut datagram[..]),
        &IpAddress::Ipv4(*from.ip()),
        &IpAddress::Ipv4(*to.ip()),
        data.len(),
        |space| space.copy_from_slice(data),
        &ChecksumCapabilities::default(),
    );
    send_fragments(out, *from.ip(), *to.ip(), IpProtocol::Udp, &datagram);
}

fn send_fragments(
    out: &mut Outbox,
    src_addr: Ipv4Addr,
    dst_addr: Ipv4Addr,
    next_header: IpProtocol,
    payload: &[u8],
) {
    // Offsets count in units of eight bytes.
    let piece_size = (out.mtu() - IPV4_HEADER_SIZE) / 8 * 8;
    let ident = fragment_ident(payload);
    let pieces = payload.len().div_ceil(piece_size);
    for (index, piece) in payload.chunks(piece_size).enumerate() {
        let payload_len = piece.len();
        let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOP_LIMIT };
        out.push_packet(IPV4_HEADER_SIZE + payload_len, |space| {
            let mut packet = Ipv4Packet::new_unchecked(space);
            repr.emit(&mut packet, &ChecksumCapabilities::default());
            packet.payload_mut().copy_from_slice(piece);
            if pieces > 1 {
                packet.set_dont_frag(false);
                packet.set_ident(ident);
                packet.set_more_frags(index + 1 < pieces);
                packet.set_frag_offset((index * piece_size) as u16);
                packet.fill_checksum();
            }
        });
    }
}

/// Tells datagrams in flight apart. Their checksum differs nearly always, and no state is needed.
fn fragment_ident(payload: &[u8]) -> u16 {
    payload.get(6..8).map_or(0, |sum| u16::from_be_bytes([sum[0], sum[1]])) ^ payload.len() as u16
}

/// Sends an ICMP message to the guest.
pub(crate) fn send_icmp(out: &mut Outbox, from: Ipv4Addr, to: Ipv4Addr, message: &Icmpv4Repr<'_>) {
    let payload_len = message.buffer_len();
    let next_header = IpProtocol::Icmp;
    let repr =
        Ipv4Repr { src_addr: from, dst_addr: to, next_header, payload_len, hop_limit: HOP_LIMIT };
    out.push_packet(IPV4_HEADER_SIZE + payload_len, |space| {
        let checksums = ChecksumCapabilities::default();
        let mut packet = Ipv4Packet::new_unchecked(space);
        repr.emit(&mut packet, &checksums);
        message.emit(&mut Icmpv4Packet::new_unchecked(packet.payload_mut()), &checksums);
    });
}

/// Tells the guest that `refused`, a packet of its own, goes nowhere.
pub(crate) fn send_unreachable(
    out: &mut Outbox,
    router: Ipv4Addr,
    reason: Icmpv4DstUnreachable,
    refused: &[u8],
) {
    let Ok(packet) = Ipv4Packet::new_checked(refused) else { return };
    let Ok(header) = Ipv4Repr::parse(&packet, &ChecksumCapabilities::ignored()) else { return };
    let payload = packet.payload();
    let data = &payload[..payload.len().min(ICMP_QUOTE_SIZE)];
    let message = Icmpv4Repr::DstUnreachable { reason, header, data };
    send_icmp(out, router, header.src_addr, &message);
}

/// Answers an ARP request: `ip` is at `mac`.
pub(crate) fn send_arp_reply(
    out: &mut Outbox,
    ip: Ipv4Addr,
    mac: [u8; 6],
    asker_ip: Ipv4Addr,
    asker_mac: [u8; 6],
) {
    let (mac, asker_mac) = (EthernetAddress(mac), EthernetAddress(asker_mac));
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: mac,
        source_protocol_addr: ip,
        target_hardware_addr: asker_mac,
        target_protocol_addr: asker_ip,
    };
    let ethernet =
        EthernetRepr { src_addr: mac, dst_addr: asker_mac, ethertype: EthernetProtocol::Arp };
    let mut bytes = [0; ETHERNET_MIN];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.emit(&mut frame);
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    out.push_frame(&bytes);
}
