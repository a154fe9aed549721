//! DNS for guests: queries to 169.254.169.254:53 go to the resolvers that the host itself uses.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::host::Host;
use crate::limits::{DNS_RESOLVERS_MAX, DNS_TIMEOUT, RESOLV_CONF_SIZE_MAX};
use crate::packet;
use crate::policy::SERVICE_IP;
use crate::port::Port;

const DNS_PORT: u16 = 53;
const DNS_HEADER_SIZE: usize = 12;
const DATAGRAM_SIZE_MAX: usize = 65_535;

/// Forwards one query; the answer comes when it comes. Too many at once are dropped, as a busy
/// resolver would.
pub(crate) fn forward(port: &Arc<Port>, guest: SocketAddrV4, query: &[u8]) {
    if query.len() < DNS_HEADER_SIZE {
        return;
    }
    let Ok(permit) = port.dns_queries.clone().try_acquire_owned() else { return };
    let query = query.to_vec();
    let task_port = Arc::clone(port);
    port.spawn(async move {
        if let Some(answer) = ask_all(task_port.host.as_ref(), &query).await {
            let service = SocketAddrV4::new(SERVICE_IP, DNS_PORT);
            packet::send_udp(&mut task_port.stack().out, service, guest, &answer);
            task_port.wake();
        }
        drop(permit);
    });
}

async fn ask_all(host: &dyn Host, query: &[u8]) -> Option<Vec<u8>> {
    for resolver in host.resolvers().await {
        match timeout(DNS_TIMEOUT, ask(host, resolver, query)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%resolver, %error, "resolver failed"),
            Err(_) => tracing::debug!(%resolver, "resolver did not answer"),
        }
    }
    None
}

async fn ask(host: &dyn Host, resolver: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = host.datagrams(resolver).await?;
    socket.send(query).await?;
    let mut answer = vec![0; DATAGRAM_SIZE_MAX];
    loop {
        let size = socket.recv(&mut answer).await?;
        // The same transaction, or it is not the answer.
        if size >= DNS_HEADER_SIZE && answer[..2] == query[..2] {
            answer.truncate(size);
            return Ok(answer);
        }
    }
}

/// The resolvers of `/etc/resolv.conf`, read anew each time because laptops move.
pub(crate) async fn host_resolvers() -> Vec<SocketAddr> {
    let mut text = Vec::new();
    if let Ok(file) = tokio::fs::File::open("/etc/resolv.conf").await {
        let limit = RESOLV_CONF_SIZE_MAX as u64;
        if file.take(limit).read_to_end(&mut text).await.is_err() {
            return Vec::new();
        }
    }
    resolvers_in(&String::from_utf8_lossy(&text))
}

fn resolvers_in(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            words.next()?.parse::<IpAddr>().ok()
        })
        .take(DNS_RESOLVERS_MAX)
        .map(|ip| SocketAddr::new(ip, DNS_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_at_most_three_resolvers_and_skips_what_it_does_not_understand() {
        let text = "# nameserver 9.9.9.9\nsearch x.y\nnameserver 127.0.0.53\nnameserver nonsense\n\
                    nameserver fe80::1%eth0\n  nameserver\t2001:db8::1\nnameserver 10.0.0.2 # x\n\
                    nameserver 10.0.0.3";
        let expected = ["127.0.0.53:53", "[2001:db8::1]:53", "10.0.0.2:53"];
        assert_eq!(resolvers_in(text), expected.map(|address| address.parse().unwrap()));
    }
}
