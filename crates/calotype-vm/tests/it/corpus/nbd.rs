//! Everything that one client says, over a real socket to a real server.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use calotype_disk::{Disk, Error, Extent, ExtentKind, Result};
use calotype_vm::BlockServer;

/// What fits into a socket's buffer: all of it is said before an answer is read.
const SAID_BYTES_MAX: usize = 16 << 10;
/// An answer that takes longer is a hang.
const PATIENCE: Duration = Duration::from_secs(20);
const GRAIN: u64 = 4096;
const BROKEN_GRAIN: u64 = 6;

struct Served {
    socket: PathBuf,
    _directory: tempfile::TempDir,
    _server: BlockServer,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nbd.sock");
    let resolve = |name: &str| (name == "disk").then(|| Arc::new(Striped) as Arc<dyn Disk>);
    let server = BlockServer::bind(&socket, Arc::new(resolve)).unwrap();
    Served { socket, _directory: directory, _server: server }
});

/// Data and holes in turn, and a place that cannot be read.
struct Striped;

impl Disk for Striped {
    fn size_bytes(&self) -> u64 {
        16 * GRAIN + 512
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        assert!(end <= self.size_bytes(), "the server asks for what is not there");
        if offset / GRAIN <= BROKEN_GRAIN && end > BROKEN_GRAIN * GRAIN {
            return Err(Error::new(calotype_disk::ErrorKind::Corrupt, "broken"));
        }
        buf.fill(1);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        assert!(offset < self.size_bytes(), "the server asks for what is not there");
        let end = ((offset / GRAIN + 1) * GRAIN).min(self.size_bytes());
        let is_data = (offset / GRAIN).is_multiple_of(2);
        let kind = if is_data { ExtentKind::Data } else { ExtentKind::Zero };
        Ok(Extent { length_bytes: end - offset, kind })
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut stream = UnixStream::connect(&SERVED.socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // The server may have hung up before the end.
    let said = stream
        .write_all(&data[..data.len().min(SAID_BYTES_MAX)])
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match said.and_then(|()| stream.read_to_end(&mut answer)) {
        Ok(_) => assert!(answer.starts_with(b"NBDMAGICIHAVEOPT"), "no greeting"),
        Err(error) => {
            let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset, ErrorKind::NotConnected];
            assert!(gone.contains(&error.kind()), "{error}");
        }
    }
}
