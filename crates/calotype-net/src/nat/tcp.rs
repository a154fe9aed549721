//! TCP flows that a guest opens. The far side is connected first: a guest's handshake completes
//! only for connections that really exist, so refusals look like refusals.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use smoltcp::wire::Icmpv4DstUnreachable;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{DIAL_TIMEOUT, DNS_TIMEOUT, TCP_COPY_SIZE};
use crate::metadata;
use crate::port::Port;
use crate::router;
use crate::stack::{FlowKey, Stack};
use crate::stream::GuestStream;

/// Serves the metadata service on the flow that `syn` asks for.
pub(crate) fn accept_metadata(port: &Arc<Port>, stack: &mut Stack, key: FlowKey, syn: &[u8]) {
    if let Some(handle) = stack.accept(key, syn) {
        let flow_port = Arc::clone(port);
        port.spawn(async move {
            // Made here and not outside: dropping a stream locks the stack, which is locked there.
            let guest = GuestStream::new(Arc::clone(&flow_port), key, handle);
            let vnic_id = flow_port.vnic.id.clone();
            metadata::serve(Arc::clone(&flow_port.metadata), vnic_id, guest).await;
        });
    }
}

/// Connects the flow that `syn` asks for to one of the host's resolvers.
pub(crate) fn accept_dns(port: &Arc<Port>, stack: &mut Stack, key: FlowKey, syn: &[u8]) {
    let host = Arc::clone(&port.host);
    begin(port, stack, key, syn, async move {
        let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
        for resolver in host.resolvers().await {
            match timeout(DNS_TIMEOUT, host.connect(resolver)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    });
}

/// Connects to where `syn`, an IPv4 packet that the policy allows, wants to go.
pub(crate) fn dial(port: &Arc<Port>, stack: &mut Stack, key: FlowKey, syn: &[u8]) {
    let connecting = port.host.connect(SocketAddr::V4(key.far));
    begin(port, stack, key, syn, async move {
        timeout(DIAL_TIMEOUT, connecting).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    });
}

fn begin(
    port: &Arc<Port>,
    stack: &mut Stack,
    key: FlowKey,
    syn: &[u8],
    connecting: impl Future<Output = io::Result<TcpStream>> + Send + 'static,
) {
    stack.dialing.insert(key);
    let syn = syn.to_vec();
    let flow_port = Arc::clone(port);
    let mut outbound = port.subnet.outbound.subscribe();
    port.spawn(async move {
        let dialed = tokio::select! {
            dialed = connecting => dialed,
            _ = outbound.wait_for(|on| !on) => Err(io::ErrorKind::ConnectionRefused.into()),
        };
        let Some((host, guest)) = finish(&flow_port, key, &syn, dialed) else { return };
        drop(syn);
        tokio::select! {
            () = splice(host, guest) => {}
            _ = outbound.wait_for(|on| !on) => {}
        }
    });
}

/// Completes the guest's handshake, or tells it why not.
fn finish(
    port: &Arc<Port>,
    key: FlowKey,
    syn: &[u8],
    dialed: io::Result<TcpStream>,
) -> Option<(TcpStream, GuestStream)> {
    let mut stack = port.stack();
    stack.dialing.remove(&key);
    let flow = match dialed {
        Ok(host) => stack.accept(key, syn).map(|handle| (host, handle)),
        Err(error) => {
            tracing::debug!(vnic = %port.vnic.id, far = %key.far, %error, "flow refused");
            match error.kind() {
                io::ErrorKind::HostUnreachable => {
                    router::refuse(port, &mut stack, Icmpv4DstUnreachable::HostUnreachable, syn);
                }
                io::ErrorKind::NetworkUnreachable => {
                    router::refuse(port, &mut stack, Icmpv4DstUnreachable::NetUnreachable, syn);
                }
                // Unknown to the engine, so it answers with a reset.
                _ => stack.receive(syn),
            }
            None
        }
    };
    drop(stack);
    port.wake();
    flow.map(|(host, handle)| (host, GuestStream::new(Arc::clone(port), key, handle)))
}

/// Carries bytes, half-closes and resets both ways until both sides are done.
pub(crate) async fn splice(mut host: TcpStream, mut guest: GuestStream) {
    // Without it small answers would wait for acknowledgements twice; not vital if refused.
    let _ = host.set_nodelay(true);
    let copied =
        copy_bidirectional_with_sizes(&mut guest, &mut host, TCP_COPY_SIZE, TCP_COPY_SIZE).await;
    if copied.is_err() {
        guest.reset();
        // A broken flow must not look like one that ended well.
        let _ = host.set_zero_linger();
    }
}
