//! Instances' consoles over SSH, at the port of all services: who speaks SSH there comes here.
//!
//! ```text
//!   ssh -o ProxyCommand='ssh -W %h:%p -p PORT <connection>@HOST' <instance>
//!
//!   the inner ssh ── TCP ── jump      knows the connection by its user name, checks its key,
//!                             │       and leads nowhere but to the instance of the connection
//!   the outer ssh ── channel ─┴ room  checks the same key again
//!                                 ├── a session is the serial console
//!                                 └── port 5900 is the screen, by VNC
//! ```
//!
//! * The key of the connection is the only way in; no password, no other key, no other instance.
//! * Several sessions may be on one console: all see what it shows, and what each types goes to it.
//! * A session ends with its connection when that is deleted, after 24 hours, and with the service.
//! * Strangers get little: few connections, little time to show a key, small windows. However many they are, they take no
//!   place from those who have shown theirs.

use std::net::Shutdown;
use std::sync::{Arc, Weak};

use calotype_api::ocid::Ocid;
use russh::keys::{HashAlg, PrivateKey};
use russh::server::Config;
use russh::{Disconnect, MethodKind, MethodSet};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{sleep, timeout};

use self::jump::Jump;
use self::limits::{
    AUTHENTICATION_TIME_MAX, DELETIONS_KEPT, FAREWELL_TIME_MAX, KEEPALIVE_INTERVAL, KEEPALIVES_MAX,
    PACKET_BYTES_MAX, PACKETS_QUEUED_MAX, REJECTION_TIME, SESSION_TIME_MAX, SESSIONS_MAX,
    STRANGERS_MAX, WINDOW_BYTES,
};
use crate::config::Paths;
use crate::error::Result;
use crate::region::Region;

pub mod host_key;
mod jump;
mod limits;
mod pass;
mod room;
mod serial;
mod tasks;

/// The consoles of a region.
pub struct Consoles {
    host_key: PrivateKey,
    strangers: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    deleted: broadcast::Sender<Ocid>,
}

impl Consoles {
    /// No sessions yet. The host key is that of the region, made if there is none.
    pub fn open(paths: &Paths) -> Result<Self> {
        Ok(Self {
            host_key: host_key::load_or_create(paths)?,
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            deleted: broadcast::Sender::new(DELETIONS_KEPT),
        })
    }

    /// What `ssh` shows of the host key.
    pub fn host_key_fingerprint(&self) -> String {
        self.host_key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Ends the sessions of a console connection that was deleted.
    pub fn close(&self, connection: &Ocid) {
        // Nobody listens if there is no session.
        let _ = self.deleted.send(connection.clone());
    }

    /// Serves one client that speaks SSH, until it goes or must go. `stopping` resolves when the
    /// service stops.
    pub(crate) async fn serve(
        &self,
        region: &Arc<Region>,
        stream: TcpStream,
        stopping: impl Future<Output = ()>,
    ) {
        let result = tokio::select! {
            result = self.session(Arc::downgrade(region), stream) => result,
            () = stopping => return,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "an SSH connection ended with an error");
        }
    }

    async fn session(
        &self,
        region: Weak<Region>,
        stream: TcpStream,
    ) -> std::result::Result<(), russh::Error> {
        // Another hold on the socket, by which a client is cut off that does not go by itself.
        let stream = stream.into_std()?;
        let _cut = CutOnDrop(stream.try_clone()?);
        let stream = TcpStream::from_std(stream)?;
        // Before the key is checked, so that no deletion after it is missed.
        let deleted = self.deleted.subscribe();
        let (shown, mut entered) = watch::channel(None);
        let config = Arc::new(self.config());
        let jump = Jump::new(region, Arc::clone(&config), shown);
        let stranger = place(&self.strangers)?;
        let begun = async {
            let session = russh::server::run_stream(config, stream, jump).await?;
            // An error means that the client is gone; that is seen below.
            let entered = entered.wait_for(Option::is_some).await;
            Ok::<_, russh::Error>((session, entered.ok().and_then(|entered| entered.clone())))
        };
        let Ok(begun) = timeout(AUTHENTICATION_TIME_MAX, begun).await else {
            return Err(russh::Error::ConnectionTimeout);
        };
        let (mut session, Some(connection)) = begun? else { return Ok(()) };
        let _place = place(&self.sessions)?;
        drop(stranger);
        tracing::info!(%connection, "a console session begins");
        let why = tokio::select! {
            ended = &mut session => {
                tracing::info!(%connection, "a console session ended");
                return ended;
            }
            why = must_end(deleted, &connection) => why,
        };
        tracing::info!(%connection, why, "a console session is ended");
        let farewell = async {
            let handle = session.handle();
            let reason = Disconnect::ByApplication;
            handle.disconnect(reason, why.to_owned(), String::new()).await?;
            session.await
        };
        timeout(FAREWELL_TIME_MAX, farewell).await.unwrap_or(Ok(()))
    }

    fn config(&self) -> Config {
        Config {
            server_id: russh::SshId::Standard("SSH-2.0-calotype".into()),
            methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
            auth_rejection_time: REJECTION_TIME,
            // Clients ask first what is possible.
            auth_rejection_time_initial: Some(std::time::Duration::ZERO),
            keys: vec![self.host_key.clone()],
            window_size: WINDOW_BYTES,
            maximum_packet_size: PACKET_BYTES_MAX,
            channel_buffer_size: PACKETS_QUEUED_MAX,
            max_auth_attempts: limits::ATTEMPTS_MAX,
            // A console may be watched for hours; whether the client is still there is asked.
            inactivity_timeout: None,
            keepalive_interval: Some(KEEPALIVE_INTERVAL),
            keepalive_max: KEEPALIVES_MAX,
            nodelay: true,
            ..Config::default()
        }
    }
}

/// A place among clients of one kind; whoever finds none is cut off, so that all others go on.
fn place(places: &Arc<Semaphore>) -> std::result::Result<OwnedSemaphorePermit, russh::Error> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        tracing::warn!("too many SSH connections: one is refused");
        russh::Error::Disconnect
    })
}

/// Shuts the socket down: whatever task still has it finds it at its end.
struct CutOnDrop(std::net::TcpStream);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Resolves when a session must end, and says why.
async fn must_end(deleted: broadcast::Receiver<Ocid>, connection: &Ocid) -> &'static str {
    tokio::select! {
        () = sleep(SESSION_TIME_MAX) => "the session ends after 24 hours",
        () = is_deleted(deleted, connection) => "the console connection was deleted",
    }
}

/// Resolves when the connection is deleted. One that might have been missed counts as this one: who may
/// still connect does so again.
async fn is_deleted(mut deleted: broadcast::Receiver<Ocid>, connection: &Ocid) {
    while deleted.recv().await.is_ok_and(|id| id != *connection) {}
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn connection(number: u8) -> Ocid {
        format!(
            "ocid1.instanceconsoleconnection.oc99.home-1.{}",
            "a".repeat(59) + &number.to_string()
        )
        .parse()
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_after_a_day() {
        let (_deletions, deleted) = broadcast::channel(DELETIONS_KEPT);
        let begin = Instant::now();
        assert_eq!(must_end(deleted, &connection(2)).await, "the session ends after 24 hours");
        assert_eq!(begin.elapsed().as_secs(), 24 * 60 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_with_its_own_connection() {
        let (deletions, deleted) = broadcast::channel(DELETIONS_KEPT);
        let (own, other) = (connection(2), connection(3));
        deletions.send(other).unwrap();
        deletions.send(own.clone()).unwrap();
        let begin = Instant::now();
        assert_eq!(must_end(deleted, &own).await, "the console connection was deleted");
        assert_eq!(begin.elapsed().as_secs(), 0);
        let deleted = deletions.subscribe();
        deletions.send(connection(3)).unwrap();
        assert_eq!(must_end(deleted, &own).await, "the session ends after 24 hours");
    }
}
