//! The host's network as flows use it: the one place that opens sockets towards the world.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdUdpSocket};

use futures_util::future::BoxFuture;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::dns;
use crate::policy;

/// What the router needs of its host. Tests put another world in its place.
pub(crate) trait Host: Send + Sync {
    /// Connects to a destination that the policy allows.
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>>;

    /// A datagram socket that exchanges datagrams with `to` only.
    fn datagrams(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<UdpSocket>>;

    /// Whether `ip` is an address of the host itself.
    fn owns(&self, ip: Ipv4Addr) -> bool;

    /// The host's resolvers, in the order in which to ask them.
    fn resolvers(&self) -> BoxFuture<'static, Vec<SocketAddr>>;
}

/// The machine that this process runs on.
pub(crate) struct ThisHost;

impl Host for ThisHost {
    fn connect(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(async move {
            let socket = match to {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // A far side that vanished must not hold one of the guest's flows for ever.
            socket.set_keepalive(true)?;
            socket.connect(to).await
        })
    }

    fn datagrams(&self, to: SocketAddr) -> BoxFuture<'static, io::Result<UdpSocket>> {
        Box::pin(async move {
            let any: SocketAddr = match to.ip() {
                IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(to).await?;
            Ok(socket)
        })
    }

    /// Asks the kernel by binding: that succeeds exactly for local addresses, secondary ones and
    /// whole local prefixes included, and costs the same however many routes the host has. Only
    /// where `ip_nonlocal_bind` makes every bind succeed is the routing table read instead.
    /// Not knowing (no descriptor left, table unreadable) counts as owning.
    fn owns(&self, ip: Ipv4Addr) -> bool {
        match StdUdpSocket::bind(SocketAddrV4::new(ip, 0)) {
            Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
            Ok(_) if !nonlocal_bind() => true,
            Ok(_) => std::fs::read_to_string("/proc/net/fib_trie")
                .map_or(true, |table| policy::is_local_in(&table, ip)),
        }
    }

    fn resolvers(&self) -> BoxFuture<'static, Vec<SocketAddr>> {
        Box::pin(dns::host_resolvers())
    }
}

fn nonlocal_bind() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_nonlocal_bind")
        .is_ok_and(|value| value.trim() != "0")
}
