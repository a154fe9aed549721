//! Serves disks to QEMU: read-only NBD over one UNIX socket.
//!
//! A guest that broke out into its QEMU speaks this protocol with us, so clients are hostile: every
//! length is checked before memory is reserved, a connection is one thread with bounded buffers, and
//! no client can write, or name anything but an export. What the disk cannot read becomes an I/O
//! error for the guest, never the end of the connection.
//!
//! `negotiation` ends with a chosen export, `transmission` serves it, `pool` reads ahead for it,
//! `outbox` gathers its replies, `wire` holds the numbers.

mod negotiation;
mod outbox;
mod pool;
mod transmission;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::Permissions;
use std::io::BufReader;
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use calotype_disk::Disk;

use crate::error::{Error, ErrorKind, Result};
use crate::files::Owner;
use crate::limits::{
    NBD_CLOSE_WAIT_MAX, NBD_CONNECTIONS_MAX, NBD_HANDSHAKE_TIMEOUT, NBD_READ_BUFFER_BYTES,
    SOCKET_PATH_BYTES_MAX,
};
use negotiation::Chosen;
use pool::Pool;

/// Finds the disk behind an export name.
pub type ResolveDisk = dyn Fn(&str) -> Option<Arc<dyn Disk>> + Send + Sync;

/// After a failed accept, for want of file descriptors for example, instead of trying at full speed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A read-only NBD server over one UNIX socket, for any number of disks and connections. Dropping
/// it closes every connection and waits, for a while, until none holds a disk any more; QEMU keeps its
/// guests waiting and connects again to the next server that binds the same path.
pub struct BlockServer {
    shared: Arc<Shared>,
    listener: Arc<UnixListener>,
    acceptor: Option<JoinHandle<()>>,
    socket: PathBuf,
    inode: u64,
}

/// What was served of one export since the server was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportStatistics {
    /// Bytes that clients read, zeros included.
    pub read_bytes: u64,
    /// Read requests.
    pub reads: u64,
    /// Of these, those that could not be answered from memory.
    pub reads_waited: u64,
    /// Requests that failed because the disk did.
    pub failed: u64,
    /// Connections open now.
    pub connections: u64,
}

struct Shared {
    resolve: Arc<ResolveDisk>,
    closing: AtomicBool,
    connections: Arc<Connections>,
    exports: Mutex<BTreeMap<String, Arc<Counters>>>,
    pool: Pool,
}

/// The connections that are open, to be closed with the server.
#[derive(Default)]
struct Connections {
    streams: Mutex<HashMap<u64, UnixStream>>,
    left: Condvar,
}

#[derive(Default)]
struct Counters {
    read_bytes: AtomicU64,
    reads: AtomicU64,
    reads_waited: AtomicU64,
    failed: AtomicU64,
    connections: AtomicU64,
}

impl BlockServer {
    /// Binds `socket`, replacing a socket that is there already, reachable for this process's user
    /// only, and serves the disks that `resolve` finds for an export name. `resolve` is called on a
    /// connection's thread, seldom more than once per connection, and may block.
    pub fn bind(socket: &Path, resolve: Arc<ResolveDisk>) -> Result<Self> {
        Self::bind_for(socket, None, resolve)
    }

    /// The same, reachable for `owner` only.
    pub(crate) fn bind_for(
        socket: &Path,
        owner: Option<Owner>,
        resolve: Arc<ResolveDisk>,
    ) -> Result<Self> {
        // Made under another name, so that nobody sees it with the wrong owner, and clients that
        // connect again find the old socket or the new.
        let fresh = socket.with_added_extension("new");
        if fresh.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidSpec,
                format!(
                    "the block server's socket needs a path of at most {} bytes: {}",
                    SOCKET_PATH_BYTES_MAX - ".new".len(),
                    socket.display()
                ),
            ));
        }
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &fresh)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(Error::io("bind", &fresh))?;
        let place = || {
            std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
            if let Some((user, group)) = owner {
                chown(&fresh, Some(user), Some(group))?;
            }
            std::fs::rename(&fresh, socket)?;
            Ok::<_, std::io::Error>(std::fs::metadata(socket)?.ino())
        };
        let inode = place().map_err(Error::io("place", socket))?;
        let shared = Arc::new(Shared {
            resolve,
            closing: AtomicBool::new(false),
            connections: Arc::default(),
            exports: Mutex::default(),
            pool: Pool::new(),
        });
        let listener = Arc::new(listener);
        let acceptor = {
            let (shared, listener) = (Arc::clone(&shared), Arc::clone(&listener));
            std::thread::Builder::new()
                .name("nbd-accept".into())
                .spawn(move || accept(&shared, &listener))
                .map_err(Error::io("start a thread for", socket))?
        };
        let socket = socket.to_path_buf();
        Ok(Self { shared, listener, acceptor: Some(acceptor), socket, inode })
    }

    /// By export name, for every export that was ever chosen by a client.
    pub fn statistics(&self) -> BTreeMap<String, ExportStatistics> {
        let exports = lock(&self.shared.exports);
        exports.iter().map(|(name, counters)| (name.clone(), counters.load())).collect()
    }
}

impl Drop for BlockServer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Ends a blocked accept.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        // The name first: from here on a client waits for the next server.
        if std::fs::metadata(&self.socket).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.socket);
        }
        for connection in lock(&self.shared.connections.streams).values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        // Whoever drops this may want the disks for itself next. One that is being read from a server
        // that does not answer is not waited for.
        let deadline = Instant::now() + NBD_CLOSE_WAIT_MAX;
        self.shared.connections.wait_until_left(deadline);
        self.shared.pool.close(deadline);
    }
}

impl fmt::Debug for BlockServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BlockServer").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Connections {
    fn wait_until_left(&self, deadline: Instant) {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let open = |streams: &mut HashMap<_, _>| !streams.is_empty();
        let waited = self.left.wait_timeout_while(lock(&self.streams), remaining, open);
        if waited.is_ok_and(|(_, result)| result.timed_out()) {
            tracing::warn!("an NBD connection did not end with its server");
        }
    }
}

impl Counters {
    fn load(&self) -> ExportStatistics {
        ExportStatistics {
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            reads_waited: self.reads_waited.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(shared: &Arc<Shared>, listener: &UnixListener) {
    for id in 0.. {
        let accepted = listener.accept();
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let started = accepted.and_then(|(stream, _)| start(shared, id, stream));
        if let Err(error) = started {
            tracing::warn!(%error, "an NBD client was turned away");
            std::thread::sleep(ACCEPT_PAUSE);
        }
    }
}

fn start(shared: &Arc<Shared>, id: u64, stream: UnixStream) -> std::io::Result<()> {
    {
        let mut connections = lock(&shared.connections.streams);
        if connections.len() >= NBD_CONNECTIONS_MAX {
            return Err(std::io::Error::other("too many connections"));
        }
        connections.insert(id, stream.try_clone()?);
    }
    let registered = Registered { connections: Arc::clone(&shared.connections), id };
    // Should the server have begun to close meanwhile, it has seen this connection or we see that.
    if shared.closing.load(Ordering::SeqCst) {
        return Ok(());
    }
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name(format!("nbd-{id}"))
        .spawn(move || {
            // Dropped last: who sees the connection leave finds nothing that it still holds.
            let _registered = registered;
            serve_to_end(&shared, id, &stream);
            drop(shared);
        })
        .map(drop)
}

/// A connection's place in the table, left however its thread ends.
struct Registered {
    connections: Arc<Connections>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.connections.streams).remove(&self.id);
        self.connections.left.notify_all();
    }
}

/// An export's open connections, counted however the thread ends.
struct Counted(Arc<Counters>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve_to_end(shared: &Shared, id: u64, stream: &UnixStream) {
    let Err(error) = serve(shared, stream) else { return };
    if !shared.closing.load(Ordering::SeqCst) {
        tracing::debug!(%error, id, "an NBD connection ended");
    }
}

fn serve(shared: &Shared, stream: &UnixStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(NBD_HANDSHAKE_TIMEOUT))?;
    stream.set_write_timeout(Some(NBD_HANDSHAKE_TIMEOUT))?;
    let mut reader = BufReader::with_capacity(NBD_READ_BUFFER_BYTES, stream);
    let Some(chosen) = negotiation::negotiate(&mut reader, &mut &*stream, &*shared.resolve)? else {
        return Ok(());
    };
    // From here on the client is a guest's disk, which may be idle for as long as it likes.
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    let Chosen { name, disk, features } = chosen;
    let counters = Arc::clone(lock(&shared.exports).entry(name).or_default());
    counters.connections.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(counters);
    transmission::transmit(&mut reader, &mut &*stream, &disk, features, &counted.0, &shared.pool)
}
