//! The local directory of an open store: its lock, its index, its caches. With a local store it is the
//! store's own; with a remote one it can be lost without harm.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

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
