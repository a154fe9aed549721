//! A compressed file as if it were not: read forwards as it unpacks, without a copy of it anywhere.
//!
//! ```text
//!   file   ──► decompressor ──► ring of what came last ──► reads
//!                  ▲                                        │
//!                  └── begins anew for a read before it ◄───┘
//! ```
//!
//! A first pass finds the length and verifies the checksums, so that nothing is served of a file that
//! is damaged or too large. Formats are read forwards for the most part; how often a file may be
//! unpacked all over again is limited.

mod packing;

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use packing::Packing;

use crate::formats::{BothEnds, OpenLimits, refuse_two_formats};
use crate::limits::{UNPACKED_PASSES_MAX, UNPACKED_TAIL_BYTES, UNPACKED_WINDOW_BYTES};
use crate::{Error, ErrorKind, Result, Source};

/// What is unpacked at once. Small beside the window: what is unpacked in advance pushes out what a
/// read may go back to.
const UNPACKED_STEP_BYTES: usize = 128 << 10;

/// `source` itself, or what it unpacks to if it is compressed.
///
/// Unpacks once only: what is compressed twice is [`ErrorKind::InvalidFormat`], and more than
/// `limits` allow for a file is [`ErrorKind::OutOfBounds`] before or after unpacking.
pub fn unpack(source: Box<dyn Source>, limits: &OpenLimits) -> Result<Box<dyn Source>> {
    limits.check_file(source.length_bytes())?;
    let both = BothEnds::read(source.as_ref())?;
    let Some(packing) = Packing::of(&both.first) else { return Ok(source) };
    refuse_two_formats(&both.ends(), packing.name())?;
    let unpacked = Unpacked::open(source, packing, limits)?;
    let mut first = vec![0; both.first.len().min(unpacked.length_bytes as usize)];
    unpacked
        .read_at(0, &mut first)
        .map_err(|error| Error::io(format!("unpacking {packing} again"), error))?;
    match Packing::of(&first) {
        Some(inner) => Err(Error::new(
            ErrorKind::InvalidFormat,
            format!("{inner} data inside of {packing} data"),
        )),
        None => Ok(Box::new(unpacked)),
    }
}

/// A compressed file, unpacked as it is read.
pub struct Unpacked {
    file: PackedFile,
    length_bytes: u64,
    /// The last bytes, in which some formats have what tells the rest.
    tail: Vec<u8>,
    position: Mutex<Position>,
}

/// What is needed to begin anew.
struct PackedFile {
    source: Arc<dyn Source>,
    packing: Packing,
}

/// How far it was unpacked, and what came last.
struct Position {
    /// None after a failure: the decompressor cannot go on.
    stream: Option<Box<dyn Read + Send>>,
    /// Bytes that came out since the stream began.
    at: u64,
    /// The byte at offset `n` of the file is at `n % length`.
    ring: Vec<u8>,
    /// Bytes that came out of all streams.
    spent_bytes: u64,
}

impl Unpacked {
    /// Unpacks the whole once, to count it and to verify its checksums. Damage is
    /// [`ErrorKind::Corrupt`], more than `limits` allow for a file [`ErrorKind::OutOfBounds`].
    pub fn open(source: Box<dyn Source>, packing: Packing, limits: &OpenLimits) -> Result<Self> {
        let failed = Arc::new(AtomicBool::new(false));
        let watched = Watched { source, failed: Arc::clone(&failed) };
        let file = PackedFile { source: Arc::new(watched), packing };
        let ring = vec![0; UNPACKED_WINDOW_BYTES];
        let mut position = Position { stream: None, at: 0, ring, spent_bytes: 0 };
        let damaged = |error: io::Error| {
            let source_failed = failed.load(Ordering::Relaxed);
            let kind = if source_failed { ErrorKind::Io } else { ErrorKind::Corrupt };
            Error::new(kind, format!("unpacking {packing}")).with_source(error)
        };
        position.stream = Some(file.stream().map_err(damaged)?);
        while position.advance().map_err(damaged)? > 0 {
            if position.at > limits.file_size_bytes_max {
                return Err(Error::new(
                    ErrorKind::OutOfBounds,
                    format!(
                        "{packing} data of {} bytes unpacks to more than {}",
                        file.source.length_bytes(),
                        limits.file_size_bytes_max
                    ),
                ));
            }
        }
        let length_bytes = position.at;
        let tail = position.last(UNPACKED_TAIL_BYTES);
        Ok(Self { file, length_bytes, tail, position: Mutex::new(position) })
    }

    /// The part of the tail at `offset`, if that is all in it.
    fn in_tail(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let start = offset.checked_sub(self.length_bytes - self.tail.len() as u64)?;
        self.tail.get(start as usize..)?.get(..length)
    }

    /// Begins anew to get to `offset`, unless that was done too often.
    fn begin_anew(&self, position: &mut Position, offset: u64) -> io::Result<()> {
        let budget = self.length_bytes.saturating_mul(UNPACKED_PASSES_MAX);
        if position.spent_bytes.saturating_add(offset) > budget {
            return Err(io::Error::other(format!(
                "the disk's parts are in no order in which {} data can be read: unpack the file \
                 first",
                self.file.packing
            )));
        }
        position.at = 0;
        position.stream = Some(self.file.stream()?);
        Ok(())
    }
}

impl PackedFile {
    fn stream(&self) -> io::Result<Box<dyn Read + Send>> {
        self.packing.stream(Forwards { source: Arc::clone(&self.source), at: 0 })
    }
}

impl Position {
    /// Unpacks some more; zero at the end.
    fn advance(&mut self) -> io::Result<usize> {
        let start = (self.at % self.ring.len() as u64) as usize;
        let end = (start + UNPACKED_STEP_BYTES).min(self.ring.len());
        let (Some(stream), Some(room)) = (&mut self.stream, self.ring.get_mut(start..end)) else {
            return Err(io::Error::other("a decompressor that failed before"));
        };
        match stream.read(room) {
            Ok(length) => {
                self.at += length as u64;
                self.spent_bytes += length as u64;
                Ok(length)
            }
            Err(error) => {
                self.stream = None;
                Err(error)
            }
        }
    }

    /// The last bytes that came, `length_max` at most.
    fn last(&self, length_max: usize) -> Vec<u8> {
        let mut offset = self.at.saturating_sub(length_max as u64);
        let mut bytes = Vec::new();
        while let piece @ [_, ..] = self.recent(offset) {
            bytes.extend_from_slice(piece);
            offset += piece.len() as u64;
        }
        bytes
    }

    /// What the ring has from `offset` on: nothing, if that has not come yet or was overwritten.
    fn recent(&self, offset: u64) -> &[u8] {
        let length = self.ring.len() as u64;
        let there = self.at.saturating_sub(offset);
        if there > length {
            return &[];
        }
        let start = offset % length;
        let end = (start + there).min(length);
        self.ring.get(start as usize..end as usize).unwrap_or_default()
    }
}

impl Source for Unpacked {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.length_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(bytes) = self.in_tail(offset, buf.len()) {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        while !buf.is_empty() {
            let recent = position.recent(offset);
            if let length @ 1.. = recent.len().min(buf.len()) {
                let (to, rest) = buf.split_at_mut(length);
                to.copy_from_slice(recent.get(..length).unwrap_or_default());
                offset += length as u64;
                buf = rest;
            } else if offset < position.at || position.stream.is_none() {
                self.begin_anew(&mut position, offset)?;
            } else if position.advance()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

/// A source that remembers whether it failed: decompressors do not tell whose failure it was.
struct Watched {
    source: Box<dyn Source>,
    failed: Arc<AtomicBool>,
}

impl Source for Watched {
    fn length_bytes(&self) -> u64 {
        self.source.length_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let read = self.source.read_at(offset, buf);
        self.failed.fetch_or(read.is_err(), Ordering::Relaxed);
        read
    }
}

/// A source read from its start to its end.
struct Forwards {
    source: Arc<dyn Source>,
    at: u64,
}

impl Read for Forwards {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.source.length_bytes().saturating_sub(self.at);
        let length = usize::try_from(rest).unwrap_or(buf.len()).min(buf.len());
        let (to, _) = buf.split_at_mut(length);
        self.source.read_at(self.at, to)?;
        self.at += length as u64;
        Ok(length)
    }
}
