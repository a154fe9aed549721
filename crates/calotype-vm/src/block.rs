//! Serves disks to QEMU: read-only NBD over one UNIX socket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use calotype_disk::Disk;

use crate::error::{Error, ErrorKind, Result};

/// A read-only NBD server over one UNIX socket, for any number of disks and connections. Dropping
/// it closes every connection; QEMU keeps its guests waiting and connects again to the next server
/// that binds the same path.
pub struct BlockServer;

/// What was served of one export since the server was bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportStatistics {
    /// Bytes that clients read, zeros included.
    pub read_bytes: u64,
    /// Read requests.
    pub reads: u64,
    /// Requests that failed because the disk did.
    pub failed: u64,
    /// Connections open now.
    pub connections: u64,
}

impl BlockServer {
    /// Binds `socket`, replacing a socket that is there already, reachable for this process's user
    /// only, and serves the disks that `resolve` finds for an export name. `resolve` is called on a
    /// connection's thread, once per connection, and may block.
    pub fn bind(
        socket: &Path,
        resolve: Arc<dyn Fn(&str) -> Option<Arc<dyn Disk>> + Send + Sync>,
    ) -> Result<Self> {
        let _ = (socket, resolve);
        Err(Error::new(ErrorKind::Io, "not here yet"))
    }

    /// By export name.
    pub fn statistics(&self) -> BTreeMap<String, ExportStatistics> {
        BTreeMap::new()
    }
}
