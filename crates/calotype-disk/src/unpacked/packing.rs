//! The ways in which a file can be compressed as a whole.

use std::fmt;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use zstd::stream::read::Decoder;

use crate::limits::{XZ_MEMORY_KIB_MAX, ZSTD_WINDOW_BITS_MAX};

/// How much of the compressed file is read at once.
const READ_BYTES: usize = 256 << 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// gzip; several members are one file.
    Gzip,
    /// xz; several streams are one file.
    Xz,
    /// zstd; several frames are one file.
    Zstd,
}

impl Packing {
    /// The packing of a file that begins with `first`.
    pub fn of(first: &[u8]) -> Option<Self> {
        match first {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // A frame, or one that is to be skipped, as parallel compressors begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// What `packed` unpacks to. The memory it needs is bounded, and it fails at the end of data
    /// whose checksum is wrong.
    pub(super) fn stream(
        self,
        packed: impl Read + Send + 'static,
    ) -> io::Result<Box<dyn Read + Send>> {
        let packed = BufReader::with_capacity(READ_BYTES, packed);
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Xz => Box::new(XzReader::new_mem_limit(packed, true, XZ_MEMORY_KIB_MAX)),
            Self::Zstd => {
                let mut decoder = Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_BITS_MAX)?;
                Box::new(decoder)
            }
        })
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
