//! A file as the source of a disk; its holes are found, not read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use calotype_disk::Source;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// A file opened for reading. Its length is taken when it is opened.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length_bytes: u64,
}

impl FileSource {
    /// Opens the file or block device at `path` for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// The source over a file that is open already. Its position is moved by
    /// [`Source::extent_at`], so the descriptor must not be shared with somebody who uses it.
    pub fn new(file: File) -> io::Result<Self> {
        // Works for block devices too, whose metadata say length 0.
        let length_bytes = rustix::fs::seek(&file, SeekFrom::End(0))?;
        Ok(Self { file, length_bytes })
    }
}

impl Source for FileSource {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> io::Result<(u64, bool)> {
        let rest = self.length_bytes.saturating_sub(offset);
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok(((data - offset).min(rest), false)),
            Ok(_) => {
                let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(offset))?;
                Ok((hole.saturating_sub(offset).clamp(1, rest.max(1)), true))
            }
            // No data from here to the end.
            Err(Errno::NXIO) => Ok((rest, false)),
            // A file system or device that cannot tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok((rest, true)),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_holes_of_a_sparse_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        file.as_file().write_all_at(&vec![7; 65536], 262_144).unwrap();
        let source = FileSource::open(file.path()).unwrap();

        let mut offset = 0;
        let mut data = Vec::new();
        while offset < source.length_bytes() {
            let (length, is_data) = source.extent_at(offset).unwrap();
            assert!(length > 0);
            if is_data {
                data.push((offset, length));
            }
            offset += length;
        }
        assert_eq!(offset, 1 << 20);
        // A file system that keeps no holes shows one run of data, which is right as well.
        assert!(data == [(262_144, 65536)] || data == [(0, 1 << 20)], "{data:?}");
    }

    #[test]
    fn refuses_to_read_past_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100).unwrap();
        let source = FileSource::open(file.path()).unwrap();
        assert_eq!(source.length_bytes(), 100);
        assert!(source.read_at(50, &mut [0; 51]).is_err());
    }
}
