//! Frames that no sane guest sends.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::watch;

use crate::limits::{OUTBOX_SIZE_MAX, TCP_FLOWS_MAX, UDP_FLOWS_MAX};
use crate::port::Port;
use crate::router;
use crate::switch::{self, Route, Subnet};
use crate::testing::{ROUTER_MAC, TestHost, TestMetadata, vnic};

/// A port without a link task: frames go straight into the router.
fn bare_port() -> (Arc<Port>, watch::Sender<()>) {
    let (plug, unplugged) = watch::channel(());
    let metadata = Arc::new(TestMetadata { legacy_endpoints_disabled: false });
    let subnet = Arc::new(Subnet::new(true));
    let port = Port::new(vnic(5), subnet, metadata, Arc::new(TestHost::default()), unplugged);
    port.stack().link_up();
    (Arc::new(port), plug)
}

/// Gives the router a frame and takes what it sends.
fn answer_to(port: &Arc<Port>, frame: &[u8]) -> Vec<u8> {
    let mut stack = port.stack();
    router::receive(port, &mut stack, frame);
    stack.poll();
    let mut sent = Vec::new();
    stack.out.take(&mut sent);
    sent
}

/// Frames from plain noise to packets that are right up to a few bytes.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![Just(6_u8), Just(17), Just(1), any::<u8>()];
    let target = prop_oneof![
        Just([169, 254, 169, 254]),
        Just([10, 0, 0, 1]),
        Just([10, 0, 0, 6]),
        Just([198, 51, 100, 7]),
        Just([255, 255, 255, 255]),
        any::<[u8; 4]>(),
    ];
    let payload = prop::collection::vec(any::<u8>(), 0..120);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let packets = (header, target, payload, any::<bool>(), changes).prop_map(
        |(protocol, target, mut payload, is_syn, changes)| {
            if is_syn && payload.len() >= 20 {
                (payload[12], payload[13]) = (0x50, 0x02);
            }
            let mut frame = packet(protocol, target, &payload);
            for (index, byte) in changes {
                let index = index.index(frame.len());
                frame[index] = byte;
            }
            frame
        },
    );
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), packets]
}

fn packet(protocol: u8, target: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = ROUTER_MAC.to_vec();
    frame.extend(vnic(5).mac);
    let size = (20 + payload.len()) as u16;
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(size.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 5]);
    frame.extend(target);
    let sum = checksum(&frame[14..34], 0);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(payload);
    // A correct checksum lets the noise get further in.
    let at = match protocol {
        6 => 16,
        17 => 6,
        1 => 2,
        _ => return frame,
    };
    if payload.len() >= at + 2 {
        if protocol == 17 {
            frame[38..40].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        frame[34 + at..36 + at].fill(0);
        let mut pseudo = [10, 0, 0, 5].to_vec();
        pseudo.extend(target);
        pseudo.extend([0, protocol]);
        pseudo.extend((payload.len() as u16).to_be_bytes());
        let start = if protocol == 1 { 0 } else { sum_words(&pseudo, 0) };
        let sum = checksum(&frame[34..], start);
        frame[34 + at..36 + at].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

fn sum_words(bytes: &[u8], start: u32) -> u32 {
    bytes.chunks(2).fold(start, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
    })
}

fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = sum_words(bytes, start);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_guest_sends_is_bounded_and_never_a_panic(
        frames in prop::collection::vec(frames(), 1..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (port, _plug) = bare_port();
            for frame in &frames {
                let mut stack = port.stack();
                router::receive(&port, &mut stack, frame);
                stack.poll();
                drop(stack);
            }
            tokio::task::yield_now().await;
            let mut waiting = Vec::new();
            port.stack().out.take(&mut waiting);
            assert!(waiting.len() <= OUTBOX_SIZE_MAX + 10_000);
            let mut rest = &waiting[..];
            while let Some((prefix, behind)) = rest.split_first_chunk::<4>() {
                let size = u32::from_be_bytes(*prefix) as usize;
                assert!((60..=9_014).contains(&size));
                assert_eq!(behind[..6], vnic(5).mac);
                rest = &behind[size..];
            }
        });
    }

    #[test]
    fn nothing_is_passed_on_under_a_foreign_address(frame in frames()) {
        let vnic = vnic(5);
        if switch::route(&vnic, &frame) != Route::Drop {
            prop_assert_eq!(&frame[6..12], &vnic.mac);
            let source = if frame[12..14] == [8, 6] { &frame[28..32] } else { &frame[26..30] };
            prop_assert!(source == vnic.private_ip.octets() || source == [0; 4]);
        }
    }
}

#[tokio::test]
async fn floods_of_flows_stop_at_the_limit() {
    let (port, _plug) = bare_port();
    let mut stack = port.stack();
    for source in 1..2_000_u16 {
        // A SYN and a datagram each, from another port.
        let mut syn = vec![0; 20];
        syn[..2].copy_from_slice(&source.to_be_bytes());
        syn[3] = 80;
        (syn[12], syn[13]) = (0x50, 0x02);
        router::receive(&port, &mut stack, &packet(6, [198, 51, 100, 7], &syn));
        router::receive(&port, &mut stack, &packet(6, [169, 254, 169, 254], &syn));
        let mut datagram = vec![0; 9];
        datagram[..2].copy_from_slice(&source.to_be_bytes());
        datagram[3] = 99;
        router::receive(&port, &mut stack, &packet(17, [198, 51, 100, 7], &datagram));
        stack.poll();
    }
    assert_eq!(stack.flow_counts(), (TCP_FLOWS_MAX, UDP_FLOWS_MAX));
}

/// A segment of the guest's one flow to the metadata service.
#[derive(Clone, Debug)]
struct Segment {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    payload: usize,
}

fn segments() -> impl Strategy<Value = Segment> {
    let near = prop_oneof![0..3_u32, 0..100_000_u32, Just(u32::MAX), any::<u32>()];
    let flags = prop_oneof![4 => Just(0x10_u8), 1 => Just(0x11), 1 => Just(0x14), 2 => any::<u8>()];
    let payload = prop_oneof![Just(0_usize), 0..100_usize, Just(8_900)];
    (near.clone(), near, flags, any::<u16>(), payload)
        .prop_map(|(seq, ack, flags, window, payload)| Segment { seq, ack, flags, window, payload })
}

fn segment_frame(seq: u32, ack: u32, flags: u8, window: u16, payload: usize) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0, 80];
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, flags]);
    segment.extend(window.to_be_bytes());
    segment.extend([0; 4]);
    segment.resize(20 + payload, b'G');
    packet(6, [169, 254, 169, 254], &segment)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_established_flow_survives_any_segments(
        segments in prop::collection::vec(segments(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (port, _plug) = bare_port();
            let ours = 1_000_u32;
            let mut theirs = None;
            let syn = segment_frame(ours, 0, 2, 65_535, 0);
            let frames = std::iter::once(syn).chain(segments.iter().map(|segment| {
                let (seq, ack) = (ours.wrapping_add(1).wrapping_add(segment.seq), segment.ack);
                segment_frame(seq, ack, segment.flags, segment.window, segment.payload)
            }));
            for mut frame in frames {
                if let Some(theirs) = theirs {
                    // Relative to what the router really sent, so that some segments are right.
                    let ack = u32::from_be_bytes(frame[42..46].try_into().unwrap());
                    let payload = frame.len() - 54;
                    let window = u16::from_be_bytes([frame[48], frame[49]]);
                    let seq = u32::from_be_bytes(frame[38..42].try_into().unwrap());
                    frame = segment_frame(seq, ack.wrapping_add(theirs), frame[47], window, payload);
                }
                let sent = answer_to(&port, &frame);
                if theirs.is_none() {
                    let sequence = sent[4 + 38..4 + 42].try_into().unwrap();
                    theirs = Some(u32::from_be_bytes(sequence).wrapping_add(1));
                }
                // Lets the metadata service read, write and give up.
                tokio::task::yield_now().await;
            }
            port.stack().poll();
        });
    }
}
