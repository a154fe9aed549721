//! An ext4 filesystem inside the partition of a disk file, made as an ordinary user.
//!
//! The tree is written in its own order with fixed owners and times, so that the same tree gives
//! the same filesystem.

use std::fmt::Write as _;
use std::path::Path;

use crate::boot_disk::{BootDisk, PARTITION_OFFSET};
use crate::tools::{Need, Tool};
use crate::tree::{Node, Tree};
use crate::{Error, ErrorKind, Result};

/// What making a filesystem needs.
pub(crate) const NEEDS: &[Need] = &[("mkfs.ext4", "e2fsprogs"), ("debugfs", "e2fsprogs")];

/// Spelt out so that the result does not depend on the machine's mke2fs.conf, and so that GRUB
/// and every kernel in use can read it.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
                        flex_bg,metadata_csum,sparse_super,large_file,huge_file,dir_nlink,\
                        extra_isize";

/// What identifies a filesystem and fixes its bytes.
pub(crate) struct Identity<'a> {
    pub(crate) uuid: &'a str,
    pub(crate) label: &'a str,
    /// All times in it, in seconds since 1970.
    pub(crate) epoch: u64,
    pub(crate) journal_mib: u32,
}

/// Arguments of `mkfs.ext4` for the partition of `disk`, without the program's name. More options
/// may follow them, then [`positional`].
pub(crate) fn options(identity: &Identity<'_>) -> Vec<String> {
    // The disk is new and all zero: do not write zeros, and do not let the guest's kernel do it
    // at its first mount, which would make every instance's overlay bigger.
    let extended = format!(
        "offset={PARTITION_OFFSET},assume_storage_prezeroed=1,root_owner=0:0,hash_seed={},\
         resize=4294967295",
        identity.uuid
    );
    let journal = format!("size={}", identity.journal_mib);
    let fixed = ["-q", "-F", "-b", "4096", "-m", "1", "-O", FEATURES];
    let named = ["-E", &extended, "-J", &journal, "-U", identity.uuid, "-L", identity.label];
    fixed.iter().chain(&named).map(|arg| (*arg).to_owned()).collect()
}

/// The disk and the number of blocks: the last two arguments of `mkfs.ext4`.
pub(crate) fn positional(disk: &BootDisk) -> [String; 2] {
    [disk.path.to_string_lossy().into_owned(), (disk.partition_size() / 4096).to_string()]
}

/// Makes a filesystem in the partition of `disk` and writes `tree` into it. `scratch` is a
/// directory for files on their way.
pub(crate) fn make(
    disk: &BootDisk,
    identity: &Identity<'_>,
    tree: &Tree,
    scratch: &Path,
) -> Result<()> {
    Tool::new("mkfs.ext4")
        .args(options(identity))
        .args(positional(disk))
        .env("E2FSPROGS_FAKE_TIME", identity.epoch.to_string())
        .run()?;
    let script = scratch.join("debugfs.script");
    let commands = script_for(tree, scratch, identity.epoch)?;
    std::fs::write(&script, commands).map_err(Error::io("write", &script))?;
    let output = Tool::new("debugfs")
        .arg("-w")
        .arg("-f")
        .arg(&script)
        .arg(format!("{}?offset={PARTITION_OFFSET}", disk.path.display()))
        .env("E2FSPROGS_FAKE_TIME", identity.epoch.to_string())
        .run()?;
    check(&output.stderr)
}

/// `debugfs` ends well whatever happened: any word beyond its version is an error.
fn check(stderr: &str) -> Result<()> {
    match stderr.lines().find(|line| !line.starts_with("debugfs ") && !line.trim().is_empty()) {
        None => Ok(()),
        Some(line) => Err(Error::new(ErrorKind::Tool, format!("debugfs failed: {line}"))),
    }
}

fn script_for(tree: &Tree, scratch: &Path, epoch: u64) -> Result<String> {
    let mut script = format!("set_current_time @{epoch}\n");
    let mut put = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(script, "{line}");
    };
    for (number, (path, entry)) in tree.iter().enumerate() {
        let path = quoted(path)?;
        let kind = match &entry.node {
            Node::Directory => {
                put(format_args!("mkdir {path}"));
                0o040_000
            }
            Node::File(content) => {
                let source = scratch.join(format!("file-{number}"));
                let content = content.read().map_err(Error::io("read for", &source))?;
                std::fs::write(&source, content).map_err(Error::io("write", &source))?;
                put(format_args!("write {} {path}", quoted(&source.to_string_lossy())?));
                0o100_000
            }
            Node::Symlink(target) => {
                put(format_args!("symlink {path} {}", quoted(target)?));
                continue;
            }
        };
        put(format_args!("set_inode_field {path} mode 0{:o}", kind | entry.mode));
        // What `write` and `mkdir` leave of the one who runs this, or root.
        put(format_args!("set_inode_field {path} uid {}", entry.user));
        put(format_args!("set_inode_field {path} gid {}", entry.group));
        if let Some(modified) = entry.modified {
            put(format_args!("set_inode_field {path} mtime @{modified}"));
        }
        if let Some(capability) = &entry.capability {
            let source = scratch.join(format!("capability-{number}"));
            std::fs::write(&source, capability).map_err(Error::io("write", &source))?;
            let source = quoted(&source.to_string_lossy())?;
            put(format_args!("ea_set {path} security.capability -f {source}"));
        }
    }
    Ok(script)
}

/// A word of the script's language, which splits at blanks and knows quotes but no escapes.
fn quoted(word: &str) -> Result<String> {
    if word.is_empty() || word.contains(|c: char| c.is_control() || c == '"') {
        let context = format!("{word:?} cannot be a path in the image");
        return Err(Error::new(ErrorKind::Content, context));
    }
    Ok(format!("\"{word}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_sets_owner_and_mode_of_files_and_directories() {
        let scratch = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.file("bin/su", 0o4755, b"x".to_vec());
        tree.owned_directory("home/opc", 0o700, 1000);
        let script = script_for(&tree, scratch.path(), 5).unwrap();
        assert!(script.starts_with("set_current_time @5\n"), "{script}");
        assert!(script.contains("set_inode_field \"bin/su\" mode 0104755\n"), "{script}");
        assert!(script.contains("set_inode_field \"home/opc\" mode 040700\n"), "{script}");
        assert!(script.contains("set_inode_field \"home/opc\" uid 1000\n"), "{script}");
    }

    #[test]
    fn refuses_paths_that_the_script_would_misread() {
        for path in ["a\nrm c", "a\"b", ""] {
            assert!(quoted(path).is_err(), "{path:?}");
        }
        assert_eq!(quoted("a b\\x2d").unwrap(), "\"a b\\x2d\"");
    }

    #[test]
    fn anything_debugfs_says_beyond_its_version_is_an_error() {
        assert!(check("debugfs 1.47.0 (5-Feb-2023)\n").is_ok());
        assert!(check("debugfs 1.47.0 (5-Feb-2023)\nmkdir: No free space\n").is_err());
    }
}
