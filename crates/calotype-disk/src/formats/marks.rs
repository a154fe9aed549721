//! Files that are no disk a guest could use, and would otherwise be taken for raw ones.

use super::Ends;
use crate::{Error, ErrorKind, Result};

/// Bytes at a place that tell what a file is.
struct Mark {
    what: &'static str,
    place: Place,
    bytes: &'static [u8],
}

enum Place {
    /// So far from the start of the file.
    Start(usize),
    /// So far from its end.
    End(usize),
}

const fn start(what: &'static str, offset: usize, bytes: &'static [u8]) -> Mark {
    Mark { what, place: Place::Start(offset), bytes }
}

const fn end(what: &'static str, offset: usize, bytes: &'static [u8]) -> Mark {
    Mark { what, place: Place::End(offset), bytes }
}

/// Where a tar archive has its mark.
pub(crate) const TAR_MARK: (usize, &[u8]) = (257, b"ustar");

const MARKS: &[Mark] = &[
    start("an encrypted disk (LUKS)", 0, b"LUKS\xba\xbe"),
    start("an encrypted disk (BitLocker)", 3, b"-FVE-FS-"),
    end("an encrypted disk (GELI)", 512, b"GEOM::ELI"),
    start("a tar archive; of those only .oci archives are taken", TAR_MARK.0, TAR_MARK.1),
    start("a bzip2 file: decompress it first", 4, &[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]),
    start("an lz4 file: decompress it first", 0, &[0x04, 0x22, 0x4d, 0x18]),
    start("a zip archive: take the disk out first", 0, b"PK\x03\x04"),
    start("a 7z archive: take the disk out first", 0, b"7z\xbc\xaf\x27\x1c"),
    start("an XML file, perhaps the description of a disk", 0, b"<?xml"),
    start("a QED disk: convert it to qcow2 first", 0, b"QED\0"),
    start("a Parallels disk: convert it to qcow2 first", 0, b"WithoutFreeSpace"),
    start("a Parallels disk: convert it to qcow2 first", 0, b"WithouFreSpacExt"),
    start("a Bochs disk: convert it to qcow2 first", 0, b"Bochs Virtual HD Image"),
    start("a compressed loop device: unpack it first", 0, b"#!/bin/sh\n#V2.0 Format"),
    end("an Apple disk image: convert it to qcow2 first", 512, b"koly"),
];

/// Refuses a file with one of the marks: [`ErrorKind::UnsupportedFeature`].
pub(super) fn refuse(ends: &Ends<'_>) -> Result<()> {
    let there = |mark: &&Mark| {
        let rest = match mark.place {
            Place::Start(offset) => ends.first.get(offset..),
            Place::End(offset) => {
                ends.last.len().checked_sub(offset).and_then(|start| ends.last.get(start..))
            }
        };
        rest.is_some_and(|rest| rest.starts_with(mark.bytes))
    };
    match MARKS.iter().find(there) {
        Some(mark) => Err(Error::new(ErrorKind::UnsupportedFeature, mark.what)),
        None => Ok(()),
    }
}
