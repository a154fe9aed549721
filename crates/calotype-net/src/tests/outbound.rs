//! From a guest to the world, and where it may not go.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::socket::udp;
use smoltcp::wire::IpAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::testing::{PATIENCE, SERVICE, TestHost, boot, network, vnic};

const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn world(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(WORLD, port)
}

/// A server at 198.51.100.7:80 that answers each connection with what it was sent, shouted.
async fn shouting_host() -> TestHost {
    let host = TestHost::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    host.map("198.51.100.7:80", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut line = [0; 5];
                stream.read_exact(&mut line).await.unwrap();
                line.make_ascii_uppercase();
                stream.write_all(&line).await.unwrap();
            });
        }
    });
    host
}

#[tokio::test]
async fn reaches_servers_of_the_world() {
    let network = network(&shouting_host().await);
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    assert_eq!(guest.exchange(world(80), b"hello").await, b"HELLO");
    assert_eq!(guest.exchange(world(80), b"again").await, b"AGAIN");
}

#[tokio::test]
async fn a_refused_connection_is_refused_to_the_guest_too() {
    let host = TestHost::default();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    host.map("198.51.100.7:81", closed);
    let network = network(&host);
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    assert!(!guest.connect(world(81)).await.1);
}

#[tokio::test]
async fn refuses_the_hosts_own_loopback_and_link_local_addresses() {
    // The listener proves that refusals come from the rules and not from an empty machine.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = TestHost::default();
    let own = own_addresses();
    for ip in &own {
        host.map(&format!("{ip}:{port}"), (*ip, port).into());
    }
    let network = network(&host);
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    let mut forbidden = own;
    forbidden.extend(
        ["127.0.0.1", "127.1.2.3", "169.254.1.1"].map(|ip| ip.parse::<Ipv4Addr>().unwrap()),
    );
    for ip in forbidden {
        assert!(!guest.connect(SocketAddrV4::new(ip, port)).await.1, "{ip}");
    }
    assert!(!guest.connect(SocketAddrV4::new(SERVICE, port)).await.1);
    assert!(!guest.connect(SocketAddrV4::new(crate::testing::ROUTER, port)).await.1);
}

/// Addresses of this machine's interfaces, by asking the kernel which it would send from.
fn own_addresses() -> Vec<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut addresses = vec![Ipv4Addr::LOCALHOST];
    if socket.connect("198.51.100.7:9").is_ok()
        && let std::net::IpAddr::V4(ip) = socket.local_addr().unwrap().ip()
    {
        addresses.push(ip);
    }
    addresses
}

#[tokio::test]
async fn datagrams_go_out_and_come_back_in_fragments_where_needed() {
    let host = TestHost::default();
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    host.map("198.51.100.7:53", server.local_addr().unwrap());
    tokio::spawn(async move {
        let mut datagram = vec![0; 2_000];
        loop {
            let (size, from) = server.recv_from(&mut datagram).await.unwrap();
            server.send_to(&datagram[..size], from).await.unwrap();
        }
    });
    let network = network(&host);
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    let socket = guest.udp(6_000);
    for question in [&b"one"[..], &[7; 1_800]] {
        assert_eq!(guest.ask(socket, world(53), question).await, question);
    }
    // What is not allowed is said so: the guest's ICMP counts as an answer here.
    let forbidden = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 53);
    guest.captured = Some(Vec::new());
    let to = (IpAddress::Ipv4(*forbidden.ip()), forbidden.port());
    guest.sockets.get_mut::<udp::Socket<'_>>(socket).send_slice(b"x", to).unwrap();
    guest.until(|guest| find_icmp(guest.captured.as_deref()?, 3, 13)).await;
}

/// Finds an ICMP message of this type and code among frames.
fn find_icmp(frames: &[Vec<u8>], kind: u8, code: u8) -> Option<()> {
    let wanted =
        |frame: &Vec<u8>| frame.len() > 36 && frame[23] == 1 && frame[34..36] == [kind, code];
    frames.iter().any(wanted).then_some(())
}

#[tokio::test]
async fn an_unreachable_host_is_reported_as_such() {
    let network = network(&TestHost::default());
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    guest.captured = Some(Vec::new());
    let handle = guest.tcp();
    let remote = (IpAddress::Ipv4(WORLD), 99);
    let socket = guest.sockets.get_mut::<smoltcp::socket::tcp::Socket<'_>>(handle);
    socket.connect(guest.interface.context(), remote, 41_000).unwrap();
    guest.until(|guest| find_icmp(guest.captured.as_deref()?, 3, 1)).await;
}

#[tokio::test]
async fn outbound_off_leaves_only_the_services_and_ends_running_flows() {
    let network = network(&shouting_host().await);
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    let (running, connected) = guest.connect(world(80)).await;
    assert!(connected);
    network.set_outbound("ocid1.subnet.unknown", false);
    network.set_outbound("ocid1.subnet.1", false);
    guest.until(|guest| (!guest.socket(running).is_open()).then_some(())).await;
    assert!(!guest.connect(world(80)).await.1);
    assert!(!guest.connect(SocketAddrV4::new(SERVICE, 53)).await.1);
    assert_eq!(guest.get("/opc/v1/instance/id", "").await.0, 200);
    assert!(guest.ping(crate::testing::ROUTER).await);
    network.set_outbound("ocid1.subnet.1", true);
    assert_eq!(guest.exchange(world(80), b"hello").await, b"HELLO");
}

#[tokio::test]
async fn dropping_the_attachment_closes_flows_on_the_host() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = TestHost::default();
    host.map("198.51.100.7:80", listener.local_addr().unwrap());
    let network = network(&host);
    let (mut guest, attachment) = boot(&network, vnic(5)).await;
    assert!(guest.connect(world(80)).await.1);
    let (mut server, _) = listener.accept().await.unwrap();
    drop(attachment);
    let ended = tokio::time::timeout(PATIENCE, server.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
}
