//! A layer over the disk below it, seen as one disk.

use std::sync::Arc;

use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, Result, check_range};

/// `top` over `below`: runs of kind [`ExtentKind::Parent`] are read from below.
///
/// The size is that of `top`. Where `below` is shorter, zeros are seen; where it is longer, its
/// tail is not seen.
#[derive(Clone)]
pub struct Layered {
    /// The layer that decides.
    pub top: Arc<dyn Disk>,
    /// The disk seen where `top` has nothing.
    pub below: Arc<dyn Disk>,
}

impl Disk for Layered {
    fn size_bytes(&self) -> u64 {
        self.top.size_bytes()
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<()> {
        check_range(self.size_bytes(), offset, buf.len())?;
        while !buf.is_empty() {
            let extent = nonempty(self.top.extent_at(offset)?, offset)?;
            let length = usize::try_from(extent.length_bytes).unwrap_or(buf.len()).min(buf.len());
            let (run, rest) = buf.split_at_mut(length);
            match extent.kind {
                ExtentKind::Data => self.top.read_at(offset, run)?,
                ExtentKind::Zero => run.fill(0),
                ExtentKind::Parent => self.read_below(offset, run)?,
            }
            offset += length as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let top = nonempty(self.top.extent_at(offset)?, offset)?;
        if top.kind != ExtentKind::Parent {
            return Ok(top);
        }
        if offset >= self.below.size_bytes() {
            return Ok(Extent { kind: ExtentKind::Zero, ..top });
        }
        let below = nonempty(self.below.extent_at(offset)?, offset)?;
        Ok(Extent { length_bytes: below.length_bytes.min(top.length_bytes), ..below })
    }
}

impl Layered {
    fn read_below(&self, offset: u64, run: &mut [u8]) -> Result<()> {
        let available = self.below.size_bytes().saturating_sub(offset);
        let available = usize::try_from(available).unwrap_or(run.len()).min(run.len());
        let (inside, beyond) = run.split_at_mut(available);
        beyond.fill(0);
        if inside.is_empty() { Ok(()) } else { self.below.read_at(offset, inside) }
    }
}

/// An empty run would never end a loop over runs; a disk that answers one is broken.
fn nonempty(extent: Extent, offset: u64) -> Result<Extent> {
    if extent.length_bytes == 0 {
        return Err(Error::new(ErrorKind::Corrupt, format!("empty run at offset {offset}")));
    }
    Ok(extent)
}
