//! Files in a local directory.
//!
//! ```text
//! format               what this directory is, and of which version
//! lock                 locked by the process that has the store open
//! packs/0000002a.pack
//! manifests/<64 hex digits>
//! tmp/                 files being written; emptied when the store is opened
//! ```

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Backend, Key, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ManifestId;
use crate::limits::{
    LOCK_INTERVAL, LOCK_WAIT_MAX, OPEN_FILES_MAX, RESERVE_BYTES_MAX, RESERVE_SHARE,
};
use crate::pack::PackId;

const FORMAT: &str = "calotype-store 1\n";
const PACK_SUFFIX: &str = ".pack";

/// A directory, locked for as long as this lives.
pub(crate) struct Local {
    directory: PathBuf,
    /// Holds the lock: the kernel drops it with the file.
    _lock: File,
    open_files: Mutex<OpenFiles>,
    uploads: AtomicU64,
    faults: Faults,
}

/// What a test can make fail, in the order in which an upload passes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Append,
    SyncFile,
    Rename,
    SyncFolder,
    RemoveTemporary,
    Delete,
}

/// Asked before every change of the directory. Outside of tests it always says yes.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    pub(crate) hook: Option<Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>>,
}

impl Faults {
    #[cfg_attr(
        not(test),
        expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "faults exist in tests")
    )]
    fn before(&self, step: Step) -> io::Result<()> {
        #[cfg(test)]
        if let Some(hook) = &self.hook {
            return hook(step);
        }
        let _ = step;
        Ok(())
    }
}

impl Local {
    pub(crate) fn open(directory: &Path, faults: Faults) -> Result<Self> {
        let context = || format!("opening store {}", directory.display());
        for folder in ["packs", "manifests", "tmp"] {
            // Images hold what their owners keep secret: nobody else may look.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory.join(folder))
                .map_err(|e| Error::io(context(), e))?;
        }
        let lock = lock(directory)?;
        check_format(directory)?;
        for entry in fs::read_dir(directory.join("tmp")).map_err(|e| Error::io(context(), e))? {
            let path = entry.map_err(|e| Error::io(context(), e))?.path();
            tracing::info!(path = %path.display(), "removing a half-written file");
            fs::remove_file(&path).map_err(|e| Error::io(context(), e))?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            _lock: lock,
            open_files: Mutex::default(),
            uploads: AtomicU64::new(0),
            faults,
        })
    }

    fn path(&self, key: Key) -> PathBuf {
        match key {
            Key::Pack(pack) => self.directory.join(format!("packs/{pack}{PACK_SUFFIX}")),
            Key::Manifest(id) => self.directory.join(format!("manifests/{id}")),
        }
    }

    fn folder(&self, key: Key) -> PathBuf {
        self.directory.join(match key {
            Key::Pack(_) => "packs",
            Key::Manifest(_) => "manifests",
        })
    }

    /// Names and lengths of the files of a folder.
    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let directory = self.directory.join(folder);
        let list = || -> io::Result<Vec<_>> {
            let mut files = Vec::new();
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                if let Ok(name) = entry.file_name().into_string() {
                    files.push((name, entry.metadata()?.len()));
                }
            }
            Ok(files)
        };
        list().map_err(|error| Error::io(format!("listing {}", directory.display()), error))
    }

    /// Packs stay open: one is read many times, a chunk at a time.
    fn file(&self, key: Key) -> io::Result<Arc<File>> {
        let mut open = self.open_files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.files.get(&key) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.path(key))?);
        if let Key::Pack(_) = key {
            open.insert(key, file.clone());
        }
        Ok(file)
    }
}

impl Backend for Local {
    fn packs(&self) -> Result<Vec<(PackId, u64)>> {
        let files = self.list("packs")?;
        let parse = |name: &str| PackId::parse(name.strip_suffix(PACK_SUFFIX)?);
        Ok(files.iter().filter_map(|(name, length)| Some((parse(name)?, *length))).collect())
    }

    fn manifests(&self) -> Result<Vec<ManifestId>> {
        Ok(self.list("manifests")?.iter().filter_map(|(name, _)| name.parse().ok()).collect())
    }

    fn create(&self, key: Key) -> Result<Box<dyn Upload>> {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("tmp/{number}"));
        let create = || -> io::Result<File> {
            self.faults.before(Step::Create)?;
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)
        };
        let file = create()
            .map_err(|error| Error::io(format!("creating {}", temporary.display()), error))?;
        Ok(Box::new(LocalUpload {
            file,
            temporary,
            target: self.path(key),
            folder: self.folder(key),
            faults: self.faults.clone(),
            renamed: false,
        }))
    }

    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file(key).and_then(|file| file.read_exact_at(buf, offset)).map_err(|error| {
            let path = self.path(key);
            Error::io(format!("reading {} at offset {offset}", path.display()), error)
        })
    }

    fn delete(&self, keys: &[Key]) -> Result<()> {
        let mut folders = Vec::new();
        for &key in keys {
            self.open_files.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            let path = self.path(key);
            match self.faults.before(Step::Delete).and_then(|()| fs::remove_file(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("deleting {}", path.display()), error));
                }
                _ => {}
            }
            let folder = self.folder(key);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        for folder in folders {
            self.faults
                .before(Step::SyncFolder)
                .and_then(|()| sync_folder(&folder))
                .map_err(|error| Error::io(format!("syncing {}", folder.display()), error))?;
        }
        Ok(())
    }
}

struct LocalUpload {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    folder: PathBuf,
    faults: Faults,
    renamed: bool,
}

impl LocalUpload {
    fn publish(&mut self) -> io::Result<()> {
        self.faults.before(Step::SyncFile)?;
        self.file.sync_all()?;
        self.faults.before(Step::Rename)?;
        fs::rename(&self.temporary, &self.target)?;
        self.renamed = true;
        self.faults.before(Step::SyncFolder)?;
        sync_folder(&self.folder)
    }
}

impl Upload for LocalUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.faults
            .before(Step::Append)
            .and_then(|()| keep_reserve(&self.file))
            .and_then(|()| self.file.write_all(bytes))
            .map_err(|error| Error::io(format!("writing {}", self.temporary.display()), error))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.publish()
            .map_err(|error| Error::io(format!("publishing {}", self.target.display()), error))
    }
}

/// Refuses to use the last of the disk.
fn keep_reserve(file: &File) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    let total_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free_bytes < RESERVE_BYTES_MAX.min(total_bytes / RESERVE_SHARE) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

impl Drop for LocalUpload {
    fn drop(&mut self) {
        if self.renamed || self.faults.before(Step::RemoveTemporary).is_err() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.temporary) {
            // The next open removes it.
            tracing::warn!(path = %self.temporary.display(), %error, "half-written file stays");
        }
    }
}

/// The files read last, bounded, the oldest closed first.
#[derive(Default)]
struct OpenFiles {
    files: HashMap<Key, Arc<File>>,
    order: VecDeque<Key>,
}

impl OpenFiles {
    fn insert(&mut self, key: Key, file: Arc<File>) {
        if self.order.len() >= OPEN_FILES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.files.remove(&oldest);
        }
        self.order.push_back(key);
        self.files.insert(key, file);
    }

    fn remove(&mut self, key: Key) {
        if self.files.remove(&key).is_some() {
            self.order.retain(|&other| other != key);
        }
    }
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

/// Accepts a directory of this version, and makes a new one into one.
fn check_format(directory: &Path) -> Result<()> {
    let path = directory.join("format");
    match fs::read(&path) {
        Ok(format) if format == FORMAT.as_bytes() => return Ok(()),
        Ok(format) => {
            let format = String::from_utf8_lossy(&format[..format.len().min(40)]).into_owned();
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!("{} says {format:?}, not {FORMAT:?}", path.display()),
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(format!("reading {}", path.display()), error)),
    }
    let create = || -> io::Result<()> {
        let temporary = directory.join("tmp/format");
        let mut file = File::create(&temporary)?;
        file.write_all(FORMAT.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_folder(directory)?;
        // The directory itself must survive as well, if it is new.
        match directory.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
            _ => Ok(()),
        }
    };
    create().map_err(|error| Error::io(format!("creating {}", path.display()), error))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
