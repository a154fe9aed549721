//! Writing a dynamic vdi: header and block map in the head, blocks in the body.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U32, U64};

use super::header::{
    BLOCK_BYTES, DYNAMIC, HEADER_BYTES, RawHeader, SIGNATURE, SIGNATURE_OFFSET, UNALLOCATED,
    VERSION,
};
use crate::export::{
    Body, ContentId, Export, Head, Output, SECTOR_BYTES, each_nonzero, exported_bytes,
};
use crate::limits::VIRTUAL_SIZE_BYTES_MAX;
use crate::{Disk, Result};

const TEXT: &[u8] = b"<<< Calotype Virtual Disk Image >>>\n";
/// From the field itself to the end of the header that all versions 1.1 have.
const HEADER_SIZE: u32 = 0x190;

/// Plans a dynamic vdi.
///
/// A disk of no bytes or more than [`VIRTUAL_SIZE_BYTES_MAX`] is
/// [`crate::ErrorKind::OutOfBounds`].
pub fn plan(disk: &dyn Disk) -> Result<Box<dyn Export>> {
    let size_bytes = exported_bytes(disk, "vdi", VIRTUAL_SIZE_BYTES_MAX)?;
    Ok(Box::new(Planned { size_bytes, blocks: size_bytes.div_ceil(BLOCK_BYTES) }))
}

struct Planned {
    size_bytes: u64,
    blocks: u64,
}

impl Export for Planned {
    fn head_bytes(&self) -> u64 {
        (HEADER_BYTES + self.blocks * 4).next_multiple_of(SECTOR_BYTES)
    }

    fn file_bytes(&self) -> Option<u64> {
        None
    }

    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head> {
        let mut output = Output::new(body, self.head_bytes());
        let mut map = vec![UNALLOCATED; self.blocks as usize];
        let mut id = ContentId::new(self.size_bytes);
        let mut allocated = 0;
        each_nonzero(disk, (BLOCK_BYTES, BLOCK_BYTES), |batch, checksum| {
            if let Some(entry) = map.get_mut((batch.offset / BLOCK_BYTES) as usize) {
                *entry = allocated;
            }
            allocated += 1;
            id.add(batch.offset, checksum);
            output.append_slice(&batch.bytes).map(|_| ())
        })?;
        let mut head = self.header(allocated, &id).as_bytes().to_vec();
        head.extend(map.iter().flat_map(|entry| entry.to_le_bytes()));
        head.resize(self.head_bytes() as usize, 0);
        Ok(head)
    }
}

impl Planned {
    fn header(&self, allocated: u32, id: &ContentId) -> RawHeader {
        let mut text = [0; SIGNATURE_OFFSET];
        text.iter_mut().zip(TEXT).for_each(|(place, &letter)| *place = letter);
        RawHeader {
            text,
            signature: SIGNATURE,
            version: U32::new(VERSION),
            header_size: U32::new(HEADER_SIZE),
            image_type: U32::new(DYNAMIC),
            image_flags: U32::ZERO,
            description: [0; 256],
            map_offset: U32::new(HEADER_BYTES as u32),
            data_offset: U32::new(self.head_bytes() as u32),
            // No geometry: who wants one makes it from the size.
            cylinders: U32::ZERO,
            heads: U32::ZERO,
            sectors: U32::ZERO,
            sector_size: U32::new(SECTOR_BYTES as u32),
            unused_1: U32::ZERO,
            disk_size: U64::new(self.size_bytes),
            block_size: U32::new(BLOCK_BYTES as u32),
            block_extra: U32::ZERO,
            blocks: U32::new(self.blocks as u32),
            blocks_allocated: U32::new(allocated),
            uuid_image: id.uuid(),
            uuid_last_snapshot: id.uuid(),
            uuid_link: [0; 16],
            uuid_parent: [0; 16],
            unused_2: [0; 56],
        }
    }
}
