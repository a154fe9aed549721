//! Files that are there whole or not at all, whatever happens meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Writes a file that everybody may read.
pub fn write_durably(file: &Path, bytes: &[u8]) -> Result<()> {
    write(file, bytes, PUBLIC)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(file: &Path, bytes: &[u8]) -> Result<()> {
    write(file, bytes, PRIVATE)
}

fn write(file: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let unfinished = unfinished(file);
    let write = || -> io::Result<()> {
        // One that a crash left may have another mode.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut handle =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
        handle.write_all(bytes)?;
        handle.sync_all()?;
        fs::rename(&unfinished, file)
    };
    write().map_err(|source| Error::io("write", file, source))?;
    file.parent().map_or(Ok(()), sync_directory)
}

/// What a file is called until it is whole.
pub(crate) fn unfinished(file: &Path) -> PathBuf {
    file.with_extension("new")
}

/// Makes durable which files a directory has.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|handle| handle.sync_all())
        .map_err(|source| Error::io("sync", directory, source))
}
