//! Raw disks: the file is the disk. Holes of the file are zeros.

use crate::export::{
    Body, ContentId, Export, Head, Output, SECTOR_BYTES, each_nonzero, exported_bytes,
};
use crate::limits::VIRTUAL_SIZE_BYTES_MAX;
use crate::{
    Disk, Error, ErrorKind, Extent, ExtentKind, Result, Source, check_offset, check_range,
};

const BATCH_BYTES: u64 = 1 << 20;

/// Opens a stranger's raw disk: any bytes are one.
pub(super) fn open(source: Box<dyn Source>) -> Result<Box<dyn Disk>> {
    Ok(Box::new(Raw::open(source)?))
}

/// A raw disk.
pub struct Raw {
    source: Box<dyn Source>,
    size_bytes: u64,
}

impl Raw {
    /// The disk whose bytes are those of `source`. Longer than [`VIRTUAL_SIZE_BYTES_MAX`] is
    /// [`ErrorKind::OutOfBounds`].
    pub fn open(source: Box<dyn Source>) -> Result<Self> {
        let size_bytes = source.length_bytes();
        if size_bytes > VIRTUAL_SIZE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::OutOfBounds,
                format!("raw disk of {size_bytes} bytes, over {VIRTUAL_SIZE_BYTES_MAX}"),
            ));
        }
        Ok(Self { source, size_bytes })
    }
}

impl Disk for Raw {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self.size_bytes, offset, buf.len())?;
        self.source
            .read_at(offset, buf)
            .map_err(|error| Error::io(format!("reading raw disk at offset {offset}"), error))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.size_bytes, offset)?;
        let (length_bytes, is_data) = self
            .source
            .extent_at(offset)
            .map_err(|error| Error::io(format!("mapping raw disk at offset {offset}"), error))?;
        // A source that answers nonsense must not make a caller loop for ever.
        let length_bytes = length_bytes.clamp(1, self.size_bytes - offset);
        Ok(Extent { length_bytes, kind: if is_data { ExtentKind::Data } else { ExtentKind::Zero } })
    }
}

/// Plans a raw file: all bytes of the disk, up to a whole sector.
///
/// A disk of no bytes or more than [`VIRTUAL_SIZE_BYTES_MAX`] is [`ErrorKind::OutOfBounds`].
pub fn plan(disk: &dyn Disk) -> Result<Box<dyn Export>> {
    let size_bytes = exported_bytes(disk, "raw", VIRTUAL_SIZE_BYTES_MAX)?;
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
        Some(self.size_bytes)
    }

    fn write(&self, disk: &dyn Disk, body: &mut dyn Body) -> Result<Head> {
        let mut output = Output::new(body, 0);
        write_plain(disk, self.size_bytes, &mut output, &mut ContentId::new(self.size_bytes))?;
        Ok(Head::new())
    }
}

/// Writes the bytes of a disk as they are, from the beginning of the file, zeros as such; `id` gets to
/// know them.
pub(super) fn write_plain(
    disk: &dyn Disk,
    size_bytes: u64,
    output: &mut Output<'_>,
    id: &mut ContentId,
) -> Result<()> {
    each_nonzero(disk, (BATCH_BYTES, SECTOR_BYTES), |batch, checksum| {
        id.add(batch.offset, checksum);
        output.append_zeros(batch.offset - output.position())?;
        output.append_slice(&batch.bytes).map(|_| ())
    })?;
    output.append_zeros(size_bytes - output.position())
}
