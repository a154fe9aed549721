//! Writing an `.oci` archive, front to back except for what says how long its disk is.
//!
//! ```text
//! tar header │ image_metadata.json │ tar header │ output.QCOW2: its header │ and the rest │ end of tar
//!  head                                                                    │ body
//! ```

use super::{ImageMetadata, METADATA_NAME};
use crate::export::{Body, Export, Head, Output};
use crate::{Disk, Error, ErrorKind, Result, qcow2};

/// As real exports have it.
const DISK_NAME: &str = "output.QCOW2";

/// Everything in a tar is laid out by it.
const BLOCK_BYTES: u64 = 512;
/// Two empty blocks, and more, so that the archive is one of whole records.
const RECORD_BYTES: u64 = 20 * BLOCK_BYTES;

/// Plans an archive of the disk, compressed, and what is known about it.
///
/// Refuses what [`qcow2::plan_compressed`] refuses.
pub fn plan(disk: &dyn Disk, metadata: &ImageMetadata) -> Result<Box<dyn Export>> {
    let metadata = metadata.to_json()?;
    let mut first = tar_header(METADATA_NAME, metadata.len() as u64)?;
    first.extend(metadata);
    first.resize(first.len().next_multiple_of(BLOCK_BYTES as usize), 0);
    Ok(Box::new(Planned { first, disk: qcow2::plan_compressed(disk)? }))
}

struct Planned {
    /// The first member, as it is in the archive.
    first: Vec<u8>,
    disk: Box<dyn Export>,
}

impl Export for Planned {
    fn head_bytes(&self) -> u64 {
        self.first.len() as u64 + BLOCK_BYTES + self.disk.head_bytes()
    }

    fn file_bytes(&self) -> Option<u64> {
        None
    }

    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head> {
        let mut output = Output::new(body, self.head_bytes());
        let disk_head = self.disk.write(disk, &mut output)?;
        let disk_bytes = output.position() - self.first.len() as u64 - BLOCK_BYTES;
        output.append_zeros(2 * BLOCK_BYTES)?;
        output.align(RECORD_BYTES)?;

        let mut head = self.first.clone();
        head.extend(tar_header(DISK_NAME, disk_bytes)?);
        head.extend(disk_head);
        Ok(head)
    }
}

/// The header of a plain file, POSIX.1-1988 (`ustar`). A file of 8 GiB and more has its length in
/// binary, as GNU tar writes it and everybody reads it.
fn tar_header(name: &str, length_bytes: u64) -> Result<Vec<u8>> {
    const OCTAL_MAX: u64 = 0o777_7777_7777;
    let size = if length_bytes <= OCTAL_MAX {
        format!("{length_bytes:011o}\0").into_bytes()
    } else {
        [&[0x80, 0, 0, 0][..], &length_bytes.to_be_bytes()].concat()
    };
    let fields: [(usize, &[u8]); 8] = [
        (0, name.as_bytes()),
        (100, b"0000644\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, &size),
        // No time, so that the same disk makes the same archive.
        (136, b"00000000000\0"),
        (156, b"0"),
        (257, b"ustar\x0000"),
    ];
    let mut header = vec![0; BLOCK_BYTES as usize];
    for (place, value) in fields {
        put(&mut header, place, value)?;
    }
    // The sum counts its own field as spaces.
    put(&mut header, 148, &[b' '; 8])?;
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes())?;
    Ok(header)
}

fn put(header: &mut [u8], place: usize, value: &[u8]) -> Result<()> {
    let field = header.get_mut(place..place + value.len());
    let field = field.ok_or_else(|| Error::new(ErrorKind::OutOfBounds, "tar header too long"))?;
    field.copy_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_8_gib_is_binary() {
        let length = |bytes| {
            let header = tar_header("name", bytes).unwrap();
            header.get(124..136).map(<[u8]>::to_vec)
        };
        assert_eq!(length(0o777_7777_7777).as_deref(), Some(&b"77777777777\0"[..]));
        let binary = [0x80, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc];
        assert_eq!(length(0x1234_5678_9abc).as_deref(), Some(&binary[..]));
    }
}
