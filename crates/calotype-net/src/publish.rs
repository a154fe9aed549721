//! Published ports: the host's listeners that lead into a guest.

use std::net::SocketAddr;

/// A guest port and where the host reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    /// TCP port in the guest.
    pub guest_port: u16,
    /// Listening address of the host. Its port is the guest's where possible, else a free one.
    pub address: SocketAddr,
}
