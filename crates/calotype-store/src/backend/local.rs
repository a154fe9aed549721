//! Files in a local directory.
//!
//! ```text
//! format               what this directory is, and of which version
//! packs/<32 hex digits>.pack
//! manifests/<64 hex digits>
//! partials/<64 hex digits>
//! tmp/                 files being written; emptied when the store is opened
//! ```
//!
//! Whoever opens it has seen to it that nobody else does: see [`crate::state`].

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::files::{Files, StoreFile};
use super::{Backend, Folder, Key, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{OPEN_FILES_MAX, RESERVE_BYTES_MAX, RESERVE_SHARE};

/// What a directory of this version says it is.
pub(super) const FORMAT: &str = "calotype-store 2\n";

/// A directory.
pub struct Local {
    directory: PathBuf,
    files: Arc<dyn Files>,
    open_files: Mutex<OpenFiles>,
    uploads: AtomicU64,
}

impl Local {
    /// Opens the store's files in `directory`, creating what is missing; half-written files are
    /// removed. Nobody else may have it open.
    pub fn open(directory: &Path) -> Result<Self> {
        Self::open_on(Arc::new(super::files::RealFiles), directory)
    }

    /// Opens the store's files in `directory`, which may be in use: nothing there is changed, and
    /// nothing is ever to be written.
    pub(crate) fn open_read_only(directory: &Path) -> Result<Self> {
        let files = Arc::new(super::files::RealFiles);
        if !is_known_format(files.as_ref(), directory)? {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no store in {}", directory.display()),
            ));
        }
        Ok(Self {
            directory: directory.to_owned(),
            files,
            open_files: Mutex::default(),
            uploads: AtomicU64::new(0),
        })
    }

    pub(crate) fn open_on(files: Arc<dyn Files>, directory: &Path) -> Result<Self> {
        let context = |error| Error::io(format!("opening store {}", directory.display()), error);
        for folder in Folder::ALL.map(Folder::name).iter().chain(&["tmp"]) {
            files.create_folder(&directory.join(folder)).map_err(context)?;
        }
        check_format(files.as_ref(), directory)?;
        let temporary = directory.join("tmp");
        for (name, _) in files.list(&temporary).map_err(context)? {
            let path = temporary.join(name);
            tracing::info!(path = %path.display(), "removing a half-written file");
            files.remove(&path).map_err(context)?;
        }
        sync_folders(files.as_ref(), directory).map_err(context)?;
        Ok(Self {
            directory: directory.to_owned(),
            files,
            open_files: Mutex::default(),
            uploads: AtomicU64::new(0),
        })
    }

    fn path(&self, key: Key) -> PathBuf {
        self.folder(key.folder()).join(key.name())
    }

    fn folder(&self, folder: Folder) -> PathBuf {
        self.directory.join(folder.name())
    }

    /// Packs stay open: one is read many times, a chunk at a time.
    fn file(&self, key: Key) -> io::Result<Arc<dyn StoreFile>> {
        if let Some(file) = self.open_files().files.get(&key) {
            return Ok(file.clone());
        }
        let file = self.files.open(&self.path(key))?;
        if let Key::Pack(_) = key {
            self.open_files().insert(key, file.clone());
        }
        Ok(file)
    }

    fn open_files(&self) -> std::sync::MutexGuard<'_, OpenFiles> {
        self.open_files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Local {
    fn list(&self, folder: Folder) -> Result<Vec<(Key, u64)>> {
        let path = self.folder(folder);
        let files = self
            .files
            .list(&path)
            .map_err(|error| Error::io(format!("listing {}", path.display()), error))?;
        let known = |(name, length): (String, u64)| Some((folder.key(&name)?, length));
        Ok(files.into_iter().filter_map(known).collect())
    }

    fn create(&self, key: Key) -> Result<Box<dyn Upload>> {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("tmp/{number}"));
        let file = self
            .files
            .create(&temporary)
            .map_err(|error| Error::io(format!("creating {}", temporary.display()), error))?;
        Ok(Box::new(LocalUpload {
            files: self.files.clone(),
            file,
            length_bytes: 0,
            temporary,
            target: self.path(key),
            folder: self.folder(key.folder()),
            renamed: false,
        }))
    }

    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file(key).and_then(|file| file.read_exact_at(buf, offset)).map_err(|error| {
            let context = format!("reading {} at offset {offset}", self.path(key).display());
            match error.kind() {
                io::ErrorKind::NotFound => {
                    Error::new(ErrorKind::NotFound, context).with_source(error)
                }
                io::ErrorKind::UnexpectedEof => Error::corrupt(context).with_source(error),
                _ => Error::io(context, error),
            }
        })
    }

    fn delete(&self, keys: &[Key]) -> Result<()> {
        let mut folders = Vec::new();
        for &key in keys {
            self.open_files().remove(key);
            let path = self.path(key);
            match self.files.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("deleting {}", path.display()), error));
                }
                _ => {}
            }
            if !folders.contains(&key.folder()) {
                folders.push(key.folder());
            }
        }
        for folder in folders {
            let path = self.folder(folder);
            self.files
                .sync_folder(&path)
                .map_err(|error| Error::io(format!("syncing {}", path.display()), error))?;
        }
        Ok(())
    }
}

struct LocalUpload {
    files: Arc<dyn Files>,
    file: Arc<dyn StoreFile>,
    length_bytes: u64,
    temporary: PathBuf,
    target: PathBuf,
    folder: PathBuf,
    renamed: bool,
}

impl LocalUpload {
    fn publish(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.files.rename(&self.temporary, &self.target)?;
        self.renamed = true;
        self.files.sync_folder(&self.folder)
    }

    /// Refuses to use the last of the disk.
    fn keep_reserve(&self) -> io::Result<()> {
        let space = self.files.space(&self.folder)?;
        if space.free_bytes < RESERVE_BYTES_MAX.min(space.total_bytes / RESERVE_SHARE) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Upload for LocalUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.keep_reserve()
            .and_then(|()| self.file.write_all_at(bytes, self.length_bytes))
            .map_err(|error| Error::io(format!("writing {}", self.temporary.display()), error))?;
        let begin = self.length_bytes;
        self.length_bytes += bytes.len() as u64;
        self.file.begin_writing_back(begin..self.length_bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.publish()
            .map_err(|error| Error::io(format!("publishing {}", self.target.display()), error))
    }
}

impl Drop for LocalUpload {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        if let Err(error) = self.files.remove(&self.temporary) {
            // The next open removes it.
            tracing::warn!(path = %self.temporary.display(), %error, "half-written file stays");
        }
    }
}

/// The files read last, bounded, the oldest closed first.
#[derive(Default)]
struct OpenFiles {
    files: HashMap<Key, Arc<dyn StoreFile>>,
    order: VecDeque<Key>,
}

impl OpenFiles {
    fn insert(&mut self, key: Key, file: Arc<dyn StoreFile>) {
        // Two readers may have opened the same one.
        if self.files.insert(key, file).is_some() {
            return;
        }
        if self.order.len() >= OPEN_FILES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.files.remove(&oldest);
        }
        self.order.push_back(key);
    }

    fn remove(&mut self, key: Key) {
        if self.files.remove(&key).is_some() {
            self.order.retain(|&other| other != key);
        }
    }
}

/// Accepts a directory of this version, and makes a new one into one.
fn check_format(files: &dyn Files, directory: &Path) -> Result<()> {
    if is_known_format(files, directory)? {
        return Ok(());
    }
    let path = directory.join("format");
    create_format(files, directory, &path)
        .map_err(|error| Error::io(format!("creating {}", path.display()), error))
}

/// Refuses a directory of another version; `false` if it is none of a store.
fn is_known_format(files: &dyn Files, directory: &Path) -> Result<bool> {
    let path = directory.join("format");
    let read = || -> io::Result<Vec<u8>> {
        let file = files.open(&path)?;
        let mut bytes = vec![0; file.length_bytes()?.min(40) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    match read() {
        Ok(format) if format == FORMAT.as_bytes() => Ok(true),
        Ok(format) => {
            let format = String::from_utf8_lossy(&format);
            Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!("{} says {format:?}, not {FORMAT:?}", path.display()),
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("reading {}", path.display()), error)),
    }
}

fn create_format(files: &dyn Files, directory: &Path, path: &Path) -> io::Result<()> {
    let temporary = directory.join("tmp/format");
    let file = files.open_or_create(&temporary)?;
    file.set_length(0)?;
    file.write_all_at(FORMAT.as_bytes(), 0)?;
    file.sync()?;
    files.rename(&temporary, path)
}

/// Makes durable what is visible: a process that was killed may have left names that are not, and
/// what is built on them now must not vanish with them.
fn sync_folders(files: &dyn Files, directory: &Path) -> io::Result<()> {
    for folder in Folder::ALL {
        files.sync_folder(&directory.join(folder.name()))?;
    }
    files.sync_folder(directory)?;
    // The directory itself must survive as well, if it is new.
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => files.sync_folder(parent),
        _ => Ok(()),
    }
}
