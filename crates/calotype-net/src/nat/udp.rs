//! UDP flows that a guest opens: one connected host socket per flow, closed when idle.

use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::limits::{UDP_FLOWS_MAX, UDP_IDLE_TIMEOUT, UDP_QUEUE_MAX};
use crate::packet;
use crate::port::Port;
use crate::stack::{FlowKey, Stack};

const DATAGRAM_SIZE_MAX: usize = 65_535;

/// The UDP flows of one port: where to hand further datagrams of each.
#[derive(Default)]
pub(crate) struct UdpFlows(HashMap<FlowKey, mpsc::Sender<Bytes>>);

impl UdpFlows {
    /// Whether the flow has begun and not ended.
    pub(crate) fn contains(&self, key: FlowKey) -> bool {
        self.0.contains_key(&key)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Sends a datagram of the guest on its flow, beginning one if needed. What exceeds a limit is
/// lost, as datagrams may be.
pub(crate) fn forward(port: &Arc<Port>, stack: &mut Stack, key: FlowKey, data: &[u8]) {
    let flows = &mut stack.udp.0;
    if !flows.contains_key(&key) {
        if flows.len() >= UDP_FLOWS_MAX {
            return;
        }
        flows.insert(key, begin(port, key));
    }
    if let Some(flow) = flows.get(&key) {
        let _ = flow.try_send(Bytes::copy_from_slice(data));
    }
}

fn begin(port: &Arc<Port>, key: FlowKey) -> mpsc::Sender<Bytes> {
    let (sender, datagrams) = mpsc::channel(UDP_QUEUE_MAX);
    let flow_port = Arc::clone(port);
    let mut outbound = port.subnet.outbound.subscribe();
    port.spawn(async move {
        tokio::select! {
            () = run(&flow_port, key, datagrams) => {}
            _ = outbound.wait_for(|on| !on) => {}
        }
        flow_port.stack().udp.0.remove(&key);
    });
    sender
}

async fn run(port: &Port, key: FlowKey, mut datagrams: mpsc::Receiver<Bytes>) {
    let socket = match port.host.datagrams(SocketAddr::V4(key.far)).await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(vnic = %port.vnic.id, far = %key.far, %error, "no socket for datagrams");
            return;
        }
    };
    let guest = SocketAddrV4::new(port.vnic.private_ip, key.guest_port);
    let mut buffer = vec![0; DATAGRAM_SIZE_MAX];
    let mut idle_at = Instant::now() + UDP_IDLE_TIMEOUT;
    loop {
        tokio::select! {
            datagram = datagrams.recv() => {
                let Some(datagram) = datagram else { return };
                send(&socket, &datagram).await;
            }
            received = socket.recv(&mut buffer) => {
                // An error here is an ICMP message about an earlier datagram: the flow goes on.
                if let Ok(size) = received {
                    packet::send_udp(&mut port.stack().out, key.far, guest, &buffer[..size]);
                    port.wake();
                }
            }
            () = sleep_until(idle_at) => return,
        }
        idle_at = Instant::now() + UDP_IDLE_TIMEOUT;
    }
}

async fn send(socket: &UdpSocket, datagram: &[u8]) {
    if let Err(error) = socket.send(datagram).await {
        tracing::debug!(%error, "datagram lost");
    }
}
