//! The guests' network without root: every VNIC is an Ethernet port inside this process.
//!
//! QEMU (`-netdev stream,server=on,addr.type=unix`) speaks frames over a UNIX socket; this crate is
//! the other end of the cable. Behind it sit one switch per subnet, a virtual router, DHCP, DNS
//! forwarding, the metadata service at 169.254.169.254, outbound flows through host sockets, and
//! the TCP ports an instance publishes on a loopback address of the host.
//!
//! What it guarantees, whatever a guest sends: no frame makes it panic or allocate without bound,
//! a guest cannot speak under another's MAC or IP address, and a guest never reaches the host's own
//! addresses, loopback or link-local services other than the ones offered here.

mod config;
mod dhcp;
mod dns;
mod error;
mod host;
mod limits;
mod link;
mod metadata;
mod nat;
mod network;
mod outbox;
mod packet;
mod policy;
mod port;
mod publish;
mod router;
mod stack;
mod stream;
mod switch;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use config::{PublicAddress, SubnetConfig, VnicConfig};
pub use error::{Error, ErrorKind, Result};
pub use metadata::{MetadataDocument, MetadataSource};
pub use network::{Attachment, VirtualNetwork};
pub use publish::PublishedPort;
