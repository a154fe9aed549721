//! The local directory of an open store: its lock, its index, its caches. With a local store it is the
//! store's own; with a remote one it can be lost without harm.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
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
    lock: File,
}

impl Drop for StateDirectory {
    fn drop(&mut self) {
        // Signed for somebody who has it no more, it would refuse the next at once. If this fails, he waits
        // in vain, no more.
        let _ = self.lock.set_len(0);
    }
}

impl StateDirectory {
    /// Makes it if it is not there, and locks it: [`ErrorKind::Locked`] if another process has it.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        RealFiles
            .create_folder(directory)
            .map_err(|error| Error::io(format!("opening store {}", directory.display()), error))?;
        Ok(Self { path: directory.to_owned(), lock: lock(directory)? })
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

/// Locks a directory. The file says who has it, so that whoever comes second need not wait to be sure.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| Error::io(format!("opening {}", path.display()), error))?;
    let begin = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                if let Err(error) = sign(&file) {
                    tracing::debug!(%error, "the lock is not signed: others wait longer");
                }
                return Ok(file);
            }
            // A child that the last holder was just starting has the lock, too, until it runs its
            // own program: the lock outlives a holder that was killed by that moment.
            Err(Errno::WOULDBLOCK) if begin.elapsed() < LOCK_WAIT_MAX && !holder_lives(&file) => {
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

/// Writes who this is.
fn sign(lock: &File) -> io::Result<()> {
    let pid = std::process::id();
    let Some(begin) = running_since(pid) else { return Ok(()) };
    lock.set_len(0)?;
    lock.write_all_at(format!("{pid} {begin}\n").as_bytes(), 0)
}

/// Whether the process that signed the lock certainly still runs.
fn holder_lives(lock: &File) -> bool {
    let mut text = [0; 64];
    let Ok(length) = lock.read_at(&mut text, 0) else { return false };
    let text = String::from_utf8_lossy(&text[..length]);
    let mut words = text.split_ascii_whitespace();
    match (words.next().map(str::parse), words.next()) {
        (Some(Ok(pid)), Some(begin)) => running_since(pid).is_some_and(|since| since == begin),
        _ => false,
    }
}

/// When a process that has not ended began, in the kernel's words: a number used again is not taken for
/// the process that had it before (proc_pid_stat(5): the state is the third field, the start the 22nd).
fn running_since(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    let state = *fields.first()?;
    let has_ended = matches!(state, "Z" | "X" | "x");
    (!has_ended).then(|| fields.get(22 - 3).map(ToString::to_string))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_left_by_a_process_that_ended_is_waited_for_and_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        // Of a process that cannot be.
        fs::write(&path, format!("{} 1\n", u32::MAX)).unwrap();
        let child = File::open(&path).unwrap();
        rustix::fs::flock(&child, FlockOperation::NonBlockingLockExclusive).unwrap();
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| StateDirectory::open(directory.path()));
            drop(child);
            opening.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_process_runs_since_it_began_and_not_since_another_time() {
        let directory = tempfile::tempdir().unwrap();
        let open = StateDirectory::open(directory.path()).unwrap();
        assert!(holder_lives(&open.lock));
        open.lock.write_all_at(format!("{} 1\n", std::process::id()).as_bytes(), 0).unwrap();
        assert!(!holder_lives(&open.lock));
        let path = directory.path().join("lock");
        drop(open);
        assert_eq!(fs::read(path).unwrap(), b"");
    }
}
