//! Published ports: the host's listeners that lead into a guest.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::config::PublicAddress;
use crate::error::{Error, Result};
use crate::limits::{ACCEPT_RETRY_DELAY, GUEST_CONNECT_TIMEOUT};
use crate::nat::tcp::splice;
use crate::port::Port;
use crate::stream::GuestStream;

/// Always published: a machine nobody can log in to helps nobody.
const SSH_PORT: u16 = 22;
/// Where a port that cannot be had is looked for first: 22 becomes 2222.
const FALLBACK_OFFSET: u16 = 2_200;

/// A guest port and where the host reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    /// TCP port in the guest.
    pub guest_port: u16,
    /// Listening address of the host. Its port is the guest's where possible, else a free one.
    pub address: SocketAddr,
}

/// A listener that is bound but leads nowhere yet.
pub(crate) struct Publication {
    guest_port: u16,
    listener: TcpListener,
    address: SocketAddr,
}

impl Publication {
    pub(crate) fn port(&self) -> PublishedPort {
        PublishedPort { guest_port: self.guest_port, address: self.address }
    }

    /// Leads connections into the guest until the VNIC is unplugged.
    pub(crate) fn serve(self, port: &Arc<Port>) {
        let task_port = Arc::clone(port);
        port.spawn(async move {
            loop {
                match self.listener.accept().await {
                    Ok((host, _)) => admit(&task_port, self.guest_port, host),
                    Err(error) => {
                        tracing::warn!(address = %self.address, %error, "cannot accept");
                        sleep(ACCEPT_RETRY_DELAY).await;
                    }
                }
            }
        });
    }
}

/// Binds everything that `public` asks for.
pub(crate) async fn bind(public: &PublicAddress) -> Result<Vec<Publication>> {
    let mut guest_ports = public.tcp_ports.clone();
    guest_ports.push(SSH_PORT);
    guest_ports.sort_unstable();
    guest_ports.dedup();
    let mut publications = Vec::with_capacity(guest_ports.len());
    for guest_port in guest_ports {
        let subject = || format!("{}:{guest_port}", public.ip);
        if guest_port == 0 {
            return Err(Error::invalid("public.tcp_ports", "ports from 1 to 65,535"));
        }
        let listener = bind_near(public.ip, guest_port)
            .await
            .map_err(|error| Error::publish(subject(), error))?;
        let address = listener.local_addr().map_err(|error| Error::publish(subject(), error))?;
        publications.push(Publication { guest_port, listener, address });
    }
    Ok(publications)
}

/// The port itself; else, when it needs privileges or is taken, one that is easy to guess; else any.
async fn bind_near(ip: Ipv4Addr, guest_port: u16) -> io::Result<TcpListener> {
    let near = guest_port.checked_add(FALLBACK_OFFSET).unwrap_or(0);
    for port in [guest_port, near, 0] {
        match TcpListener::bind((ip, port)).await {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse
                ) => {}
            bound_or_hopeless => return bound_or_hopeless,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Opens the way into the guest for one connection. A guest that is not up, or not yet listening,
/// means that the connection is closed at once: a tool that waits for SSH tries again.
fn admit(port: &Arc<Port>, guest_port: u16, host: TcpStream) {
    let Some((key, handle)) = port.stack().connect(guest_port) else { return };
    let mut guest = GuestStream::new(Arc::clone(port), key, handle);
    port.wake();
    port.spawn(async move {
        match timeout(GUEST_CONNECT_TIMEOUT, guest.established()).await {
            Ok(Ok(())) => splice(host, guest).await,
            Ok(Err(_)) | Err(_) => guest.reset(),
        }
    });
}
