//! A file tree in memory, in sorted order: what goes into a disk or an initial RAM filesystem.
//!
//! Owners are what the recipe says, never those of the files on the machine that builds.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

use crate::{Error, Result};

/// What is at a path.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Directory,
    File(Content),
    /// A symbolic link and its target.
    Symlink(String),
}

/// The bytes of a file, here or still inside an archive.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    Part { archive: Rc<File>, offset: u64, length: usize },
}

impl Content {
    pub(crate) fn read(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::Part { archive, offset, length } => {
                let mut bytes = vec![0; *length];
                archive.read_exact_at(&mut bytes, *offset)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// One path's node and its attributes.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) node: Node,
    /// Permission bits, set-user-ID included.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// In seconds since 1970; none for the time of the whole tree.
    pub(crate) modified: Option<u64>,
    /// The extended attribute `security.capability`.
    pub(crate) capability: Option<Vec<u8>>,
}

impl Entry {
    pub(crate) fn new(node: Node, mode: u32) -> Self {
        Self { node, mode, user: 0, group: 0, modified: None, capability: None }
    }
}

/// Paths are relative, without a leading slash; parents are made on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
    newest: u64,
}

impl Tree {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// When the newest file that was taken was made, in seconds since 1970. Packages fix the
    /// times of their files, so this depends on nothing else.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.put(path, Entry::new(Node::Directory, mode));
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.put(path, Entry::new(Node::File(Content::Bytes(content.into())), mode));
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.put(path, Entry::new(Node::Symlink(target.to_owned()), 0o777));
    }

    /// A directory that belongs to an ordinary user.
    pub(crate) fn owned_directory(&mut self, path: &str, mode: u32, owner: u32) {
        let entry = Entry::new(Node::Directory, mode);
        self.put(path, Entry { user: owner, group: owner, ..entry });
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Forgets the paths that `unwanted` says.
    pub(crate) fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.entries.retain(|path, _| !unwanted(path));
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Changes the permission bits of a path; false when there is none.
    pub(crate) fn set_mode(&mut self, path: &str, mode: u32) -> bool {
        let entry = self.entries.get_mut(path);
        entry.map(|entry| entry.mode = mode).is_some()
    }

    pub(crate) fn put(&mut self, path: &str, entry: Entry) {
        let mut end = 0;
        while let Some(slash) = path[end..].find('/') {
            let parent = &path[..end + slash];
            end += slash + 1;
            if !self.entries.contains_key(parent) {
                self.entries.insert(parent.to_owned(), Entry::new(Node::Directory, 0o755));
            }
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Takes everything below `root` whose path starts with one of `prefixes`, moved to where
    /// `place` says.
    ///
    /// Plain files get mode 0644 or 0755: set-user-ID bits do not survive unpacking as an
    /// ordinary user, so recipes set them by name.
    pub(crate) fn take(
        &mut self,
        root: &Path,
        prefixes: &[&str],
        place: fn(&str) -> String,
    ) -> Result<()> {
        let mut found = Vec::new();
        list(root, "", &mut found)?;
        found.sort();
        for path in found {
            if prefixes.iter().any(|prefix| path.starts_with(prefix)) {
                self.take_one(root, &path, &place(&path))?;
            }
        }
        Ok(())
    }

    fn take_one(&mut self, root: &Path, path: &str, to: &str) -> Result<()> {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let from = root.join(path);
        let metadata = from.symlink_metadata().map_err(Error::io("look at", &from))?;
        if metadata.is_symlink() {
            let target = std::fs::read_link(&from).map_err(Error::io("read", &from))?;
            self.symlink(to, &target.to_string_lossy());
        } else if metadata.is_file() {
            let content = std::fs::read(&from).map_err(Error::io("read", &from))?;
            let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
            self.newest = self.newest.max(modified);
            let runnable = metadata.permissions().mode() & 0o100 != 0;
            self.file(to, if runnable { 0o755 } else { 0o644 }, content);
        }
        Ok(())
    }
}

/// All files and links below `root`, as relative paths.
fn list(root: &Path, below: &str, found: &mut Vec<String>) -> Result<()> {
    let directory = root.join(below);
    let entries = std::fs::read_dir(&directory).map_err(Error::io("list", &directory))?;
    for entry in entries {
        let entry = entry.map_err(Error::io("list", &directory))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = if below.is_empty() { name.into_owned() } else { format!("{below}/{name}") };
        let kind = entry.file_type().map_err(Error::io("look at", &entry.path()))?;
        if kind.is_dir() {
            list(root, &path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
