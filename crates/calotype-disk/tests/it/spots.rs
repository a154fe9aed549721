//! A disk that is zero but for some spots, and the files that it is written to.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use calotype_disk::{
    Body, Disk, Error, ErrorKind, Export, Extent, ExtentKind, FormatName, OpenLimits, Result, open,
};

use crate::support::FileSource;

/// Everything that this crate allows.
pub(crate) const NO_LIMITS: OpenLimits =
    OpenLimits { virtual_size_bytes_max: u64::MAX, file_size_bytes_max: u64::MAX };

/// Zeros, and spots of data anywhere that do not overlap.
#[derive(Clone)]
pub(crate) struct Spots {
    pub(crate) size_bytes: u64,
    pub(crate) spots: BTreeMap<u64, Vec<u8>>,
}

impl Spots {
    pub(crate) fn new(size_bytes: u64, spots: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Self {
        Self { size_bytes, spots: spots.into_iter().collect() }
    }

    /// The disk as a raw file of whole sectors.
    pub(crate) fn write_raw(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.size_bytes.next_multiple_of(512)).unwrap();
        for (&offset, bytes) in &self.spots {
            file.write_all_at(bytes, offset).unwrap();
        }
    }
}

impl Disk for Spots {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        assert!(end <= self.size_bytes, "read past the end");
        buf.fill(0);
        for (&start, bytes) in self.spots.range(..end) {
            let (from, to) = (start.max(offset), (start + bytes.len() as u64).min(end));
            if from < to {
                let spot = &bytes[(from - start) as usize..(to - start) as usize];
                buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(spot);
            }
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        if offset >= self.size_bytes {
            return Err(Error::new(ErrorKind::OutOfBounds, "past the end"));
        }
        let last = self.spots.range(..=offset).next_back();
        let spot_end = last.map_or(0, |(&start, bytes)| start + bytes.len() as u64);
        let (kind, end) = if offset < spot_end {
            (ExtentKind::Data, spot_end)
        } else {
            let next = self.spots.range(offset..).next().map(|(&start, _)| start);
            (ExtentKind::Zero, next.unwrap_or(self.size_bytes))
        };
        Ok(Extent { length_bytes: end - offset, kind })
    }
}

/// Bytes that do not deflate, the same for a seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Bytes that deflate well.
pub(crate) fn text(length: usize, seed: u64) -> Vec<u8> {
    (0_u64..)
        .flat_map(|n| format!("line {} of {seed}\n", n * seed % 9973).into_bytes())
        .take(length)
        .collect()
}

/// A body in a file, with holes for zeros.
pub(crate) struct FileBody<'a> {
    pub(crate) file: &'a File,
    pub(crate) position: u64,
}

impl Body for FileBody<'_> {
    fn append(&mut self, bytes: Vec<u8>) -> std::io::Result<()> {
        self.file.write_all_at(&bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn append_zeros(&mut self, length_bytes: u64) -> std::io::Result<()> {
        self.position += length_bytes;
        Ok(())
    }
}

/// Writes the file of a disk; its length.
pub(crate) fn write_file(export: &dyn Export, disk: &dyn Disk, path: &Path) -> u64 {
    let file = File::create(path).unwrap();
    let mut body = FileBody { file: &file, position: export.head_bytes() };
    let head = export.write(disk, &mut body).unwrap();
    assert_eq!(head.len() as u64, export.head_bytes());
    file.write_all_at(&head, 0).unwrap();
    file.set_len(body.position).unwrap();
    if let Some(promised) = export.file_bytes() {
        assert_eq!(body.position, promised);
    }
    body.position
}

/// A body in memory, with the plain way for zeros.
#[derive(Default)]
struct Memory(Vec<u8>);

impl Body for Memory {
    fn append(&mut self, mut bytes: Vec<u8>) -> std::io::Result<()> {
        self.0.append(&mut bytes);
        Ok(())
    }
}

/// The bytes of the file of a disk.
pub(crate) fn written(export: &dyn Export, disk: &dyn Disk) -> Vec<u8> {
    let mut body = Memory::default();
    let mut file = export.write(disk, &mut body).unwrap();
    assert_eq!(file.len() as u64, export.head_bytes());
    file.append(&mut body.0);
    file
}

pub(crate) fn open_file(format: FormatName, path: &Path) -> Box<dyn Disk> {
    let source = Box::new(FileSource(File::open(path).unwrap()));
    open(source, Some(format), &NO_LIMITS).unwrap().1
}

/// What a file is refused for, when it is opened or when it is walked: kind, and the error with its
/// causes.
pub(crate) fn refusal(format: FormatName, bytes: Vec<u8>) -> Option<(ErrorKind, String)> {
    let walked = open(Box::new(bytes), Some(format), &NO_LIMITS)
        .and_then(|(_, disk)| crate::support::walk(disk.as_ref()));
    let error = walked.err()?;
    Some((error.kind(), error.to_string()))
}

/// Asserts that a file is refused for this reason, and no other.
#[track_caller]
pub(crate) fn assert_refused(format: FormatName, bytes: Vec<u8>, kind: ErrorKind, reason: &str) {
    let (found, why) = refusal(format, bytes).unwrap_or_else(|| panic!("read, not: {reason}"));
    assert!(found == kind && why.contains(reason), "{found:?}: {why}; not {kind:?}: {reason}");
}

/// The file with `value` at `offset`.
pub(crate) fn poked(file: &[u8], offset: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    bytes[offset..offset + value.len()].copy_from_slice(value);
    bytes
}
