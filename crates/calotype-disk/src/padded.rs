//! A disk of whole sectors.

use crate::{Disk, Extent, ExtentKind, Result, check_offset, check_range};

/// A disk with zeros behind its end, up to a whole sector: guests have no smaller pieces.
pub struct Padded<D> {
    disk: D,
    size_bytes: u64,
}

/// What every guest can address.
pub const SECTOR_BYTES: u64 = 512;

impl<D: Disk> Padded<D> {
    /// `disk`, and after it less than a sector of zeros.
    pub fn to_sectors(disk: D) -> Self {
        let size_bytes = disk.size_bytes().next_multiple_of(SECTOR_BYTES);
        Self { disk, size_bytes }
    }
}

impl<D: Disk> Disk for Padded<D> {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(self.size_bytes, offset, buf.len())?;
        let inside = self.disk.size_bytes().saturating_sub(offset);
        let inside = usize::try_from(inside).unwrap_or(buf.len()).min(buf.len());
        let (inside, beyond) = buf.split_at_mut(inside);
        beyond.fill(0);
        if inside.is_empty() { Ok(()) } else { self.disk.read_at(offset, inside) }
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.size_bytes, offset)?;
        if offset < self.disk.size_bytes() {
            return self.disk.extent_at(offset);
        }
        Ok(Extent { length_bytes: self.size_bytes - offset, kind: ExtentKind::Zero })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;

    #[test]
    fn the_rest_of_the_last_sector_is_zeros() {
        for (length, size) in [(0, 0), (1, 512), (511, 512), (512, 512), (513, 1024)] {
            let raw = Raw::open(Box::new(vec![7; length])).unwrap();
            let disk = Padded::to_sectors(raw);
            assert_eq!(disk.size_bytes(), size);
            let mut bytes = vec![9; size as usize];
            disk.read_at(0, &mut bytes).unwrap();
            let expected = |index| if index < length { 7 } else { 0 };
            assert!(bytes.iter().enumerate().all(|(index, &byte)| byte == expected(index)));
            let mut offset = 0;
            while offset < size {
                let extent = disk.extent_at(offset).unwrap();
                assert_eq!(extent.kind == ExtentKind::Data, offset < length as u64);
                offset += extent.length_bytes;
            }
            assert_eq!(offset, size);
            assert!(disk.read_at(size, &mut [0]).is_err());
        }
    }
}
