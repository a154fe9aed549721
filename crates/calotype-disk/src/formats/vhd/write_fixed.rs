//! Writing a fixed vhd: the disk's bytes, and a footer.

use super::footer::{self, FIXED, FOOTER_BYTES, NO_OFFSET};
use crate::export::{Body, ContentId, Export, Head, Output, exported_bytes};
use crate::formats::raw::write_plain;
use crate::limits::VHD_SIZE_BYTES_MAX;
use crate::{Disk, Result};

/// Plans a fixed vhd.
///
/// A disk of no bytes or more than [`VHD_SIZE_BYTES_MAX`] is [`crate::ErrorKind::OutOfBounds`].
pub fn plan_fixed(disk: &dyn Disk) -> Result<Box<dyn Export>> {
    let size_bytes = exported_bytes(disk, "vhd", VHD_SIZE_BYTES_MAX)?;
    Ok(Box::new(Planned { size_bytes }))
}

struct Planned {
    size_bytes: u64,
}

impl Export for Planned {
    fn head_bytes(&self) -> u64 {
        0
    }

    fn file_bytes(&self) -> Option<u64> {
        Some(self.size_bytes + FOOTER_BYTES)
    }

    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head> {
        let mut output = Output::new(body, 0);
        let mut id = ContentId::new(self.size_bytes);
        write_plain(disk, self.size_bytes, &mut output, &mut id)?;
        output.append(footer::make(self.size_bytes, FIXED, NO_OFFSET, id.uuid()))?;
        Ok(Head::new())
    }
}
