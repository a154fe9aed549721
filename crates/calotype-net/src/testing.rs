//! What tests need: a guest made of another TCP/IP stack behind a socket that speaks QEMU's framing,
//! and a host whose outside world is a table.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::json;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{DeviceCapabilities, Medium};
use smoltcp::socket::{dhcpv4, icmp, tcp, udp};
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::time::timeout;

use crate::config::{PublicAddress, SubnetConfig, VnicConfig};
use crate::host::{Host, ThisHost};
use crate::limits::FRAME_SIZE_MAX;
use crate::metadata::{MetadataDocument, MetadataSource};
use crate::network::{Attachment, VirtualNetwork};

/// No step of a test takes longer on a healthy machine, however busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
pub(crate) const SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

pub(crate) fn subnet(id: &str) -> SubnetConfig {
    SubnetConfig {
        id: id.into(),
        cidr: (Ipv4Addr::new(10, 0, 0, 0), 24),
        virtual_router_ip: ROUTER,
        virtual_router_mac: ROUTER_MAC,
        outbound: true,
        domain_name: Some("sub.vcn.oraclevcn.com".into()),
        mtu: 9_000,
    }
}

/// The VNIC with address 10.0.0.`last`.
pub(crate) fn vnic(last: u8) -> VnicConfig {
    VnicConfig {
        id: format!("ocid1.vnic.{last}"),
        subnet: subnet("ocid1.subnet.1"),
        mac: [0x02, 0, 0, 0, 1, last],
        private_ip: Ipv4Addr::new(10, 0, 0, last),
        hostname: Some(format!("host-{last}")),
        public: None,
    }
}

/// A public address no other test uses.
pub(crate) fn public(last: u8, tcp_ports: Vec<u16>) -> PublicAddress {
    let process = std::process::id().to_be_bytes();
    PublicAddress { ip: Ipv4Addr::new(127, process[2] | 128, process[3], last), tcp_ports }
}

/// Answers with the VNIC's own id, so that tests see whose document it is.
pub(crate) struct TestMetadata {
    pub(crate) legacy_endpoints_disabled: bool,
}

pub(crate) fn document(vnic_id: &str, legacy_endpoints_disabled: bool) -> MetadataDocument {
    MetadataDocument {
        instance: json!({
            "id": "ocid1.instance.1",
            "displayName": "one",
            "timeCreated": 1_700_000_000_000_u64,
            "metadata": { "ssh_authorized_keys": "ssh-ed25519 AAAA me\n", "a b/c": "odd" },
            "agentConfig": { "monitoringDisabled": false, "pluginsConfig": [] },
            "faultDomain": null,
        }),
        vnics: json!([{ "vnicId": vnic_id, "privateIp": "10.0.0.5" }]),
        volume_attachments: json!([]),
        legacy_endpoints_disabled,
    }
}

impl MetadataSource for TestMetadata {
    fn document(&self, vnic_id: String) -> BoxFuture<'static, Option<MetadataDocument>> {
        let disabled = self.legacy_endpoints_disabled;
        Box::pin(async move { Some(document(&vnic_id, disabled)) })
    }
}

/// A world in which only the listed destinations exist; the rules about addresses are real.
#[derive(Clone, Default)]
pub(crate) struct TestHost {
    pub(crate) world: Arc<Mutex<HashMap<SocketAddr, SocketAddr>>>,
    pub(crate) resolvers: Vec<SocketAddr>,
}

impl TestHost {
    pub(crate) fn map(&self, outside: &str, real: SocketAddr) {
        self.world.lock().unwrap().insert(outside.parse().unwrap(), real);
    }

    fn real(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        let world = self.world.lock().unwrap();
        world.get(&to).copied().ok_or_else(|| io::ErrorKind::HostUnreachable.into())
    }
}

impl Host for TestHost {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        let real = self.real(to);
        Box::pin(async move { TcpStream::connect(real?).await })
    }

    fn datagrams(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<UdpSocket>> {
        match self.real(to) {
            Ok(real) => ThisHost.datagrams(real),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn owns(&self, ip: Ipv4Addr) -> bool {
        ThisHost.owns(ip)
    }

    fn resolvers(&self) -> BoxFuture<'static, Vec<SocketAddr>> {
        let resolvers = self.resolvers.clone();
        Box::pin(async move { resolvers })
    }
}

pub(crate) fn network(host: &TestHost) -> VirtualNetwork {
    let metadata = TestMetadata { legacy_endpoints_disabled: false };
    VirtualNetwork::with_host(Arc::new(metadata), Arc::new(host.clone()))
}

/// A booted guest: plugged in, with its address configured.
pub(crate) async fn boot(network: &VirtualNetwork, vnic: VnicConfig) -> (Guest, Attachment) {
    let mut guest = Guest::new(&vnic);
    let attachment = network.attach(vnic.clone(), guest.path()).await.unwrap();
    guest.plug().await;
    guest.configure(vnic.private_ip, ROUTER);
    (guest, attachment)
}

/// The Ethernet card of a test's guest.
#[derive(Default)]
pub(crate) struct Card {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl smoltcp::phy::Device for Card {
    type RxToken<'t> = Received;
    type TxToken<'t> = Sent<'t>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sent<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Received(frame), Sent(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sent<'_>> {
        (self.outgoing.len() < 64).then_some(Sent(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

pub(crate) struct Received(Vec<u8>);

impl smoltcp::phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Sent<'a>(&'a mut VecDeque<Vec<u8>>);

impl smoltcp::phy::TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, size: usize, f: F) -> R {
        let mut frame = vec![0; size];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

/// A machine behind QEMU's end of the cable. It runs only inside [`Guest::until`].
pub(crate) struct Guest {
    directory: tempfile::TempDir,
    listener: Option<UnixListener>,
    stream: Option<UnixStream>,
    pending: Vec<u8>,
    card: Card,
    pub(crate) interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    started: Instant,
    /// Frames seen, when a test wants to look at them.
    pub(crate) captured: Option<Vec<Vec<u8>>>,
    next_port: u16,
}

impl Guest {
    /// Listens where the attachment of `vnic` will connect to. Call [`Self::plug`] after `attach`.
    pub(crate) fn new(vnic: &VnicConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("link")).unwrap();
        let mut card = Card { mtu: vnic.subnet.mtu.into(), ..Card::default() };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(vnic.mac)));
        config.random_seed = u64::from(vnic.mac[5]);
        let interface = Interface::new(config, &mut card, smoltcp::time::Instant::ZERO);
        Self {
            directory,
            listener: Some(listener),
            stream: None,
            pending: Vec::new(),
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            started: Instant::now(),
            captured: None,
            next_port: 40_000,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("link")
    }

    /// Waits for the other end of the cable.
    pub(crate) async fn plug(&mut self) {
        let listener = self.listener.as_ref().unwrap();
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        self.stream = Some(stream);
        self.pending.clear();
    }

    /// Breaks the cable as a QEMU that exits does: the socket goes away too.
    pub(crate) fn unplug(&mut self) {
        self.stream = None;
        self.listener = None;
        std::fs::remove_file(self.path()).unwrap();
    }

    /// Listens again, as a new QEMU would.
    pub(crate) fn listen_again(&mut self) {
        self.listener = Some(UnixListener::bind(self.path()).unwrap());
    }

    pub(crate) fn configure(&mut self, ip: Ipv4Addr, router: Ipv4Addr) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            addresses.push(IpCidr::new(IpAddress::Ipv4(ip), 24)).unwrap();
        });
        self.interface.routes_mut().add_default_ipv4_route(router).unwrap();
    }

    pub(crate) fn send_raw(&mut self, frame: &[u8]) {
        self.card.outgoing.push_back(frame.to_vec());
    }

    /// Sends bytes that need not be a frame at all.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.as_mut().unwrap().write_all(bytes).await
    }

    /// Runs the machine until `done` answers. Panics when that takes too long.
    pub(crate) async fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let running = async {
            loop {
                let mut answer = done(self);
                let delay = self.poll().await;
                answer = answer.or_else(|| done(self));
                if let Some(answer) = answer {
                    self.poll().await;
                    return answer;
                }
                let Some(stream) = &self.stream else { panic!("the guest is not plugged in") };
                tokio::select! {
                    readable = stream.readable() => { readable.unwrap(); self.read(); }
                    () = tokio::time::sleep(delay) => {}
                }
            }
        };
        timeout(PATIENCE, running).await.expect("the guest waits for something that never comes")
    }

    /// Runs the machine for ever, as the other side of a test.
    pub(crate) async fn serve(mut self, mut step: impl FnMut(&mut Self)) {
        loop {
            step(&mut self);
            let delay = self.poll().await;
            let Some(stream) = &self.stream else { return };
            tokio::select! {
                _ = stream.readable() => self.read(),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// Moves the cable to the runtime that this is called in.
    pub(crate) fn adopt(mut self) -> Self {
        if let Some(stream) = self.stream.take() {
            self.stream = Some(UnixStream::from_std(stream.into_std().unwrap()).unwrap());
        }
        self.listener = None;
        self
    }

    async fn poll(&mut self) -> Duration {
        let now = smoltcp::time::Instant::from_micros(
            i64::try_from(self.started.elapsed().as_micros()).unwrap(),
        );
        loop {
            self.interface.poll(now, &mut self.card, &mut self.sockets);
            if self.card.outgoing.is_empty() {
                break;
            }
            let mut bytes = Vec::new();
            for frame in self.card.outgoing.drain(..) {
                bytes.extend((frame.len() as u32).to_be_bytes());
                bytes.extend(frame);
            }
            if let Some(stream) = &mut self.stream {
                // A cable that breaks now is noticed when reading.
                let _ = stream.write_all(&bytes).await;
            }
        }
        let delay = self.interface.poll_delay(now, &self.sockets);
        delay.map_or(Duration::from_secs(1), Duration::from).min(Duration::from_secs(1))
    }

    fn read(&mut self) {
        let mut buffer = vec![0; 256 * 1024];
        let Some(stream) = &self.stream else { return };
        match stream.try_read(&mut buffer) {
            Ok(0) => self.stream = None,
            Ok(size) => self.pending.extend_from_slice(&buffer[..size]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.stream = None,
        }
        let mut start = 0;
        while let Some(prefix) = self.pending[start..].first_chunk::<4>() {
            let size = u32::from_be_bytes(*prefix) as usize;
            assert!(size <= FRAME_SIZE_MAX, "the link sends frames of sane sizes");
            let Some(frame) = self.pending[start + 4..].get(..size) else { break };
            if let Some(captured) = &mut self.captured {
                captured.push(frame.to_vec());
            }
            self.card.incoming.push_back(frame.to_vec());
            start += 4 + size;
        }
        self.pending.drain(..start);
    }

    pub(crate) fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 256 * 1024]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    pub(crate) fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.tcp();
        self.socket(handle).listen(port).unwrap();
        handle
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Connects; `false` when refused.
    pub(crate) async fn connect(&mut self, to: SocketAddrV4) -> (SocketHandle, bool) {
        let handle = self.tcp();
        self.next_port += 1;
        let local = self.next_port;
        let remote = (IpAddress::Ipv4(*to.ip()), to.port());
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), remote, local).unwrap();
        let connected = self
            .until(|guest| match guest.socket(handle).state() {
                tcp::State::SynSent => None,
                state => Some(state == tcp::State::Established),
            })
            .await;
        (handle, connected)
    }

    /// Sends `request` and reads to the end.
    pub(crate) async fn exchange(&mut self, to: SocketAddrV4, request: &[u8]) -> Vec<u8> {
        let (handle, connected) = self.connect(to).await;
        assert!(connected, "{to} refuses");
        self.socket(handle).send_slice(request).unwrap();
        let mut answer = Vec::new();
        self.until(|guest| {
            let socket = guest.socket(handle);
            while let Ok(true) = socket.recv(|data| {
                answer.extend_from_slice(data);
                (data.len(), !data.is_empty())
            }) {}
            (!socket.may_recv()).then(|| socket.close())
        })
        .await;
        answer
    }

    /// An HTTP request to the metadata service: status and body.
    pub(crate) async fn get(&mut self, path: &str, headers: &str) -> (u16, String) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        let answer = self.exchange(SocketAddrV4::new(SERVICE, 80), request.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
    }

    /// Pings; the ICMP answer's kind, or `None` after `patience` without one.
    pub(crate) async fn ping(&mut self, to: Ipv4Addr) -> bool {
        const IDENT: u16 = 77;
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(IDENT)).unwrap();
        let handle = self.sockets.add(socket);
        let message = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no: 1, data: b"are you there" };
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(handle);
        let payload = socket.send(message.buffer_len(), IpAddress::Ipv4(to)).unwrap();
        let checksums = smoltcp::phy::ChecksumCapabilities::default();
        message.emit(&mut Icmpv4Packet::new_unchecked(payload), &checksums);
        let answered = self
            .until(|guest| {
                let socket = guest.sockets.get_mut::<icmp::Socket<'_>>(handle);
                let (payload, from) = socket.recv().ok()?;
                let packet = Icmpv4Packet::new_unchecked(payload);
                let reply = Icmpv4Repr::parse(&packet, &checksums).unwrap();
                Some(
                    matches!(reply, Icmpv4Repr::EchoReply { data: b"are you there", .. })
                        && from == IpAddress::Ipv4(to),
                )
            })
            .await;
        self.sockets.remove(handle);
        answered
    }

    pub(crate) fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 65_536]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    /// Sends a datagram and waits for the answer.
    pub(crate) async fn ask(
        &mut self,
        handle: SocketHandle,
        to: SocketAddrV4,
        data: &[u8],
    ) -> Vec<u8> {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(handle);
        socket.send_slice(data, (IpAddress::Ipv4(*to.ip()), to.port())).unwrap();
        self.until(|guest| {
            let socket = guest.sockets.get_mut::<udp::Socket<'_>>(handle);
            socket.recv().ok().map(|(data, _)| data.to_vec())
        })
        .await
    }

    /// Gets an address as a booting machine does.
    pub(crate) async fn dhcp(&mut self) -> (Ipv4Addr, u8, Option<Ipv4Addr>, Vec<Ipv4Addr>) {
        let handle = self.sockets.add(dhcpv4::Socket::new());
        let lease = self
            .until(|guest| match guest.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
                Some(dhcpv4::Event::Configured(lease)) => {
                    let dns = lease.dns_servers.to_vec();
                    let address = lease.address;
                    Some((address.address(), address.prefix_len(), lease.router, dns))
                }
                _ => None,
            })
            .await;
        self.sockets.remove(handle);
        lease
    }
}
