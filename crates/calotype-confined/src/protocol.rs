//! What is said over the socket: a head of 16 bytes, and as many bytes as it says.
//!
//! ```text
//! word   u32   what it is ([`Word`])
//! length u32   bytes that follow; in a request to read, bytes wanted
//! offset u64   in the disk or in the file
//! ```
//!
//! The service asks, and waits for the answer. Meanwhile the reader asks for bytes of the file, any
//! number of times; so one socket is enough, and neither side needs a thread to listen.

use calotype_disk::{Error, ErrorKind, ExtentKind, FormatName};
use serde::{Deserialize, Serialize};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::confinement::Confinement;

/// Before everything that is said.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Head {
    pub(crate) word: U32,
    pub(crate) length: U32,
    pub(crate) offset: U64,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Word {
    /// To the reader: open the file; [`Order`] follows.
    Open = 1,
    /// To the reader: read `length` bytes of the disk.
    Read = 2,
    /// To the reader: which runs follow from `offset` on.
    Extents = 3,
    /// To the service: bring `length` bytes of the file.
    Bring = 4,
    /// To the service: is it data or a hole at `offset` of the file.
    Hole = 5,
    /// It worked; what was asked for follows.
    Done = 6,
    /// It did not; [`Failure`] follows.
    Failed = 7,
}

impl Word {
    pub(crate) fn of(number: u32) -> Option<Self> {
        [Self::Open, Self::Read, Self::Extents, Self::Bring, Self::Hole, Self::Done, Self::Failed]
            .into_iter()
            .find(|word| *word as u32 == number)
    }
}

/// What to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) file_bytes: u64,
    pub(crate) expected: crate::disk::Expected,
    pub(crate) virtual_size_bytes_max: u64,
    pub(crate) file_size_bytes_max: u64,
}

/// A file that was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Its format; for an archive that of the disk in it.
    pub format: FormatName,
    /// The size of the virtual disk.
    pub size_bytes: u64,
    /// What an archive says of its image.
    pub metadata: Option<calotype_disk::oci_archive::ImageMetadata>,
    /// What the reader was denied while it opened the file.
    pub confinement: Confinement,
}

/// One run as it is sent.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawExtent {
    pub(crate) length_bytes: U64,
    pub(crate) kind: U32,
}

pub(crate) const EXTENT_KINDS: [ExtentKind; 3] =
    [ExtentKind::Data, ExtentKind::Zero, ExtentKind::Parent];

/// Why something did not work.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: u32,
    message: String,
}

/// In an order that never changes.
const ERROR_KINDS: [ErrorKind; 5] = [
    ErrorKind::Io,
    ErrorKind::InvalidFormat,
    ErrorKind::UnsupportedFeature,
    ErrorKind::Corrupt,
    ErrorKind::OutOfBounds,
];

impl Failure {
    pub(crate) fn of(error: &Error) -> Self {
        let kind = ERROR_KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(3) as u32;
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        message.truncate(message.floor_char_boundary(crate::limits::ERROR_BYTES_MAX));
        Self { kind, message }
    }

    pub(crate) fn error(self) -> Error {
        let kind = ERROR_KINDS.get(self.kind as usize).copied().unwrap_or(ErrorKind::Corrupt);
        let mut message = self.message;
        message.truncate(message.floor_char_boundary(crate::limits::ERROR_BYTES_MAX));
        Error::new(kind, message)
    }
}
