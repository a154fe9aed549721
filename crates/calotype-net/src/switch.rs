//! The switch of one subnet. It learns nothing: who is where was said when a VNIC was plugged in,
//! so a guest can neither take over a neighbour's address nor flood the others.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet,
    UdpPacket,
};
use tokio::sync::{mpsc, watch};

use crate::config::VnicConfig;
use crate::error::{Error, Result};
use crate::limits::NEIGHBOUR_FRAMES_MAX;
use crate::policy::SERVICE_IP;

const ETHERNET_HEADER_SIZE: usize = 14;
const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const DHCP_CLIENT_PORT: u16 = 68;
const DHCP_SERVER_PORT: u16 = 67;

/// A subnet as far as its ports know it.
pub(crate) struct Subnet {
    members: Mutex<HashMap<Ipv4Addr, Member>>,
    /// Whether outbound traffic is on. Flows watch it.
    pub(crate) outbound: watch::Sender<bool>,
}

struct Member {
    mac: [u8; 6],
    frames: mpsc::Sender<Bytes>,
}

impl Subnet {
    pub(crate) fn new(outbound: bool) -> Self {
        Self { members: Mutex::default(), outbound: watch::Sender::new(outbound) }
    }

    fn members(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a VNIC in and answers where its neighbours' frames come out.
    pub(crate) fn join(&self, vnic: &VnicConfig) -> Result<mpsc::Receiver<Bytes>> {
        let mut members = self.members();
        if members.contains_key(&vnic.private_ip) {
            return Err(Error::in_use(vnic.private_ip.to_string()));
        }
        if members.values().any(|member| member.mac == vnic.mac) {
            return Err(Error::in_use(format!("MAC address of {}", vnic.id)));
        }
        let (frames, receiver) = mpsc::channel(NEIGHBOUR_FRAMES_MAX);
        members.insert(vnic.private_ip, Member { mac: vnic.mac, frames });
        Ok(receiver)
    }

    /// Lets a VNIC go.
    pub(crate) fn leave(&self, ip: Ipv4Addr) {
        self.members().remove(&ip);
    }

    /// Passes a frame to the neighbour with address `ip`, or drops it: because there is none,
    /// because it was addressed to another MAC, or because the neighbour is too slow.
    pub(crate) fn deliver(&self, ip: Ipv4Addr, frame: &[u8]) {
        let members = self.members();
        let Some(member) = members.get(&ip) else { return };
        let to = &frame[..6];
        if to == member.mac || to == BROADCAST_MAC {
            // Full means a slow guest, closed one that is leaving: a lost frame either way.
            let _ = member.frames.try_send(Bytes::copy_from_slice(frame));
        }
    }
}

/// Where a frame from a guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nowhere: malformed, spoofed, or a protocol that the subnet does not carry.
    Drop,
    /// To the router, as an ARP request for this address of its own.
    RouterArp(Ipv4Addr),
    /// To the router; the IPv4 packet starts behind the Ethernet header.
    Router,
    /// To the neighbour with this address.
    Neighbour(Ipv4Addr),
}

/// Decides on a frame by what is known of its sender. Reads nothing but headers.
pub(crate) fn route(vnic: &VnicConfig, bytes: &[u8]) -> Route {
    let mtu = usize::from(vnic.subnet.mtu);
    // Padding of short frames never makes one longer than the MTU.
    if bytes.len() > ETHERNET_HEADER_SIZE + mtu {
        return Route::Drop;
    }
    let Ok(frame) = EthernetFrame::new_checked(bytes) else { return Route::Drop };
    if frame.src_addr().0 != vnic.mac {
        return Route::Drop;
    }
    match frame.ethertype() {
        EthernetProtocol::Arp => route_arp(vnic, &frame),
        EthernetProtocol::Ipv4 => route_ipv4(vnic, &frame),
        _ => Route::Drop,
    }
}

fn route_arp(vnic: &VnicConfig, frame: &EthernetFrame<&[u8]>) -> Route {
    let Ok(Ok(arp)) = ArpPacket::new_checked(frame.payload()).map(|arp| ArpRepr::parse(&arp))
    else {
        return Route::Drop;
    };
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr: target,
        ..
    } = arp
    else {
        return Route::Drop;
    };
    let is_probe = source_protocol_addr.is_unspecified() && operation == ArpOperation::Request;
    let own = source_protocol_addr == vnic.private_ip || is_probe;
    if source_hardware_addr.0 != vnic.mac || !own || target == vnic.private_ip {
        return Route::Drop;
    }
    match operation {
        ArpOperation::Request if is_router(vnic, target) => Route::RouterArp(target),
        ArpOperation::Request | ArpOperation::Reply if vnic.subnet.contains(target) => {
            Route::Neighbour(target)
        }
        _ => Route::Drop,
    }
}

fn route_ipv4(vnic: &VnicConfig, frame: &EthernetFrame<&[u8]>) -> Route {
    let Ok(packet) = Ipv4Packet::new_checked(frame.payload()) else { return Route::Drop };
    let (source, target) = (packet.src_addr(), packet.dst_addr());
    let is_dhcp = target.is_broadcast() && is_dhcp_request(&packet);
    if source != vnic.private_ip && !(source.is_unspecified() && is_dhcp) {
        return Route::Drop;
    }
    let to = frame.dst_addr().0;
    if is_dhcp && (to == BROADCAST_MAC || to == vnic.subnet.virtual_router_mac) {
        return Route::Router;
    }
    if target.is_broadcast() || target.is_multicast() || target == vnic.subnet.broadcast() {
        return Route::Drop;
    }
    if to == vnic.subnet.virtual_router_mac {
        Route::Router
    } else if to[0] & 1 == 0 && vnic.subnet.contains(target) && target != vnic.private_ip {
        Route::Neighbour(target)
    } else {
        Route::Drop
    }
}

/// Whether the router answers for `ip`.
pub(crate) fn is_router(vnic: &VnicConfig, ip: Ipv4Addr) -> bool {
    ip == vnic.subnet.virtual_router_ip || ip == SERVICE_IP
}

fn is_dhcp_request(packet: &Ipv4Packet<&[u8]>) -> bool {
    packet.next_header() == IpProtocol::Udp
        && packet.frag_offset() == 0
        && UdpPacket::new_checked(packet.payload()).is_ok_and(|datagram| {
            datagram.src_port() == DHCP_CLIENT_PORT && datagram.dst_port() == DHCP_SERVER_PORT
        })
}
