//! The TCP engine of one port: every flow between the guest and the host ends here.
//!
//! The engine (smoltcp) sees bare IPv4 packets whose source was already checked, and may speak for
//! any address (`any_ip`). A flow exists only after [`Stack::accept`] or [`Stack::connect`]: every
//! other segment of the guest is answered with a reset.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, State};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};

use crate::config::VnicConfig;
use crate::limits::{TCP_BUFFER_SIZE, TCP_DEAD_AFTER, TCP_FLOWS_MAX, TCP_KEEP_ALIVE, TCP_LINGER};
use crate::nat::udp::UdpFlows;
use crate::outbox::{Device, Outbox};

/// First and last port from which the router opens connections into the guest.
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// A flow as the guest sees it: its own port and the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    pub(crate) guest_port: u16,
    pub(crate) far: SocketAddrV4,
}

struct Flow {
    handle: SocketHandle,
    /// Unread bytes, saved before the engine forgets them at the end of TIME-WAIT.
    tail: Option<Vec<u8>>,
    /// Set when nobody reads or writes the flow any more: it must be gone by then.
    abandoned: Option<Instant>,
}

/// One port's TCP flows and the frames that wait for its guest.
pub(crate) struct Stack {
    pub(crate) out: Outbox,
    pub(crate) udp: UdpFlows,
    /// Outbound flows whose host side is still connecting.
    pub(crate) dialing: HashSet<FlowKey>,
    interface: Interface,
    sockets: SocketSet<'static>,
    flows: HashMap<FlowKey, Flow>,
    guest_ip: Ipv4Addr,
    router_ip: Ipv4Addr,
    next_port: u16,
    started: Instant,
}

impl Stack {
    pub(crate) fn new(vnic: &VnicConfig) -> Self {
        let subnet = &vnic.subnet;
        let mut out = Outbox::new(vnic.mac, subnet.virtual_router_mac, subnet.mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        // The standard library's hasher keys are the process's random numbers: initial sequence
        // numbers must not be guessable by a neighbour.
        config.random_seed = std::hash::RandomState::new().build_hasher().finish();
        let mut device = Device { packet: None, out: &mut out };
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.set_any_ip(true);
        interface.update_ip_addrs(|addresses| {
            let address = IpAddress::Ipv4(subnet.virtual_router_ip);
            // One address always fits: the list holds at least one.
            let _ = addresses.push(IpCidr::new(address, subnet.cidr.1.min(32)));
        });
        Self {
            out,
            udp: UdpFlows::default(),
            dialing: HashSet::new(),
            interface,
            sockets: SocketSet::new(Vec::new()),
            flows: HashMap::new(),
            guest_ip: vnic.private_ip,
            router_ip: subnet.virtual_router_ip,
            next_port: *EPHEMERAL_PORTS.start(),
            started: Instant::now(),
        }
    }

    /// The cable to QEMU is plugged in.
    pub(crate) fn link_up(&mut self) {
        self.out.set_link(true);
    }

    /// The cable is gone, which happens only when QEMU is: no flow can go on.
    pub(crate) fn link_down(&mut self) {
        self.out.set_link(false);
        for flow in self.flows.values() {
            self.sockets.get_mut::<tcp::Socket<'_>>(flow.handle).abort();
        }
    }

    /// Gives one TCP packet of the guest to the engine.
    pub(crate) fn receive(&mut self, packet: &[u8]) {
        let now = self.now();
        let mut device = Device { packet: Some(packet), out: &mut self.out };
        self.interface.poll_ingress_single(now, &mut device, &mut self.sockets);
    }

    /// Sends what can be sent and tidies up. Answers when to call again at the latest.
    pub(crate) fn poll(&mut self) -> Option<Duration> {
        let now = self.now();
        loop {
            let mut device = Device { packet: None, out: &mut self.out };
            if self.interface.poll_egress(now, &mut device, &mut self.sockets) == PollResult::None {
                break;
            }
        }
        let deadline = self.settle();
        if !self.out.is_empty() && !self.out.has_room() {
            // The link will say when there is room; the clock would only spin.
            return None;
        }
        let delay = self.interface.poll_delay(now, &self.sockets).map(Duration::from);
        let linger = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        match (delay, linger) {
            (Some(delay), Some(linger)) => Some(delay.min(linger)),
            (delay, linger) => delay.or(linger),
        }
    }

    /// Whether the guest may begin a new flow with this key, making room if that is possible.
    /// An old flow with the same key that is only waiting out its end gives way.
    pub(crate) fn admits(&mut self, key: FlowKey) -> bool {
        if let Some(flow) = self.flows.get(&key) {
            let state = self.sockets.get::<tcp::Socket<'_>>(flow.handle).state();
            if flow.abandoned.is_none() || !matches!(state, State::TimeWait | State::Closed) {
                return false;
            }
            self.remove(key);
        }
        if self.flows.len() + self.dialing.len() < TCP_FLOWS_MAX {
            return true;
        }
        let finished = self.flows.iter().find(|(_, flow)| {
            flow.abandoned.is_some()
                && self.sockets.get::<tcp::Socket<'_>>(flow.handle).state() == State::TimeWait
        });
        let Some(key) = finished.map(|(key, _)| *key) else { return false };
        self.remove(key);
        true
    }

    /// Whether there is a flow with this key already.
    pub(crate) fn knows(&self, key: FlowKey) -> bool {
        self.flows.contains_key(&key)
    }

    /// Begins the flow that the guest asks for with `syn`, an IPv4 packet.
    pub(crate) fn accept(&mut self, key: FlowKey, syn: &[u8]) -> Option<SocketHandle> {
        if !self.admits(key) {
            return None;
        }
        let mut socket = new_socket();
        let address = Some(IpAddress::Ipv4(*key.far.ip()));
        socket.listen(IpListenEndpoint { addr: address, port: key.far.port() }).ok()?;
        let handle = self.sockets.add(socket);
        self.receive(syn);
        // Nothing listens for longer than this call, so that no other segment can take the place.
        if self.sockets.get::<tcp::Socket<'_>>(handle).state() != State::SynReceived {
            self.sockets.remove(handle);
            return None;
        }
        self.flows.insert(key, Flow { handle, tail: None, abandoned: None });
        Some(handle)
    }

    /// Begins a flow from the router to a port of the guest.
    pub(crate) fn connect(&mut self, guest_port: u16) -> Option<(FlowKey, SocketHandle)> {
        let key = self.free_key(guest_port)?;
        if !self.out.link_up() || !self.admits(key) {
            return None;
        }
        let mut socket = new_socket();
        let guest = (IpAddress::Ipv4(self.guest_ip), guest_port);
        let router = (IpAddress::Ipv4(self.router_ip), key.far.port());
        socket.connect(self.interface.context(), guest, router).ok()?;
        let handle = self.sockets.add(socket);
        self.flows.insert(key, Flow { handle, tail: None, abandoned: None });
        Some((key, handle))
    }

    fn free_key(&mut self, guest_port: u16) -> Option<FlowKey> {
        // More ports than flows: one of the first `TCP_FLOWS_MAX + 1` is free.
        (0..=TCP_FLOWS_MAX).find_map(|_| {
            let port = self.next_port;
            self.next_port =
                if port == *EPHEMERAL_PORTS.end() { *EPHEMERAL_PORTS.start() } else { port + 1 };
            let key = FlowKey { guest_port, far: SocketAddrV4::new(self.router_ip, port) };
            (!self.knows(key)).then_some(key)
        })
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Reads bytes that were saved from a finished flow; `None` if none were.
    pub(crate) fn read_tail(&mut self, key: FlowKey, buffer: &mut [u8]) -> Option<usize> {
        let tail = self.flows.get_mut(&key)?.tail.as_mut()?;
        let size = tail.len().min(buffer.len());
        buffer[..size].copy_from_slice(&tail[..size]);
        tail.drain(..size);
        Some(size)
    }

    /// Lets go of a flow. With `reset` the guest is told so at once, else it may close in peace.
    pub(crate) fn abandon(&mut self, key: FlowKey, reset: bool) {
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.abandoned = Some(Instant::now() + TCP_LINGER);
            if reset {
                self.sockets.get_mut::<tcp::Socket<'_>>(flow.handle).abort();
            }
        }
    }

    /// TCP flows, dialing ones included, and UDP flows.
    #[cfg(test)]
    pub(crate) fn flow_counts(&self) -> (usize, usize) {
        (self.flows.len() + self.dialing.len(), self.udp.len())
    }

    fn remove(&mut self, key: FlowKey) {
        if let Some(flow) = self.flows.remove(&key) {
            self.sockets.remove(flow.handle);
        }
    }

    /// Saves tails, ends what lingers too long, forgets what is over. Answers the next deadline.
    fn settle(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let sockets = &mut self.sockets;
        let mut deadline: Option<Instant> = None;
        let mut over = Vec::new();
        for (key, flow) in &mut self.flows {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(flow.handle);
            let Some(until) = flow.abandoned else {
                if socket.state() == State::TimeWait && flow.tail.is_none() {
                    flow.tail = Some(drain(socket));
                }
                continue;
            };
            if socket.state() == State::Closed && socket.remote_endpoint().is_none() {
                over.push(*key);
            } else if until <= now && socket.state() != State::Closed {
                socket.abort();
                deadline = Some(now);
            } else {
                deadline = Some(deadline.map_or(until, |earliest| earliest.min(until)));
            }
        }
        for key in over {
            self.remove(key);
        }
        deadline
    }

    fn now(&self) -> smoltcp::time::Instant {
        let elapsed = self.started.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }
}

fn new_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER_SIZE]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    // Both ends already wait where waiting pays; a middleman that also waits only adds to it.
    socket.set_nagle_enabled(false);
    socket.set_keep_alive(Some(TCP_KEEP_ALIVE.into()));
    socket.set_timeout(Some(TCP_DEAD_AFTER.into()));
    socket
}

fn drain(socket: &mut tcp::Socket<'_>) -> Vec<u8> {
    let mut tail = vec![0; socket.recv_queue()];
    let size = socket.recv_slice(&mut tail).unwrap_or(0);
    tail.truncate(size);
    tail
}
