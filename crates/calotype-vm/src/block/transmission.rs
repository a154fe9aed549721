//! Serves one export to one client: requests in, replies out, one at a time.

use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;

use calotype_disk::{Disk, ExtentKind};

use super::Counters;
use super::negotiation::Features;
use super::wire::{
    ALLOCATION_ID, DATA, HOLE_AND_ZERO, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
    chunk, command, error, read_u16, read_u32, read_u64, violation,
};
use crate::limits::{NBD_EXTENTS_MAX, NBD_PIECE_BYTES_MAX, NBD_REQUEST_BYTES_MAX};

/// A guest that reads a damaged place again and again must not fill the log.
const FAILURES_LOGGED_MAX: u64 = 8;
/// The longest header before data: chunk header and offset.
const HEADER_BYTES_MAX: usize = 28;

/// Serves until the client disconnects; an error when it does so without a word.
pub(super) fn transmit(
    reader: &mut impl Read,
    writer: &mut impl Write,
    disk: &dyn Disk,
    features: Features,
    counters: &Counters,
) -> io::Result<()> {
    let buffer = Vec::new();
    let mut transmission =
        Transmission { writer, disk, features, counters, buffer, failures_logged: 0 };
    loop {
        let request = Request::read(reader)?;
        match request.command {
            command::DISCONNECT => return Ok(()),
            command::WRITE => {
                // Its data must be read to find the next request.
                if request.length_bytes > NBD_REQUEST_BYTES_MAX {
                    return Err(violation("a write is too long"));
                }
                let data = &mut reader.take(request.length_bytes.into());
                if io::copy(data, &mut io::sink())? < request.length_bytes.into() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                transmission.refuse(&request, error::NOT_PERMITTED)?;
            }
            _ => transmission.carry_out(&request)?,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Request {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    length_bytes: u32,
}

impl Request {
    fn read(reader: &mut impl Read) -> io::Result<Self> {
        if read_u32(reader)? != REQUEST_MAGIC {
            return Err(violation("not a request"));
        }
        Ok(Self {
            flags: read_u16(reader)?,
            command: read_u16(reader)?,
            cookie: read_u64(reader)?,
            offset: read_u64(reader)?,
            length_bytes: read_u32(reader)?,
        })
    }

    /// The end of the range, if it lies on a disk of this size and is not empty.
    fn end_within(&self, size_bytes: u64) -> Option<u64> {
        let end = self.offset.checked_add(self.length_bytes.into())?;
        (self.length_bytes > 0 && end <= size_bytes).then_some(end)
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A request that ends with an error number: either the disk's failure, or the client's mistake.
enum Failure {
    Disk(calotype_disk::Error),
    Client(u32),
    Connection(io::Error),
}

impl From<calotype_disk::Error> for Failure {
    fn from(error: calotype_disk::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

struct Transmission<'a, W> {
    writer: &'a mut W,
    disk: &'a dyn Disk,
    features: Features,
    counters: &'a Counters,
    /// Header and data of a reply, so that they leave in one write.
    buffer: Vec<u8>,
    failures_logged: u64,
}

impl<W: Write> Transmission<'_, W> {
    fn carry_out(&mut self, request: &Request) -> io::Result<()> {
        let result = match request.command {
            command::READ if self.features.structured => self.read_in_chunks(request),
            command::READ => self.read_whole(request),
            command::BLOCK_STATUS => self.block_status(request),
            command::CACHE => self.cache(request),
            command::TRIM | command::WRITE_ZEROES => Err(Failure::Client(error::NOT_PERMITTED)),
            _ => Err(Failure::Client(error::INVALID)),
        };
        match result {
            Ok(()) => Ok(()),
            Err(Failure::Connection(error)) => Err(error),
            Err(Failure::Client(number)) => self.refuse(request, number),
            Err(Failure::Disk(cause)) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                if self.failures_logged < FAILURES_LOGGED_MAX {
                    self.failures_logged += 1;
                    let (offset, length) = (request.offset, request.length_bytes);
                    let cause: &dyn std::error::Error = &cause;
                    tracing::error!(cause, offset, length, "a guest's disk cannot be read");
                }
                self.refuse(request, error::INPUT_OUTPUT)
            }
        }
    }

    /// A range that may be read: on the disk, and no longer than was said at negotiation.
    fn readable_end(&self, request: &Request) -> Result<u64, Failure> {
        let short = request.length_bytes <= NBD_REQUEST_BYTES_MAX;
        let end = request.end_within(self.disk.size_bytes()).filter(|_| short);
        end.ok_or(Failure::Client(error::INVALID))
    }

    fn count_read(&self, request: &Request) {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.counters.read_bytes.fetch_add(request.length_bytes.into(), Ordering::Relaxed);
    }

    /// A simple reply says at its beginning whether it succeeded, so all must be read first.
    fn read_whole(&mut self, request: &Request) -> Result<(), Failure> {
        self.readable_end(request)?;
        self.buffer.clear();
        self.buffer.extend(SIMPLE_REPLY_MAGIC.to_be_bytes());
        self.buffer.extend(0_u32.to_be_bytes());
        self.buffer.extend(request.cookie.to_be_bytes());
        let header = self.buffer.len();
        self.buffer.resize(header + request.length_bytes as usize, 0);
        self.disk.read_at(request.offset, &mut self.buffer[header..])?;
        self.writer.write_all(&self.buffer)?;
        self.count_read(request);
        self.buffer.truncate(NBD_PIECE_BYTES_MAX);
        self.buffer.shrink_to(NBD_PIECE_BYTES_MAX);
        Ok(())
    }

    fn read_in_chunks(&mut self, request: &Request) -> Result<(), Failure> {
        let end = self.readable_end(request)?;
        if request.has(command::DONT_FRAGMENT) {
            if request.length_bytes as usize > NBD_PIECE_BYTES_MAX {
                return Err(Failure::Client(error::OVERFLOW));
            }
            self.send_data(request, request.offset, request.length_bytes as usize, chunk::DONE)?;
            self.count_read(request);
            return Ok(());
        }
        let mut offset = request.offset;
        while offset < end {
            let (length, is_zero) = self.run_at(offset, end)?;
            let piece = if is_zero { length } else { length.min(NBD_PIECE_BYTES_MAX as u64) };
            let flags = if offset + piece == end { chunk::DONE } else { 0 };
            if is_zero {
                // `piece` is at most the request's length, which has 32 bits.
                self.start_chunk(request, flags, chunk::OFFSET_HOLE, 12);
                self.buffer.extend(offset.to_be_bytes());
                self.buffer.extend((piece as u32).to_be_bytes());
                self.writer.write_all(&self.buffer)?;
            } else {
                self.send_data(request, offset, piece as usize, flags)?;
            }
            offset += piece;
        }
        self.count_read(request);
        Ok(())
    }

    /// The run that begins at `offset`, cut off at `end`, and whether it reads as zeros. What a disk
    /// leaves to its parent is zeros too, since an export is the bottom of its chain.
    fn run_at(&self, offset: u64, end: u64) -> Result<(u64, bool), Failure> {
        let extent = self.disk.extent_at(offset)?;
        debug_assert!(extent.length_bytes > 0, "a disk promises runs that are not empty");
        let length = extent.length_bytes.clamp(1, end - offset);
        Ok((length, extent.kind != ExtentKind::Data))
    }

    fn send_data(
        &mut self,
        request: &Request,
        offset: u64,
        length: usize,
        flags: u16,
    ) -> Result<(), Failure> {
        self.start_chunk(request, flags, chunk::OFFSET_DATA, 8 + length);
        self.buffer.extend(offset.to_be_bytes());
        let header = self.buffer.len();
        self.buffer.resize(header + length, 0);
        self.disk.read_at(offset, &mut self.buffer[header..])?;
        self.writer.write_all(&self.buffer)?;
        Ok(())
    }

    fn start_chunk(&mut self, request: &Request, flags: u16, kind: u16, payload_bytes: usize) {
        self.buffer.clear();
        self.buffer.reserve(HEADER_BYTES_MAX + payload_bytes);
        self.buffer.extend(STRUCTURED_REPLY_MAGIC.to_be_bytes());
        self.buffer.extend(flags.to_be_bytes());
        self.buffer.extend(kind.to_be_bytes());
        self.buffer.extend(request.cookie.to_be_bytes());
        self.buffer.extend((payload_bytes as u32).to_be_bytes());
    }

    fn block_status(&mut self, request: &Request) -> Result<(), Failure> {
        let end = request.end_within(self.disk.size_bytes());
        let (true, Some(end)) = (self.features.allocation, end) else {
            return Err(Failure::Client(error::INVALID));
        };
        let wanted = if request.has(command::REQUEST_ONE) { 1 } else { NBD_EXTENTS_MAX };
        let mut extents: Vec<(u32, u32)> = Vec::new();
        let mut offset = request.offset;
        while offset < end {
            let (length, is_zero) = self.run_at(offset, end)?;
            let state = if is_zero { HOLE_AND_ZERO } else { DATA };
            // Lengths add up to the request's at most, which has 32 bits.
            let full = extents.len() == wanted;
            match extents.last_mut() {
                Some((last, same)) if *same == state => *last += length as u32,
                _ if full => break,
                _ => extents.push((length as u32, state)),
            }
            offset += length;
        }
        self.start_chunk(request, chunk::DONE, chunk::BLOCK_STATUS, 4 + 8 * extents.len());
        self.buffer.extend(ALLOCATION_ID.to_be_bytes());
        for (length, state) in extents {
            self.buffer.extend(length.to_be_bytes());
            self.buffer.extend(state.to_be_bytes());
        }
        self.writer.write_all(&self.buffer)?;
        Ok(())
    }

    /// Reads and forgets: what lies below keeps it at hand.
    fn cache(&mut self, request: &Request) -> Result<(), Failure> {
        let end = self.readable_end(request)?;
        let mut offset = request.offset;
        while offset < end {
            let (length, is_zero) = self.run_at(offset, end)?;
            let piece = length.min(NBD_PIECE_BYTES_MAX as u64);
            if !is_zero {
                self.buffer.resize(piece as usize, 0);
                self.disk.read_at(offset, &mut self.buffer)?;
            }
            offset += piece;
        }
        self.simple_reply(request, 0)?;
        Ok(())
    }

    fn simple_reply(&mut self, request: &Request, number: u32) -> io::Result<()> {
        let mut reply = [0; 16];
        reply[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        reply[4..8].copy_from_slice(&number.to_be_bytes());
        reply[8..].copy_from_slice(&request.cookie.to_be_bytes());
        self.writer.write_all(&reply)
    }

    /// Once structured replies are agreed on, reads and block status must have one; the error
    /// chunk may follow data chunks of the same reply.
    fn refuse(&mut self, request: &Request, number: u32) -> io::Result<()> {
        let in_chunks = matches!(request.command, command::READ | command::BLOCK_STATUS);
        if !(self.features.structured && in_chunks) {
            return self.simple_reply(request, number);
        }
        // No message: what went wrong below is not the guest's to know.
        self.start_chunk(request, chunk::DONE, chunk::ERROR, 6);
        self.buffer.extend(number.to_be_bytes());
        self.buffer.extend(0_u16.to_be_bytes());
        self.writer.write_all(&self.buffer)
    }
}

#[cfg(test)]
mod tests;
