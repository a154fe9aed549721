//! Connections: accepted up to a bound, given a time for everything, and let finish when the service stops.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Dispatch;
use super::exchange::Exchange;
use super::limits::{
    BODY_TIME_MAX, CONNECTIONS_MAX, HANDSHAKE_TIME_MAX, HEADERS_TIME_MAX, PARSER_BYTES_MAX,
    PARSER_HEADERS_MAX, SHUTDOWN_TIME_MAX, UNSENT_BYTES_MAX,
};
use super::pace::Paced;

/// How long to wait when the system has no more file descriptors: accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client that speaks SSH begins with, `SSH-2.0-`, and one that speaks TLS never does.
const SSH_FIRST_BYTE: u8 = b'S';

/// Serves until `shutdown` is there, then lets the requests in progress finish for a bounded time.
pub async fn serve<D: Dispatch>(
    listener: TcpListener,
    tls: ServerConfig,
    dispatch: Arc<D>,
    shutdown: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let exchange = Arc::new(Exchange::new(dispatch));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            () = shutdown.as_mut() => break,
            Some(_) = connections.join_next() => continue,
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => (place, stream),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (acceptor, exchange) = (acceptor.clone(), Arc::clone(&exchange));
        let stopping = stopping.clone();
        connections.spawn(async move {
            connection(stream, acceptor, exchange, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    // Nobody listens if there is no connection.
    let _ = stop.send(true);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_TIME_MAX, finished).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections were cut off");
        connections.shutdown().await;
    }
}

async fn connection<D: Dispatch>(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    exchange: Arc<Exchange<D>>,
    mut stopping: watch::Receiver<bool>,
) {
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%error, "a connection's options could not be set");
    }
    // An error means that the service is gone altogether, which is a stop too.
    let stopped = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
    let mut first = [0];
    match timeout(HANDSHAKE_TIME_MAX, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == SSH_FIRST_BYTE => return exchange.ssh(stream, stopped).await,
        Ok(Ok(1)) => {}
        _ => return tracing::debug!("a client said nothing"),
    }
    let stream = match timeout(HANDSHAKE_TIME_MAX, acceptor.accept(Paced::new(stream))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let service = service_fn(|request| {
        let exchange = Arc::clone(&exchange);
        async move { Ok::<_, Infallible>(exchange.answer(request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_TIME_MAX)
            .max_buf_size(PARSER_BYTES_MAX)
            .max_headers(PARSER_HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Answers are small and waited for; and a client that does not take its answer may not keep its place.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let milliseconds = u32::try_from(BODY_TIME_MAX.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::limits::PACE_BYTES;

    /// Else it tells so seldom that a client takes something that who does his due seems not to.
    #[tokio::test]
    async fn the_kernel_holds_little_of_what_must_be_taken_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        set_options(&stream).unwrap();
        let held = SockRef::from(&stream).tcp_notsent_lowat().unwrap();
        assert!(held as usize <= PACE_BYTES / 4, "{held} bytes");
    }
}
