//! Reads a root filesystem out of a tar archive without unpacking it: owners, modes and
//! capabilities need no privileges when they stay numbers.

use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;

use tar::EntryType;

use crate::tree::{Content, Entry, Node, Tree};
use crate::{Error, ErrorKind, Result};

const CAPABILITY: &str = "SCHILY.xattr.security.capability";

/// Everything in the archive at `path` but devices, which a kernel makes by itself.
pub(crate) fn read(path: &Path) -> Result<Tree> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let contents = Rc::new(file.try_clone().map_err(Error::io("open", path))?);
    let mut tree = Tree::default();
    let mut archive = tar::Archive::new(file);
    for member in archive.entries().map_err(Error::io("read", path))? {
        let mut member = member.map_err(Error::io("read", path))?;
        let Some(name) = name(&member)? else { continue };
        let capability = capability(&mut member).map_err(Error::io("read", path))?;
        let Some(node) = node(&member, &tree, &contents, path)? else { continue };
        let number = |number: io::Result<u64>| -> Result<u32> {
            let number = number.map_err(Error::io("read", path))?;
            u32::try_from(number).map_err(|_| odd(&name, "its owner is out of range"))
        };
        let header = member.header();
        let entry = Entry {
            node,
            mode: header.mode().map_err(Error::io("read", path))? & 0o7777,
            user: number(header.uid())?,
            group: number(header.gid())?,
            modified: Some(header.mtime().map_err(Error::io("read", path))?),
            capability,
        };
        tree.put(&name, entry);
    }
    Ok(tree)
}

/// The member's path without `./` and closing slash; none for the root itself.
fn name(member: &tar::Entry<'_, File>) -> Result<Option<String>> {
    let bytes = member.path_bytes();
    let name = String::from_utf8_lossy(&bytes);
    let name = relative(&name);
    if name.split('/').any(|part| part == "..") {
        return Err(odd(name, "it leads out of the tree"));
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

fn relative(name: &str) -> &str {
    let name = name.trim_start_matches("./").trim_matches('/');
    if name == "." { "" } else { name }
}

fn node(
    member: &tar::Entry<'_, File>,
    tree: &Tree,
    contents: &Rc<File>,
    path: &Path,
) -> Result<Option<Node>> {
    let target = || {
        let link = member.link_name_bytes().unwrap_or_default();
        String::from_utf8_lossy(&link).into_owned()
    };
    let node = match member.header().entry_type() {
        EntryType::Directory => Node::Directory,
        EntryType::Symlink => Node::Symlink(target()),
        EntryType::Regular | EntryType::Continuous => {
            let length = usize::try_from(member.size());
            let length = length.map_err(|_| odd(&path.to_string_lossy(), "it is too large"))?;
            let offset = member.raw_file_position();
            Node::File(Content::Part { archive: Rc::clone(contents), offset, length })
        }
        // A second name of a file becomes a second file: rare, and nothing relies on the link.
        EntryType::Link => {
            let target = target();
            let first = tree.get(relative(&target));
            first.map(|entry| entry.node.clone()).ok_or_else(|| odd(&target, "it is missing"))?
        }
        _ => return Ok(None),
    };
    Ok(Some(node))
}

fn capability(member: &mut tar::Entry<'_, File>) -> io::Result<Option<Vec<u8>>> {
    let Some(extensions) = member.pax_extensions()? else { return Ok(None) };
    for extension in extensions {
        let extension = extension?;
        if extension.key_bytes() == CAPABILITY.as_bytes() {
            return Ok(Some(extension.value_bytes().to_vec()));
        }
    }
    Ok(None)
}

fn odd(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::Content, format!("the archive's {name:?} cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o104_755);
        header.set_uid(0);
        header.set_gid(42);
        header.set_mtime(7);
        header
    }

    fn archive(build: impl FnOnce(&mut tar::Builder<File>)) -> Result<Tree> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        build(&mut builder);
        builder.finish().unwrap();
        read(&path)
    }

    #[test]
    fn keeps_owner_mode_time_and_content() {
        let tree = archive(|builder| {
            builder
                .append_data(&mut header(EntryType::Regular, 3), "usr/bin/su", &b"abc"[..])
                .unwrap();
        });
        let tree = tree.unwrap();
        let entry = tree.get("usr/bin/su").unwrap();
        assert_eq!((entry.mode, entry.user, entry.group), (0o4755, 0, 42));
        assert_eq!(entry.modified, Some(7));
        let Node::File(content) = &entry.node else { panic!("{entry:?}") };
        assert_eq!(&*content.read().unwrap(), b"abc");
    }

    #[test]
    fn a_hard_link_is_the_same_content_and_a_device_is_left_out() {
        let tree = archive(|builder| {
            builder.append_data(&mut header(EntryType::Regular, 3), "./a", &b"abc"[..]).unwrap();
            builder.append_link(&mut header(EntryType::Link, 0), "./b", "./a").unwrap();
            builder.append_data(&mut header(EntryType::Char, 0), "./null", &b""[..]).unwrap();
        });
        let tree = tree.unwrap();
        let Node::File(content) = &tree.get("b").unwrap().node else { panic!("no file") };
        assert_eq!(&*content.read().unwrap(), b"abc");
        assert!(!tree.contains("null"));
    }

    #[test]
    fn refuses_a_name_that_leads_out() {
        let result = archive(|builder| {
            let mut header = header(EntryType::Regular, 0);
            header.as_gnu_mut().unwrap().name[..4].copy_from_slice(b"../x");
            header.set_cksum();
            builder.append(&header, &b""[..]).unwrap();
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Content);
    }

    #[test]
    fn names_lose_their_dots_only_at_the_edges() {
        for (name, expected) in
            [("./", ""), (".", ""), ("./etc/", "etc"), ("etc/.pwd.lock", "etc/.pwd.lock")]
        {
            assert_eq!(relative(name), expected, "{name}");
        }
    }
}
