//! Writes cpio archives in the "newc" form that the kernel unpacks as its initial RAM filesystem.
//!
//! Owner is root, times are zero and the order is the tree's: the same tree gives the same bytes.

use std::io::{self, Write};

use crate::tree::{Node, Tree};

const MAGIC: &str = "070701";
const ALIGNMENT: usize = 4;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;

/// Writes `tree` and the trailer to `out`.
pub(crate) fn write(tree: &Tree, out: &mut impl Write) -> io::Result<()> {
    let mut inode = 0;
    for (path, entry) in tree.iter() {
        inode += 1;
        match &entry.node {
            Node::Directory => member(out, inode, path, TYPE_DIRECTORY | entry.mode, &[])?,
            Node::File(content) => {
                member(out, inode, path, TYPE_FILE | entry.mode, &content.read()?)?;
            }
            Node::Symlink(target) => {
                member(out, inode, path, TYPE_SYMLINK | 0o777, target.as_bytes())?;
            }
        }
    }
    member(out, 0, "TRAILER!!!", 0, &[])
}

fn member(out: &mut impl Write, inode: u32, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
    let size = u32::try_from(data.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a member over 4 GiB"))?;
    let name_size = u32::try_from(name.len() + 1)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a name over 4 GiB"))?;
    let links = if mode & TYPE_DIRECTORY == TYPE_DIRECTORY { 2 } else { 1 };
    // inode, mode, uid, gid, nlink, mtime, size, dev major/minor, rdev major/minor, name size, check
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
    let fields = fields.map(|field| format!("{field:08X}")).concat();
    let header = format!("{MAGIC}{fields}{name}\0");
    write_padded(out, header.as_bytes())?;
    write_padded(out, data)
}

fn write_padded(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
    out.write_all(&[0; ALIGNMENT][..padding])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reader that knows only what the kernel's documentation says of the format.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut members = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let text = std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            assert_eq!(bytes[110 + name_size - 1], 0);
            let start = (110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(bytes.len(), start);
                return members;
            }
            members.push((name, mode, bytes[start..start + size].to_vec()));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
        }
    }

    fn archive(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(tree, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn parents_come_before_children_and_links_carry_their_target() {
        let mut tree = Tree::default();
        tree.file("bin/tool", 0o755, b"abc".to_vec());
        tree.symlink("bin/alias", "tool");
        let members = read(&archive(&tree));
        let expected = [
            ("bin".to_owned(), 0o040_755, Vec::new()),
            ("bin/alias".to_owned(), 0o120_777, b"tool".to_vec()),
            ("bin/tool".to_owned(), 0o100_755, b"abc".to_vec()),
        ];
        assert_eq!(members, expected);
    }

    proptest! {
        #[test]
        fn every_file_is_read_back(
            files in proptest::collection::btree_map("[a-z]{1,12}", proptest::collection::vec(any::<u8>(), 0..40), 0..8)
        ) {
            let mut tree = Tree::default();
            for (name, data) in &files {
                tree.file(name, 0o644, data.clone());
            }
            let members = read(&archive(&tree));
            let read: Vec<_> = members.into_iter().map(|(name, _, data)| (name, data)).collect();
            let written: Vec<_> = files.into_iter().collect();
            prop_assert_eq!(read, written);
        }
    }
}
