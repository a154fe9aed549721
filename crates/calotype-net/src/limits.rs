//! Every bound of the virtual network in one place. What exceeds one is dropped or refused.

use std::time::Duration;

/// Smallest IP MTU of a subnet in bytes (what every IPv4 host must accept).
pub(crate) const MTU_MIN: u16 = 576;
/// Largest IP MTU of a subnet in bytes.
pub(crate) const MTU_MAX: u16 = 9_216;

/// Largest length prefix believed on the link, in bytes. QEMU never sends more than 64 KiB of
/// packet behind an Ethernet header; a larger number means that framing is lost.
pub(crate) const FRAME_SIZE_MAX: usize = 65_550;
/// Bytes read from the link at once. Must hold the largest frame with its prefix.
pub(crate) const LINK_READ_SIZE: usize = 256 * 1024;
/// Bytes that may wait for a slow guest before frames to it are dropped. TCP flows are not dropped
/// but wait, so this also bounds what they have in flight.
pub(crate) const OUTBOX_SIZE_MAX: usize = 1024 * 1024;
/// Frames from neighbours that may wait for a slow guest before more are dropped.
pub(crate) const NEIGHBOUR_FRAMES_MAX: usize = 512;

/// Pause before the link is tried again, at first and at most.
pub(crate) const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(50);
/// See `RECONNECT_DELAY_MIN`.
pub(crate) const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// TCP flows of one VNIC, both directions and the metadata service together.
pub(crate) const TCP_FLOWS_MAX: usize = 256;
/// Send and receive buffer of a TCP flow, in bytes each. With `TCP_FLOWS_MAX` this bounds the
/// memory that one guest can make us hold to 128 MiB.
pub(crate) const TCP_BUFFER_SIZE: usize = 256 * 1024;
/// Bytes moved between a host socket and a flow at once, per direction.
pub(crate) const TCP_COPY_SIZE: usize = 64 * 1024;
/// How long the host side of an outbound flow may take to connect.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a guest may take to answer an inbound connection.
pub(crate) const GUEST_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent flow is probed this often.
pub(crate) const TCP_KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A guest that acknowledges nothing for this long is gone.
pub(crate) const TCP_DEAD_AFTER: Duration = Duration::from_mins(5);
/// How long a flow whose host side is done may take to close.
pub(crate) const TCP_LINGER: Duration = Duration::from_secs(30);

/// UDP flows of one VNIC.
pub(crate) const UDP_FLOWS_MAX: usize = 256;
/// Datagrams of one UDP flow that may wait for its host socket.
pub(crate) const UDP_QUEUE_MAX: usize = 64;
/// A UDP flow without a datagram in either direction ends after this.
pub(crate) const UDP_IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// DNS queries of one VNIC that may be under way at once.
pub(crate) const DNS_QUERIES_MAX: usize = 64;
/// How long one resolver may take before the next one is asked.
pub(crate) const DNS_TIMEOUT: Duration = Duration::from_secs(3);
/// Resolvers taken from the host's configuration, as the C library does.
pub(crate) const DNS_RESOLVERS_MAX: usize = 3;
/// Bytes read of the host's resolver configuration.
pub(crate) const RESOLV_CONF_SIZE_MAX: usize = 64 * 1024;

/// How long a client of the metadata service may take to send a request head.
pub(crate) const METADATA_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a metadata request's path.
pub(crate) const METADATA_PATH_SIZE_MAX: usize = 4_096;

/// Pause after the host refuses to accept a connection (out of descriptors).
pub(crate) const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
