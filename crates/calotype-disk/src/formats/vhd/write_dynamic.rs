//! Writing a dynamic vhd: footer, header and table in the head, blocks and the footer in the body.

use super::footer::{self, DYNAMIC, FOOTER_BYTES};
use super::header::{self, HEADER_BYTES, UNALLOCATED, bitmap_bytes};
use crate::export::{
    Body, ContentId, Export, Head, Output, SECTOR_BYTES, each_nonzero, exported_bytes,
};
use crate::formats::blocks::out_of_bounds;
use crate::limits::VHD_SIZE_BYTES_MAX;
use crate::{Disk, Result};

/// What everybody writes.
const BLOCK_BYTES: u64 = 2 << 20;
/// Data begins at a multiple of this behind the head, as it does in the disk, so that a store that keeps
/// each piece of a disk once knows the pieces of the file. The bitmaps end there.
const ALIGNMENT_BYTES: u64 = 64 << 10;
const TABLE_OFFSET: u64 = FOOTER_BYTES + HEADER_BYTES;

/// Plans a dynamic vhd.
///
/// A disk of no bytes or more than [`VHD_SIZE_BYTES_MAX`] is [`crate::ErrorKind::OutOfBounds`].
pub fn plan_dynamic(disk: &dyn Disk) -> Result<Box<dyn Export>> {
    let size_bytes = exported_bytes(disk, "vhd", VHD_SIZE_BYTES_MAX)?;
    Ok(Box::new(Planned { size_bytes, blocks: size_bytes.div_ceil(BLOCK_BYTES) }))
}

struct Planned {
    size_bytes: u64,
    blocks: u64,
}

impl Export for Planned {
    fn head_bytes(&self) -> u64 {
        (TABLE_OFFSET + self.blocks * 4).next_multiple_of(SECTOR_BYTES)
    }

    fn file_bytes(&self) -> Option<u64> {
        None
    }

    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head> {
        let mut output = Output::new(body, self.head_bytes());
        let mut table = vec![UNALLOCATED; self.blocks as usize];
        let mut id = ContentId::new(self.size_bytes);
        each_nonzero(disk, (BLOCK_BYTES, BLOCK_BYTES), |batch, checksum| {
            let bitmap_bytes = bitmap_bytes(BLOCK_BYTES);
            output.append_zeros(ALIGNMENT_BYTES - bitmap_bytes)?;
            // All of its sectors are there.
            let start = output.append(vec![0xff; bitmap_bytes as usize])?;
            if let Some(entry) = table.get_mut((batch.offset / BLOCK_BYTES) as usize) {
                *entry = u32::try_from(start / SECTOR_BYTES)
                    .map_err(|_| out_of_bounds("vhd file larger than 2 TiB"))?;
            }
            id.add(batch.offset, checksum);
            output.append_slice(&batch.bytes).map(|_| ())
        })?;
        let footer = footer::make(self.size_bytes, DYNAMIC, FOOTER_BYTES, id.uuid());
        output.append(footer.clone())?;

        let mut head = footer;
        head.extend(header::make(TABLE_OFFSET, self.blocks, BLOCK_BYTES));
        head.extend(table.iter().flat_map(|sector| sector.to_be_bytes()));
        // Behind the table there is what QEMU writes there too.
        head.resize(self.head_bytes() as usize, 0xff);
        Ok(head)
    }
}
