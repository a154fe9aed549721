//! The file operations that a local store is made of, so that tests can put a failing file system
//! below it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Room on a file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    pub(crate) total_bytes: u64,
    pub(crate) free_bytes: u64,
}

/// A file system as the store needs it. What is written is durable only after the file is synced; a
/// name, only after its folder is.
pub(crate) trait Files: Send + Sync + 'static {
    /// Makes a directory and those above it, for this user alone; one that is there is no error.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes a file that must not exist, for this user alone.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>>;

    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>>;

    /// Opens a file for reading and writing, and makes it if it is not there.
    fn open_or_create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>>;

    /// Names and lengths of the files in a directory.
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// An open file.
pub(crate) trait StoreFile: Send + Sync {
    fn length_bytes(&self) -> io::Result<u64>;
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn set_length(&self, length_bytes: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;

    /// Lets the disk begin with what was written to `range`, so that a later sync has less to wait
    /// for. Promises nothing. A range is named once, when it was just written.
    fn begin_writing_back(&self, _range: Range<u64>) {}
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealFiles;

impl Files for RealFiles {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        // Images hold what their owners keep secret: nobody else may look.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Ok(Arc::new(options.open(path)?))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                match entry.metadata() {
                    Ok(metadata) => files.push((name, metadata.len())),
                    // Deleted meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(files)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let disk = rustix::fs::statvfs(path)?;
        Ok(Space {
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        })
    }
}

impl StoreFile for File {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.set_len(length_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn begin_writing_back(&self, range: Range<u64>) {
        // What the kernel no longer needs it would drop from its page cache, after it has begun to write
        // what it does: of pages written just now that is all.
        let length = NonZero::new(range.end - range.start);
        let _ = rustix::fs::fadvise(self, range.start, length, rustix::fs::Advice::DontNeed);
    }
}
