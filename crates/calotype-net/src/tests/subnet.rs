//! Between the guests of a subnet, and across link losses.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::testing::{ROUTER, TestHost, boot, network, vnic};

#[tokio::test]
async fn neighbours_ping_and_talk_to_each_other() {
    let network = network(&TestHost::default());
    let (mut one, _one) = boot(&network, vnic(5)).await;
    let (mut two, _two) = boot(&network, vnic(6)).await;
    let listener = two.listen(80);
    let server = tokio::spawn(two.serve(move |two| {
        let socket = two.socket(listener);
        if socket.can_recv() {
            let data = socket.recv(|data| (data.len(), data.to_vec())).unwrap();
            socket.send_slice(&data).unwrap();
            socket.close();
        }
    }));
    let ip = Ipv4Addr::new(10, 0, 0, 6);
    assert!(one.ping(ip).await);
    assert_eq!(one.exchange(SocketAddrV4::new(ip, 80), b"neighbour").await, b"neighbour");
    server.abort();
}

#[tokio::test]
async fn subnets_do_not_see_each_other() {
    let network = network(&TestHost::default());
    let (mut one, _one) = boot(&network, vnic(5)).await;
    let mut other = vnic(6);
    other.subnet.id = "ocid1.subnet.2".into();
    let (mut two, _two) = boot(&network, other).await;
    two.captured = Some(Vec::new());
    // A broadcast question and a unicast frame, then something that is answered for sure.
    let mut frame = arp_request(5, Ipv4Addr::new(10, 0, 0, 6));
    one.send_raw(&frame);
    frame[..6].copy_from_slice(&vnic(6).mac);
    one.send_raw(&frame);
    assert!(one.ping(ROUTER).await);
    assert!(two.ping(ROUTER).await);
    let seen = two.captured.take().unwrap();
    assert!(seen.iter().all(|frame| frame[6..12] != vnic(5).mac), "a frame crossed subnets");
}

fn arp_request(sender: u8, target: Ipv4Addr) -> Vec<u8> {
    let vnic = vnic(sender);
    let mut frame = vec![0xff; 6];
    frame.extend(vnic.mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(vnic.mac);
    frame.extend(vnic.private_ip.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

#[tokio::test]
async fn spoofed_frames_reach_nobody() {
    let network = network(&TestHost::default());
    let (mut one, _one) = boot(&network, vnic(5)).await;
    let (mut two, _two) = boot(&network, vnic(6)).await;
    two.captured = Some(Vec::new());
    let target = Ipv4Addr::new(10, 0, 0, 6);
    let honest = arp_request(5, target);
    let mut ethernet_source = honest.clone();
    ethernet_source[11] = 9;
    let mut arp_hardware = honest.clone();
    arp_hardware[27] = 9;
    let mut arp_address = honest.clone();
    arp_address[28..32].copy_from_slice(&ROUTER.octets());
    let mut ip = two_addressed_packet();
    one.send_raw(&ethernet_source);
    one.send_raw(&arp_hardware);
    one.send_raw(&arp_address);
    one.send_raw(&ip);
    // IPv6, and a packet for one neighbour addressed to all.
    ip[12..14].copy_from_slice(&[0x86, 0xdd]);
    one.send_raw(&ip);
    assert!(one.ping(ROUTER).await);
    assert!(two.ping(ROUTER).await);
    assert!(two.captured.as_ref().unwrap().iter().all(|frame| frame[6..11] != vnic(5).mac[..5]));
    one.send_raw(&honest);
    assert!(one.ping(ROUTER).await);
    two.until(|two| {
        two.captured.as_ref().unwrap().iter().any(|frame| frame[6..12] == vnic(5).mac).then_some(())
    })
    .await;
}

/// An IPv4 packet from 10.0.0.9, which is not the sender's address, to 10.0.0.6.
fn two_addressed_packet() -> Vec<u8> {
    let mut frame = vnic(6).mac.to_vec();
    frame.extend(vnic(5).mac);
    frame.extend([8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, 9, 10, 0, 0, 6]);
    frame
}

#[tokio::test]
async fn a_guest_that_reads_nothing_harms_nobody() {
    let network = network(&TestHost::default());
    let (mut one, _one) = boot(&network, vnic(5)).await;
    // Plugged in, but never run: its socket fills, then its queues.
    let (_two, _attachment) = boot(&network, vnic(6)).await;
    let mut frame = vnic(6).mac.to_vec();
    frame.extend(vnic(5).mac);
    frame.extend([8, 0, 0x45, 0, 0x23, 0x28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, 5, 10, 0, 0, 6]);
    frame.resize(9_014, 0);
    for _ in 0..100 {
        for _ in 0..20 {
            one.send_raw(&frame);
        }
        assert!(one.ping(ROUTER).await);
    }
}

#[tokio::test]
async fn comes_back_after_the_link_was_lost() {
    let network = network(&TestHost::default());
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    assert!(guest.ping(ROUTER).await);
    for _ in 0..3 {
        guest.unplug();
        guest.listen_again();
        guest.plug().await;
        assert!(guest.ping(ROUTER).await);
        assert_eq!(guest.get("/opc/v1/vnics/0/vnicId", "").await.1, "ocid1.vnic.5");
    }
}

#[tokio::test]
async fn an_impossible_frame_length_ends_the_link_and_a_new_one_works() {
    let network = network(&TestHost::default());
    let (mut guest, _attachment) = boot(&network, vnic(5)).await;
    guest.send_bytes(&[0xff; 4]).await.unwrap();
    guest.plug().await;
    assert!(guest.ping(ROUTER).await);
    // An empty frame and one of a single byte are only malformed.
    guest.send_bytes(&[0, 0, 0, 0, 0, 0, 0, 1, 9]).await.unwrap();
    assert!(guest.ping(ROUTER).await);
}
