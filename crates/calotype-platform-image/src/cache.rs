//! Built disks, each in a directory named by recipe and digest of its inputs.
//!
//! A directory appears under its name only when it is complete and on stable storage: a build
//! that was killed leaves nothing that looks built.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Built, Description, Error, ErrorKind, Recipe, Result};

const DISK: &str = "disk.raw";
const DESCRIPTION: &str = "description.json";

/// Inside a workshop: what will be published, and everything else.
const BUILT: &str = "built";
const SCRATCH: &str = "scratch";

fn place(cache: &Path, recipe: Recipe, digest: &str) -> PathBuf {
    cache.join(format!("{recipe}-{}", digest.get(..32).unwrap_or(digest)))
}

/// The disk built earlier from inputs of this digest.
pub(crate) fn find(cache: &Path, recipe: Recipe, digest: &str) -> Option<Built> {
    let directory = place(cache, recipe, digest);
    let text = std::fs::read(directory.join(DESCRIPTION)).ok()?;
    let description: Description = serde_json::from_slice(&text).ok()?;
    let disk = directory.join(DISK);
    let whole = disk.metadata().is_ok_and(|metadata| metadata.len() == description.size_bytes);
    (whole && description.inputs_digest == digest).then_some(Built { disk, description })
}

/// A directory to build in, removed with all its content when dropped.
pub(crate) struct Workshop {
    path: PathBuf,
}

impl Workshop {
    pub(crate) fn open(cache: &Path, recipe: Recipe) -> Result<Self> {
        let path = temporary(cache, &format!("building-{recipe}"))?;
        for part in [SCRATCH, BUILT] {
            let part = path.join(part);
            std::fs::create_dir(&part).map_err(Error::io("create", &part))?;
        }
        Ok(Self { path })
    }

    /// Where the finished disk goes.
    pub(crate) fn disk(&self) -> PathBuf {
        self.path.join(BUILT).join(DISK)
    }

    /// A directory for everything else.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join(SCRATCH)
    }

    /// Publishes the disk. When another process was faster, its disk is the answer: the same
    /// inputs made it.
    pub(crate) fn publish(
        self,
        cache: &Path,
        recipe: Recipe,
        description: &Description,
    ) -> Result<Built> {
        let built = self.path.join(BUILT);
        let file = built.join(DESCRIPTION);
        let text = serde_json::to_vec_pretty(description)
            .map_err(|error| Error::new(ErrorKind::Content, error.to_string()))?;
        std::fs::write(&file, text).map_err(Error::io("write", &file))?;
        for path in [&file, &self.disk(), &built] {
            sync(path)?;
        }
        let digest = &description.inputs_digest;
        let place = place(cache, recipe, digest);
        if find(cache, recipe, digest).is_none() {
            // Only a directory that is not whole can be in the way.
            let _ = std::fs::remove_dir_all(&place);
            let renamed = std::fs::rename(&built, &place);
            sync(cache)?;
            if find(cache, recipe, digest).is_none() {
                renamed.map_err(Error::io("create", &place))?;
            }
        }
        find(cache, recipe, digest).ok_or_else(|| {
            Error::new(ErrorKind::Content, format!("{} is not whole", place.display()))
        })
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What stays behind is removed by the next build.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A new directory in `parent` for this call alone, named so that [`temporary`] of a later process
/// removes it when this one is gone.
pub(crate) fn temporary(parent: &Path, purpose: &str) -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    sweep(parent);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = parent.join(format!(".{purpose}.{process}.{number}"));
    // A process with the same number died here before.
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).map_err(Error::io("create", &path))?;
    Ok(path)
}

/// Removes the temporary directories of processes that are gone.
fn sweep(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let mut parts = name.rsplit('.');
        let (number, process) = (parts.next(), parts.next());
        let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
        let ours = name.starts_with('.') && is_number(number) && is_number(process);
        if ours && !Path::new("/proc").join(process.unwrap_or_default()).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Firmware;

    fn description(digest: &str) -> Description {
        Description {
            name: "Tiny-Linux-12-2026.01.01-0".to_owned(),
            operating_system: "Tiny Linux".to_owned(),
            operating_system_version: "12".to_owned(),
            default_user: "opc".to_owned(),
            firmware: Firmware::Bios,
            size_bytes: 4,
            inputs_digest: digest.to_owned(),
        }
    }

    fn publish(cache: &Path, digest: &str, content: &str) -> Built {
        let workshop = Workshop::open(cache, Recipe::Tiny).unwrap();
        std::fs::write(workshop.disk(), content).unwrap();
        workshop.publish(cache, Recipe::Tiny, &description(digest)).unwrap()
    }

    #[test]
    fn a_published_disk_is_found_by_its_digest_only() {
        let cache = tempfile::tempdir().unwrap();
        let built = publish(cache.path(), "aa", "disk");
        assert_eq!(std::fs::read_to_string(&built.disk).unwrap(), "disk");
        let found = find(cache.path(), Recipe::Tiny, "aa").unwrap();
        assert_eq!(found.description, description("aa"));
        assert!(find(cache.path(), Recipe::Tiny, "ab").is_none());
        assert!(find(cache.path(), Recipe::Debian12, "aa").is_none());
    }

    #[test]
    fn the_first_of_two_builds_stays() {
        let cache = tempfile::tempdir().unwrap();
        publish(cache.path(), "aa", "one.");
        let second = publish(cache.path(), "aa", "two.");
        assert_eq!(std::fs::read_to_string(second.disk).unwrap(), "one.");
    }

    #[test]
    fn a_disk_cut_short_is_not_found_and_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let built = publish(cache.path(), "aa", "disk");
        std::fs::write(&built.disk, "di").unwrap();
        assert!(find(cache.path(), Recipe::Tiny, "aa").is_none());
        let again = publish(cache.path(), "aa", "disk");
        assert_eq!(std::fs::read_to_string(again.disk).unwrap(), "disk");
    }

    #[test]
    fn what_a_killed_build_left_is_swept_and_a_living_one_is_left_alone() {
        let cache = tempfile::tempdir().unwrap();
        let dead = cache.path().join(format!(".building-tiny.{}.0", u32::MAX));
        std::fs::create_dir(&dead).unwrap();
        let other = cache.path().join(".keep");
        std::fs::create_dir(&other).unwrap();
        let living = temporary(cache.path(), "building-tiny").unwrap();
        let next = temporary(cache.path(), "building-tiny").unwrap();
        assert!(!dead.exists());
        assert!(living.exists() && next.exists() && other.exists());
    }

    #[test]
    fn an_abandoned_build_leaves_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let workshop = Workshop::open(cache.path(), Recipe::Tiny).unwrap();
        std::fs::write(workshop.disk(), "half").unwrap();
        drop(workshop);
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}
