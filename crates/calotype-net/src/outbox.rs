//! Frames on their way to one guest, already in the link's framing, in one bounded buffer.
//!
//! Everything that the router and the neighbours send goes through here, so that a slow guest costs
//! a constant amount of memory and one `write` carries many frames.

use smoltcp::phy::{ChecksumCapabilities, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::limits::OUTBOX_SIZE_MAX;

const ETHERNET_HEADER_SIZE: usize = 14;
/// Shorter frames are padded, as hardware would.
const FRAME_SIZE_MIN: usize = 60;

/// Frames waiting for the guest, each behind its 4-byte big-endian length.
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// Destination, source and type of every IPv4 frame from the router.
    header: [u8; ETHERNET_HEADER_SIZE],
    mtu: usize,
    /// Without a link nothing is kept: a cable that is not plugged in loses frames.
    link_up: bool,
}

impl Outbox {
    pub(crate) fn new(guest_mac: [u8; 6], router_mac: [u8; 6], mtu: u16) -> Self {
        let mut header = [0; ETHERNET_HEADER_SIZE];
        header[..6].copy_from_slice(&guest_mac);
        header[6..12].copy_from_slice(&router_mac);
        header[12..].copy_from_slice(&[0x08, 0x00]);
        Self { bytes: Vec::new(), header, mtu: mtu.into(), link_up: false }
    }

    /// Tells whether there is a link; a change of it loses what waits.
    pub(crate) fn set_link(&mut self, up: bool) {
        self.link_up = up;
        self.bytes.clear();
    }

    pub(crate) fn link_up(&self) -> bool {
        self.link_up
    }

    pub(crate) fn mtu(&self) -> usize {
        self.mtu
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes.len() < OUTBOX_SIZE_MAX
    }

    /// Hands over what waits, in exchange for an empty buffer.
    pub(crate) fn take(&mut self, empty: &mut Vec<u8>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.bytes, empty);
    }

    /// Queues a whole Ethernet frame, or drops it when there is no room.
    pub(crate) fn push_frame(&mut self, frame: &[u8]) {
        if let Some(space) = self.reserve(frame.len()) {
            space.copy_from_slice(frame);
        }
    }

    /// Queues an IPv4 packet of `size` bytes that `fill` writes, or drops it.
    pub(crate) fn push_packet(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        let header = self.header;
        if size > self.mtu {
            return;
        }
        if let Some(space) = self.reserve((ETHERNET_HEADER_SIZE + size).max(FRAME_SIZE_MIN)) {
            space[..ETHERNET_HEADER_SIZE].copy_from_slice(&header);
            fill(&mut space[ETHERNET_HEADER_SIZE..ETHERNET_HEADER_SIZE + size]);
        }
    }

    fn reserve(&mut self, size: usize) -> Option<&mut [u8]> {
        if !self.link_up || !self.has_room() {
            return None;
        }
        let prefix = u32::try_from(size).ok()?.to_be_bytes();
        self.bytes.extend_from_slice(&prefix);
        let start = self.bytes.len();
        self.bytes.resize(start + size, 0);
        Some(&mut self.bytes[start..])
    }
}

/// The TCP engine's view of the port for one call: at most one packet in, any number out.
pub(crate) struct Device<'a> {
    pub(crate) packet: Option<&'a [u8]>,
    pub(crate) out: &'a mut Outbox,
}

impl smoltcp::phy::Device for Device<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.packet.take()?;
        Some((Incoming(packet), Outgoing(self.out)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        // Saying no makes flows wait; without a link they must go on to their timeouts instead.
        (self.out.has_room() || !self.out.link_up).then_some(Outgoing(self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.out.mtu;
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

/// A packet from the guest.
pub(crate) struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for one packet to the guest.
pub(crate) struct Outgoing<'a>(&'a mut Outbox);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, size: usize, f: F) -> R {
        let mut f = Some(f);
        let mut result = None;
        self.0.push_packet(size, |space| result = f.take().map(|f| f(space)));
        // The engine needs its answer even when the packet is lost.
        match (result, f) {
            (Some(result), _) => result,
            (None, Some(f)) => f(&mut vec![0; size]),
            (None, None) => unreachable!("the closure is gone only with its result"),
        }
    }
}
