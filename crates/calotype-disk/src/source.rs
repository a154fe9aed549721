//! The bytes of a file, positioned, as the caller provides them.

use std::sync::Arc;

/// Bytes of a file, positioned; the crate never opens anything itself.
pub trait Source: Send + Sync {
    /// The length, fixed for as long as the source is in use.
    fn length_bytes(&self) -> u64;

    /// Fills `buf` from `offset`, or fails.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()>;

    /// The run that starts at `offset`: its length and whether it is data (a hole if not).
    ///
    /// By default everything is data.
    fn extent_at(&self, offset: u64) -> std::io::Result<(u64, bool)> {
        Ok((self.length_bytes().saturating_sub(offset), true))
    }
}

/// A part of another source.
pub(crate) struct Part {
    source: Arc<dyn Source>,
    start: u64,
    length_bytes: u64,
}

impl Part {
    /// The caller has checked that the part lies inside.
    pub(crate) fn new(source: Arc<dyn Source>, start: u64, length_bytes: u64) -> Self {
        Self { source, start, length_bytes }
    }
}

impl Source for Part {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.length_bytes) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.source.read_at(self.start + offset, buf)
    }

    fn extent_at(&self, offset: u64) -> std::io::Result<(u64, bool)> {
        let (length_bytes, is_data) = self.source.extent_at(self.start + offset)?;
        Ok((length_bytes.min(self.length_bytes.saturating_sub(offset)), is_data))
    }
}

/// A file that is already in memory.
impl Source for Vec<u8> {
    fn length_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}
