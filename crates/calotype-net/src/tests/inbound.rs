//! From the host into a guest: published ports.

use std::io::ErrorKind;
use std::net::SocketAddr;

use smoltcp::socket::tcp::{RecvError, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::ErrorKind as NetErrorKind;
use crate::testing::{Guest, TestHost, boot, network, public, vnic};

const PORT: u16 = 18_080;
const SIZE: usize = 10 * 1024 * 1024;

/// Bytes that differ everywhere, so that a lost or repeated piece shows.
fn pattern(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

async fn published(guest_port: u16, last: u8) -> (Guest, crate::Attachment, SocketAddr) {
    let network = network(&TestHost::default());
    let mut vnic = vnic(5);
    vnic.public = Some(public(last, vec![guest_port]));
    let (guest, attachment) = boot(&network, vnic).await;
    let ports = attachment.public_ports();
    let port = ports.iter().find(|port| port.guest_port == guest_port).unwrap();
    (guest, attachment, port.address)
}

#[tokio::test]
async fn echoes_ten_mebibytes_unharmed_and_carries_half_closes() {
    let (mut guest, _attachment, address) = published(PORT, 1).await;
    let listener = guest.listen(PORT);
    let echo = tokio::spawn(async move {
        guest
            .until(|guest| {
                let socket = guest.socket(listener);
                while socket.can_recv() && socket.can_send() {
                    let room = socket.send_capacity() - socket.send_queue();
                    let piece = socket
                        .recv(|data| {
                            let size = data.len().min(room);
                            (size, data[..size].to_vec())
                        })
                        .unwrap();
                    assert_eq!(socket.send_slice(&piece).unwrap(), piece.len());
                }
                // The host has said everything: say goodbye only after the last echo.
                if socket.state() == State::CloseWait && !socket.can_recv() {
                    socket.close();
                    return Some(());
                }
                None
            })
            .await;
        // Keep running until everything has arrived.
        guest.until(|guest| (!guest.socket(listener).is_active()).then_some(())).await;
    });
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let sent = pattern(SIZE);
    let writer = {
        let sent = sent.clone();
        tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        })
    };
    let mut received = Vec::new();
    read.read_to_end(&mut received).await.unwrap();
    writer.await.unwrap();
    echo.await.unwrap();
    assert!(received == sent, "{} bytes came back differently", received.len());
}

#[tokio::test]
async fn bytes_that_wait_in_a_closed_flow_are_not_lost() {
    let (mut guest, _attachment, address) = published(PORT, 2).await;
    let listener = guest.listen(PORT);
    let mut host = TcpStream::connect(address).await.unwrap();
    host.shutdown().await.unwrap();
    let sent = pattern(200_000);
    let mut done = 0;
    guest
        .until(|guest| {
            let socket = guest.socket(listener);
            if socket.can_send() {
                done += socket.send_slice(&sent[done..]).unwrap();
                if done == sent.len() {
                    socket.close();
                    return Some(());
                }
            }
            None
        })
        .await;
    guest.until(|guest| (!guest.socket(listener).is_active()).then_some(())).await;
    let mut received = Vec::new();
    host.read_to_end(&mut received).await.unwrap();
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

#[tokio::test]
async fn resets_cross_in_both_directions() {
    let (mut guest, _attachment, address) = published(PORT, 3).await;
    let first = guest.listen(PORT);
    let mut host = TcpStream::connect(address).await.unwrap();
    guest.until(|guest| guest.socket(first).may_send().then_some(())).await;
    guest.socket(first).abort();
    guest.until(|guest| guest.socket(first).remote_endpoint().is_none().then_some(())).await;
    let reset = host.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);

    let second = guest.listen(PORT);
    let host = TcpStream::connect(address).await.unwrap();
    guest.until(|guest| guest.socket(second).may_send().then_some(())).await;
    host.set_zero_linger().unwrap();
    drop(host);
    guest.until(|guest| (!guest.socket(second).is_open()).then_some(())).await;
    let read = guest.socket(second).recv_slice(&mut [0; 1]);
    assert_eq!(read, Err(RecvError::InvalidState));
}

#[tokio::test]
async fn closes_connections_to_a_guest_that_refuses_or_is_not_there() {
    let (mut guest, _attachment, address) = published(PORT, 4).await;
    // Nothing listens in the guest: it answers with a reset.
    let mut host = TcpStream::connect(address).await.unwrap();
    let mut byte = [0; 1];
    let ended = tokio::select! {
        ended = host.read(&mut byte) => ended,
        () = guest.until(|_| None) => unreachable!(),
    };
    assert!(matches!(ended, Ok(0) | Err(_)));
    // The machine is off.
    guest.unplug();
    let mut host = TcpStream::connect(address).await.unwrap();
    assert!(matches!(host.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn publishes_ssh_always_and_falls_back_to_another_port_when_it_cannot() {
    let network = network(&TestHost::default());
    let public = public(5, vec![PORT]);
    let taken = TcpListener::bind((public.ip, PORT)).await.unwrap();
    let also_taken = TcpListener::bind((public.ip, PORT + 2_200)).await.unwrap();
    let mut vnic = vnic(5);
    vnic.public = Some(public.clone());
    let guest = Guest::new(&vnic);
    let attachment = network.attach(vnic.clone(), guest.path()).await.unwrap();
    let ports = attachment.public_ports();
    assert_eq!(ports.iter().map(|port| port.guest_port).collect::<Vec<_>>(), [22, PORT]);
    assert!([22, 2_222].contains(&ports[0].address.port()), "{ports:?}");
    assert!(!(ports[1].address.port() == PORT || ports[1].address.port() == PORT + 2_200));
    assert!(ports.iter().all(|port| port.address.ip() == public.ip));
    drop((taken, also_taken));

    // What was taken is free now, also what the attachment itself held a moment ago.
    drop(attachment);
    for _ in 0..3 {
        let attachment = network.attach(vnic.clone(), guest.path()).await.unwrap();
        assert_eq!(attachment.public_ports()[1].address.port(), PORT);
    }
}

#[tokio::test]
async fn refuses_taken_and_impossible_addresses() {
    let network = network(&TestHost::default());
    let attach = |vnic| network.attach(vnic, "/nowhere".into());
    let _attachment = attach(vnic(5)).await.unwrap();
    let kind = |result: crate::Result<_>| result.map(|_: crate::Attachment| ()).unwrap_err().kind();
    assert_eq!(kind(attach(vnic(5)).await), NetErrorKind::AddressInUse);
    let mut same_mac = vnic(6);
    same_mac.mac = vnic(5).mac;
    assert_eq!(kind(attach(same_mac).await), NetErrorKind::AddressInUse);
    for spoil in [
        |vnic: &mut crate::VnicConfig| vnic.private_ip = [10, 0, 1, 5].into(),
        |vnic: &mut crate::VnicConfig| vnic.private_ip = [10, 0, 0, 0].into(),
        |vnic: &mut crate::VnicConfig| vnic.private_ip = [10, 0, 0, 255].into(),
        |vnic: &mut crate::VnicConfig| vnic.private_ip = [10, 0, 0, 1].into(),
        |vnic: &mut crate::VnicConfig| vnic.mac[0] = 1,
        |vnic: &mut crate::VnicConfig| vnic.subnet.mtu = 500,
        |vnic: &mut crate::VnicConfig| vnic.subnet.cidr.1 = 33,
        |vnic: &mut crate::VnicConfig| vnic.public = Some(public(9, vec![0])),
    ] {
        let mut spoiled = vnic(7);
        spoil(&mut spoiled);
        assert_eq!(kind(attach(spoiled).await), NetErrorKind::InvalidConfig);
    }
    let mut unbindable = vnic(8);
    unbindable.public =
        Some(crate::PublicAddress { ip: [198, 51, 100, 7].into(), tcp_ports: vec![] });
    assert_eq!(kind(attach(unbindable).await), NetErrorKind::PublishFailed);
}
