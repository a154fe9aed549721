//! The overlay files of boot volumes: made, sealed under a new one, read back, removed.
//!
//! Every function may be repeated: after a crash a workflow does its step again.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use calotype_disk::{Disk, Layered, qcow2};
use calotype_store::FileSource;

use crate::config::Paths;
use crate::error::{Error, Result};
use crate::files;
use crate::records::BootVolumeRecord;

/// Where the overlays of a volume lie.
pub(crate) fn directory(paths: &Paths, volume: &BootVolumeRecord) -> PathBuf {
    paths.volumes().join(&volume.directory)
}

/// Paths of the overlays, top first.
pub(crate) fn layers(paths: &Paths, volume: &BootVolumeRecord) -> Vec<PathBuf> {
    let directory = directory(paths, volume);
    volume.layers.iter().map(|name| directory.join(name)).collect()
}

/// Makes the empty overlay `name` of a volume, durably, unless it exists.
pub(crate) fn create_layer(paths: &Paths, volume: &BootVolumeRecord, name: &str) -> Result<()> {
    let directory = directory(paths, volume);
    // A guest's process passes through; nobody else reads a guest's disk.
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&directory)
        .map_err(|source| Error::io("make the directory", &directory, source))?;
    let file = directory.join(name);
    if file.exists() {
        // Whoever made it may have been killed before its name was durable.
        files::sync_directory(&directory)?;
    } else {
        let bytes = qcow2::create_layer(volume.size_bytes)?;
        files::write_private(&file, &bytes)?;
    }
    files::sync_directory(&paths.volumes())
}

/// Whether no guest has ever written to the uppermost overlay: it is as it was made. Only of a volume at rest.
pub(crate) fn is_blank(paths: &Paths, volume: &BootVolumeRecord) -> Result<bool> {
    let Some(top) = volume.layers.first() else { return Ok(false) };
    let file = directory(paths, volume).join(top);
    let metadata = std::fs::metadata(&file).map_err(|source| Error::io("read", &file, source))?;
    // What is written to an overlay is put at its end.
    Ok(metadata.len() == qcow2::create_layer(volume.size_bytes)?.len() as u64)
}

/// Gives `volume` the overlays `names` of another one too, durably: the same files, which nobody writes any more.
pub(crate) fn share_layers(
    paths: &Paths,
    from: &BootVolumeRecord,
    volume: &BootVolumeRecord,
    names: &[String],
) -> Result<()> {
    let (source, target) = (directory(paths, from), directory(paths, volume));
    for name in names {
        let file = target.join(name);
        match std::fs::hard_link(source.join(name), &file) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(Error::io("make a link", &file, error));
            }
            _ => {}
        }
    }
    files::sync_directory(&target)
}

/// The overlays `names` (top first) as one disk; what none of them holds is left to the base.
pub(crate) fn open_layers(
    paths: &Paths,
    volume: &BootVolumeRecord,
    names: &[String],
) -> Result<Option<Arc<dyn Disk>>> {
    let directory = directory(paths, volume);
    let mut below: Option<Arc<dyn Disk>> = None;
    for name in names.iter().rev() {
        let file = directory.join(name);
        let source = FileSource::open(&file).map_err(|source| Error::io("open", &file, source))?;
        let layer: Arc<dyn Disk> = Arc::new(qcow2::Qcow2::open_layer(Box::new(source))?);
        below = Some(match below {
            Some(below) => Arc::new(Layered { top: layer, below }),
            None => layer,
        });
    }
    Ok(below)
}

/// Removes one overlay of a volume.
pub(crate) fn remove_layer(paths: &Paths, volume: &BootVolumeRecord, name: &str) -> Result<()> {
    let file = directory(paths, volume).join(name);
    match std::fs::remove_file(&file) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::io("remove", &file, source))
        }
        _ => Ok(()),
    }
}

/// Removes all that is a volume's.
pub(crate) fn remove(paths: &Paths, volume: &BootVolumeRecord) -> Result<()> {
    remove_tree(&directory(paths, volume))
}

/// Removes a directory and what is in it, if it exists.
pub(crate) fn remove_tree(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::io("remove", directory, source))
        }
        _ => Ok(()),
    }
}
