//! The local directory of an open store: its lock, its index, its caches. With a local store it is the
//! store's own; with a remote one it can be lost without harm.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use uuid::Uuid;

use crate::backend::files::{Files as _, RealFiles};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{LOCK_INTERVAL, LOCK_WAIT_MAX};

/// A directory that nobody else has.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    pub(crate) path: PathBuf,
    /// The kernel drops the lock with the file.
    _lock: File,
}

impl StateDirectory {
    /// Makes it if it is not there, and locks it: [`ErrorKind::Locked`] if another process has it.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        RealFiles
            .create_folder(directory)
            .map_err(|error| Error::io(format!("opening store {}", directory.display()), error))?;
        Ok(Self { path: directory.to_owned(), _lock: lock(directory)? })
    }

    /// Whether it is this directory, which may not exist.
    pub(crate) fn is_at(&self, directory: &Path) -> bool {
        match (self.path.canonicalize(), directory.canonicalize()) {
            (Ok(ours), Ok(other)) => ours == other,
            _ => false,
        }
    }

    /// Its own name, by which a remote store knows whoever has it again.
    pub(crate) fn id(&self) -> Result<Uuid> {
        let path = self.path.join("id");
        let io = |error| Error::io(format!("reading or writing {}", path.display()), error);
        match fs::read_to_string(&path) {
            Ok(text) => {
                if let Ok(id) = text.trim().parse() {
                    return Ok(id);
                }
                tracing::warn!(path = %path.display(), "the state directory's name is damaged");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let id = Uuid::new_v4();
        let temporary = self.path.join("id.new");
        let file = RealFiles.open_or_create(&temporary).map_err(io)?;
        file.set_length(0)
            .and_then(|()| file.write_all_at(format!("{id}\n").as_bytes(), 0))
            .and_then(|()| file.sync())
            .and_then(|()| RealFiles.rename(&temporary, &path))
            .and_then(|()| RealFiles.sync_folder(&self.path))
            .map_err(io)?;
        Ok(id)
    }

    /// The index of the store's chunks.
    pub(crate) fn index(&self) -> PathBuf {
        index_path(&self.path)
    }
}

/// Where the index of a store lies in its directory.
pub(crate) fn index_path(directory: &Path) -> PathBuf {
    directory.join("index")
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| Error::io(format!("opening {}", path.display()), error))?;
    let begin = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // A child that the last holder was just starting has the lock, too, until it runs its
            // own program: the lock outlives a holder that was killed by that moment.
            Err(Errno::WOULDBLOCK) if begin.elapsed() < LOCK_WAIT_MAX => {
                thread::sleep(LOCK_INTERVAL);
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::new(
                    ErrorKind::Locked,
                    format!("store {} is open in another process", directory.display()),
                ));
            }
            Err(error) => {
                return Err(Error::io(format!("locking {}", path.display()), error.into()));
            }
        }
    }
}
