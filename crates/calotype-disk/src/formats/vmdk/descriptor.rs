//! The text that describes a vmdk: parsed for what it must not say, and written.

use super::header::Header;
use crate::Result;
use crate::export::SECTOR_BYTES;
use crate::formats::blocks::{corrupt, unsupported};

pub(super) const STREAM_OPTIMIZED: &str = "streamOptimized";
pub(super) const MONOLITHIC_SPARSE: &str = "monolithicSparse";

/// What a descriptor that is written has room for, in sectors: as much as everybody's.
pub(super) const SECTORS: u64 = 20;

/// Why a file is refused that is one of several extents.
pub(super) const NO_DESCRIPTOR: &str = "vmdk extent without a descriptor, a part of a larger disk";

/// No disk below.
const NO_PARENT: &str = "ffffffff";

/// Whether a file begins as a descriptor that stands alone, as QEMU finds it out.
pub(super) fn looks_like_one(first: &[u8]) -> bool {
    let text = first.trim_ascii_start();
    let told = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let mut told = told.skip_while(|line| line.is_empty() || line.starts_with(b"#"));
    text.starts_with(b"# Disk DescriptorFile")
        || told.next().is_some_and(|line| line.starts_with(b"version="))
}

/// Refuses everything but one sparse extent, this very file, without a parent.
pub(super) fn check(text: &[u8], header: &Header) -> Result<()> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let text = String::from_utf8_lossy(text.get(..end).unwrap_or_default());
    if text.trim().is_empty() {
        return Err(unsupported(NO_DESCRIPTOR));
    }
    let (mut create_type, mut extents) = (None, 0);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((key, value)) = key_value(line) {
            check_value(&key, value)?;
            if key == "createtype" && create_type.replace(value).is_some() {
                return Err(corrupt("vmdk descriptor with two values of createType"));
            }
        } else {
            extents += 1;
            check_extent(line, header)?;
        }
    }
    if extents != 1 {
        return Err(unsupported(format!("vmdk of {extents} extents, not one")));
    }
    check_type(create_type, header)
}

/// A line `key = value`, the key in lower case and the value without its quotes.
fn key_value(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.split_once('=')?;
    // The name of an extent's file may have the sign too.
    let key = key.trim();
    let plain = key.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-_".contains(letter));
    plain.then(|| (key.to_ascii_lowercase(), value.trim().trim_matches('"')))
}

fn check_value(key: &str, value: &str) -> Result<()> {
    match key {
        "parentcid" if !value.eq_ignore_ascii_case(NO_PARENT) => {
            Err(unsupported("vmdk that needs a parent"))
        }
        "parentfilenamehint" => Err(unsupported("vmdk that names a parent")),
        "changetrackpath" => Err(unsupported("vmdk that names a file of changes")),
        key if key.starts_with("encryption") => Err(unsupported("encrypted vmdk")),
        _ => Ok(()),
    }
}

/// `ACCESS SECTORS TYPE "FILE" [OFFSET]`
fn check_extent(line: &str, header: &Header) -> Result<()> {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (access, sectors, kind, name) = (word(), word(), word(), word().trim());
    if !matches!(access, "RW" | "RDONLY" | "NOACCESS") {
        return Err(corrupt(format!("vmdk descriptor with the line {:?}", shortened(line))));
    }
    if access == "NOACCESS" {
        return Err(unsupported("vmdk extent that must not be read"));
    }
    if kind != "SPARSE" {
        return Err(unsupported(format!("vmdk extent of type {:?}", shortened(kind))));
    }
    if name.contains(['/', '\\']) || name.contains("..") {
        return Err(unsupported("vmdk extent that is the path of another file"));
    }
    // VirtualBox rounds the header's capacity up to a grain; QEMU takes the header's, and so do we.
    let sectors: u64 = sectors.parse().map_err(|_| corrupt("vmdk extent without a size"))?;
    let beyond = header.capacity_sectors.checked_sub(sectors);
    if beyond.is_none_or(|beyond| beyond >= header.grain_bytes / SECTOR_BYTES) {
        return Err(corrupt(format!(
            "vmdk extent of {sectors} sectors with a capacity of {}",
            header.capacity_sectors
        )));
    }
    Ok(())
}

fn check_type(create_type: Option<&str>, header: &Header) -> Result<()> {
    let is_compressed = match create_type {
        Some(STREAM_OPTIMIZED) => true,
        Some(MONOLITHIC_SPARSE) => false,
        Some(other) => {
            return Err(unsupported(format!("vmdk of createType {:?}", shortened(other))));
        }
        None => return Err(corrupt("vmdk descriptor without a createType")),
    };
    if is_compressed == header.compressed {
        Ok(())
    } else {
        Err(corrupt("vmdk whose createType disagrees with its compression"))
    }
}

/// The beginning of what a file says, for an error.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The descriptor of a file that is written, in the room that it has.
///
/// The content id is the one of a new disk: nothing has this file as its parent. The name is that of no
/// file in particular, for readers take the file in which they find it.
pub(super) fn make(create_type: &str, capacity_sectors: u64) -> Vec<u8> {
    const HEADS: u64 = 255;
    const SECTORS_PER_TRACK: u64 = 63;
    let cylinders = (capacity_sectors / (HEADS * SECTORS_PER_TRACK)).clamp(1, 65_535);
    let text = format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         CID=fffffffe\n\
         parentCID={NO_PARENT}\n\
         createType=\"{create_type}\"\n\
         \n\
         # Extent description\n\
         RW {capacity_sectors} SPARSE \"disk.vmdk\"\n\
         \n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.virtualHWVersion = \"4\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{HEADS}\"\n\
         ddb.geometry.sectors = \"{SECTORS_PER_TRACK}\"\n\
         ddb.adapterType = \"lsilogic\"\n"
    );
    let mut bytes = text.into_bytes();
    bytes.resize((SECTORS * SECTOR_BYTES) as usize, 0);
    bytes
}
