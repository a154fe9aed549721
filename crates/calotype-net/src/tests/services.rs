//! What the router itself offers: ARP, ping, DHCP, DNS, the metadata service.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use smoltcp::wire::{
    DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Ipv4Packet, UdpPacket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::dhcp;
use crate::network::VirtualNetwork;
use crate::testing::{Guest, ROUTER, SERVICE, TestHost, TestMetadata, boot, network, vnic};

const V2: &str = "Authorization: Bearer Oracle\r\n";

#[tokio::test]
async fn leases_the_configured_address() {
    let network = network(&TestHost::default());
    let vnic = vnic(5);
    let mut guest = Guest::new(&vnic);
    let _attachment = network.attach(vnic, guest.path()).await.unwrap();
    guest.plug().await;
    guest.captured = Some(Vec::new());
    let (ip, prefix, router, dns) = guest.dhcp().await;
    assert_eq!((ip, prefix), (Ipv4Addr::new(10, 0, 0, 5), 24));
    assert_eq!((router, dns), (Some(ROUTER), vec![SERVICE]));

    let ack = guest.captured.take().unwrap().into_iter().rev().find_map(|frame| {
        let frame = EthernetFrame::new_checked(&frame[..]).ok()?;
        let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
        let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
        (datagram.src_port() == 67).then(|| datagram.payload().to_vec())
    });
    assert_eq!(
        options(&ack.unwrap()),
        [
            (12, b"host-5".to_vec()),
            (15, b"sub.vcn.oraclevcn.com".to_vec()),
            (26, vec![0x23, 0x28]),
            (28, vec![10, 0, 0, 255]),
            (121, vec![16, 169, 254, 10, 0, 0, 1, 0, 10, 0, 0, 1]),
        ]
    );
}

/// The options that our DHCP client does not know, sorted.
fn options(reply: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let packet = DhcpPacket::new_checked(reply).unwrap();
    let mut options: Vec<_> = packet
        .options()
        .filter(|option| [12, 15, 26, 28, 121].contains(&option.kind))
        .map(|option| (option.kind, option.data.to_vec()))
        .collect();
    options.sort();
    options
}

fn dhcp_message(message_type: DhcpMessageType, requested_ip: Option<Ipv4Addr>) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let repr = DhcpRepr {
        message_type,
        transaction_id: 9,
        secs: 0,
        client_hardware_address: EthernetAddress(vnic(5).mac),
        client_ip: none,
        your_ip: none,
        server_ip: none,
        router: None,
        subnet_mask: None,
        relay_agent_ip: none,
        broadcast: false,
        requested_ip,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    bytes
}

#[test]
fn refuses_to_lease_another_address_and_ignores_strangers() {
    let wrong = dhcp_message(DhcpMessageType::Request, Some(Ipv4Addr::new(10, 0, 0, 9)));
    let (to, reply) = dhcp::answer(&vnic(5), &wrong).unwrap();
    let packet = DhcpPacket::new_checked(&reply[..]).unwrap();
    let repr = DhcpRepr::parse(&packet).unwrap();
    assert_eq!(repr.message_type, DhcpMessageType::Nak);
    assert_eq!(*to.ip(), Ipv4Addr::BROADCAST);
    assert!(reply.len() >= 300, "old clients want a whole BOOTP message");

    let right = dhcp_message(DhcpMessageType::Discover, None);
    assert!(dhcp::answer(&vnic(5), &right).is_some());
    assert!(dhcp::answer(&vnic(6), &right).is_none(), "not this port's MAC address");
    assert!(dhcp::answer(&vnic(5), &dhcp_message(DhcpMessageType::Release, None)).is_none());
    for size in 0..right.len() {
        let _ = dhcp::answer(&vnic(5), &right[..size]);
    }
}

#[tokio::test]
async fn router_and_service_address_answer_arp_and_ping() {
    let network = network(&TestHost::default());
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    assert!(guest.ping(ROUTER).await);
    assert!(guest.ping(SERVICE).await);
    // Also for a guest that takes link-local addresses for neighbours.
    guest.captured = Some(Vec::new());
    let mut request = arp_request(SERVICE);
    guest.send_raw(&request);
    request[38..42].copy_from_slice(&Ipv4Addr::new(169, 254, 1, 1).octets());
    guest.send_raw(&request);
    assert!(guest.ping(ROUTER).await);
    let answers: Vec<_> = guest.captured.take().unwrap();
    let arps: Vec<_> = answers
        .iter()
        .map(|frame| EthernetFrame::new_unchecked(&frame[..]))
        .filter(|frame| frame.ethertype() == EthernetProtocol::Arp)
        .collect();
    assert_eq!(arps.len(), 1, "only the service address is answered for");
    assert_eq!(arps[0].payload()[14..18], SERVICE.octets());
}

fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    let mac = vnic(5).mac;
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend([10, 0, 0, 5, 0, 0, 0, 0, 0, 0]);
    frame.extend(target.octets());
    frame
}

#[tokio::test]
async fn metadata_v2_wants_its_header_and_serves_every_key() {
    let network = network(&TestHost::default());
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    assert_eq!(guest.get("/opc/v2/instance/", "").await.0, 401);
    assert_eq!(guest.get("/opc/v2/instance/", "Authorization: Bearer oracle\r\n").await.0, 401);

    let (status, body) = guest.get("/opc/v2/instance/", V2).await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &document["id"]), (200, &"ocid1.instance.1".into()));
    assert!(body.contains("\n  \"id\""), "pretty for people");
    for (path, expected) in [
        ("/opc/v2/", "instance/\nvnics/\nvolumeAttachments/\n"),
        ("/opc/v2/instance/id", "ocid1.instance.1"),
        ("/opc/v2/instance/displayName/", "one"),
        ("/opc/v2/instance/timeCreated", "1700000000000"),
        ("/opc/v2/instance/agentConfig/monitoringDisabled", "false"),
        ("/opc/v2/instance/metadata/ssh_authorized_keys", "ssh-ed25519 AAAA me\n"),
        ("/opc/v2/instance/metadata/a%20b%2Fc", "odd"),
        ("/opc/v2/instance/agentConfig/pluginsConfig", "[]"),
        ("/opc/v2/vnics/0/vnicId", "ocid1.vnic.5"),
        ("/opc/v2/volumeAttachments/", "[]"),
    ] {
        assert_eq!(guest.get(path, V2).await, (200, expected.into()), "{path}");
    }
    for path in [
        "/",
        "/opc",
        "/opc/v2x/",
        "/opc/v3/instance",
        "/opc/v2/nothing",
        "/opc/v2/instance/nothing",
        "/opc/v2/vnics/1",
        "/opc/v2/vnics/x",
        "/opc/v2/instance/id/deeper",
        "/opc/v2/instance/%zz",
        "/opc/v2/instance/faultDomain",
        "/openstack/latest/meta_data.json",
        "/latest/meta-data",
    ] {
        assert_eq!(guest.get(path, V2).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn metadata_v1_is_open_until_disabled_and_forwarded_requests_are_refused() {
    let network = network(&TestHost::default());
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    assert_eq!(guest.get("/opc/v1/instance/id", "").await.0, 200);
    for name in ["Forwarded", "X-Forwarded-For", "x-forwarded-host"] {
        let headers = format!("{V2}{name}: 1.2.3.4\r\n");
        assert_eq!(guest.get("/opc/v2/instance/id", &headers).await.0, 403, "{name}");
        assert_eq!(guest.get("/opc/v1/instance/id", &headers).await.0, 403, "{name}");
    }
    let closed = VirtualNetwork::new(Arc::new(TestMetadata { legacy_endpoints_disabled: true }));
    let (mut guest, _attachment) = boot(&closed, vnic(6)).await;
    assert_eq!(guest.get("/opc/v1/instance/id", "").await.0, 404);
    assert_eq!(guest.get("/openstack/latest/meta_data.json", "").await.0, 404);
    assert_eq!(guest.get("/opc/v2/vnics/0/vnicId", V2).await, (200, "ocid1.vnic.6".into()));
}

#[tokio::test]
async fn forwards_dns_to_the_hosts_resolvers_in_turn() {
    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let host = TestHost {
        resolvers: ["192.0.2.1:53", "192.0.2.2:53"].map(|ip| ip.parse().unwrap()).to_vec(),
        ..TestHost::default()
    };
    // The first resolver does not exist.
    host.map("192.0.2.2:53", resolver.local_addr().unwrap());
    tokio::spawn(async move {
        let mut query = [0; 512];
        loop {
            let (size, from) = resolver.recv_from(&mut query).await.unwrap();
            resolver.send_to(b"another transaction", from).await.unwrap();
            query[size - 1] = b'!';
            resolver.send_to(&query[..size], from).await.unwrap();
        }
    });
    let network = network(&host);
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    let socket = guest.udp(5_000);
    let dns = SocketAddrV4::new(SERVICE, 53);
    assert_eq!(guest.ask(socket, dns, b"id and a query?").await, b"id and a query!");
}

#[tokio::test]
async fn forwards_dns_over_tcp_and_refuses_it_when_outbound_is_off() {
    let resolver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = TestHost { resolvers: vec!["192.0.2.1:53".parse().unwrap()], ..Default::default() };
    host.map("192.0.2.1:53", resolver.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = resolver.accept().await.unwrap();
        let mut query = [0; 5];
        stream.read_exact(&mut query).await.unwrap();
        stream.write_all(&query).await.unwrap();
    });
    let network = network(&host);
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    let dns = SocketAddrV4::new(SERVICE, 53);
    assert_eq!(guest.exchange(dns, b"query").await, b"query");
    network.set_outbound("ocid1.subnet.1", false);
    assert!(!guest.connect(dns).await.1);
}
