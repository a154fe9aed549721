//! Serves one export to one client: requests in, replies out.
//!
//! What a client has sent by the time we look is one batch. Its requests are carried out in two passes:
//! first those that memory can answer, which leave together in one write; then those that need the
//! store, in their order, with [`super::pool`] reading ahead of the replies.

mod ahead;

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use calotype_disk::{Disk, ExtentKind, Piece};

use super::Counters;
use super::negotiation::Features;
use super::outbox::Outbox;
use super::pool::Pool;
use super::wire::{
    ALLOCATION_ID, DATA, HOLE_AND_ZERO, REQUEST_BYTES, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC, chunk, command, error, read_u16, read_u32, read_u64, violation,
};
use crate::limits::{
    NBD_BATCH_REQUESTS_MAX, NBD_EXTENTS_MAX, NBD_PIECE_BYTES_MAX, NBD_REQUEST_BYTES_MAX,
};
use ahead::Ahead;

/// A guest that reads a damaged place again and again must not fill the log.
const FAILURES_LOGGED_MAX: u64 = 8;

/// Serves until the client disconnects; an error when it does so without a word.
pub(super) fn transmit(
    reader: &mut BufReader<impl Read>,
    writer: &mut impl Write,
    disk: &Arc<dyn Disk>,
    features: Features,
    counters: &Counters,
    pool: &Pool,
) -> io::Result<()> {
    let outbox = Outbox::new(writer);
    let mut transmission = Transmission {
        outbox,
        disk,
        features,
        counters,
        pool,
        batch: Vec::new(),
        failures_logged: 0,
    };
    loop {
        let full = transmission.batch.len() == NBD_BATCH_REQUESTS_MAX;
        if full || reader.buffer().len() < REQUEST_BYTES {
            // The next request may be long in coming.
            transmission.carry_out_batch()?;
        }
        let request = match Request::read(reader) {
            Ok(request) => request,
            Err(error) => {
                transmission.carry_out_batch()?;
                return Err(error);
            }
        };
        match request.command {
            command::DISCONNECT => return transmission.carry_out_batch(),
            command::WRITE => {
                transmission.carry_out_batch()?;
                skip_data(reader, &request)?;
                transmission.refuse(&request, error::NOT_PERMITTED);
                transmission.outbox.flush()?;
            }
            _ => transmission.batch.push(request),
        }
    }
}

/// A write's data must be read to find the next request.
fn skip_data(reader: &mut impl Read, request: &Request) -> io::Result<()> {
    if request.length_bytes > NBD_REQUEST_BYTES_MAX {
        return Err(violation("a write is too long"));
    }
    let data = &mut reader.take(request.length_bytes.into());
    if io::copy(data, &mut io::sink())? < request.length_bytes.into() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
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
    outbox: Outbox<'a, W>,
    disk: &'a Arc<dyn Disk>,
    features: Features,
    counters: &'a Counters,
    pool: &'a Pool,
    /// Requests that were read and not yet carried out.
    batch: Vec<Request>,
    failures_logged: u64,
}

impl<W: Write> Transmission<'_, W> {
    /// Returns when all replies are written.
    fn carry_out_batch(&mut self) -> io::Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let mut outcome = Ok(());
        batch.retain(|request| {
            if outcome.is_err() {
                return false;
            }
            match self.carry_out_at_once(request) {
                Ok(carried_out) => !carried_out,
                Err(error) => {
                    outcome = Err(error);
                    false
                }
            }
        });
        outcome?;
        let mut ahead = Ahead::new(self.disk, self.pool, &batch);
        for (number, request) in batch.iter().enumerate() {
            self.carry_out(number, request, &mut ahead)?;
        }
        self.outbox.flush()?;
        batch.clear();
        self.batch = batch;
        Ok(())
    }

    /// Whether the request could be carried out without reading from the store.
    fn carry_out_at_once(&mut self, request: &Request) -> io::Result<bool> {
        let result = match request.command {
            command::READ => self.read_at_once(request),
            command::BLOCK_STATUS => self.block_status(request).map(|()| true),
            command::CACHE => return Ok(false),
            command::TRIM | command::WRITE_ZEROES => Err(Failure::Client(error::NOT_PERMITTED)),
            _ => Err(Failure::Client(error::INVALID)),
        };
        let carried_out = match result {
            Ok(carried_out) => carried_out,
            Err(failure) => {
                self.fail(request, failure)?;
                true
            }
        };
        if self.outbox.is_full() {
            self.outbox.flush()?;
        }
        Ok(carried_out)
    }

    /// The same for one that needs to.
    fn carry_out(
        &mut self,
        number: usize,
        request: &Request,
        ahead: &mut Ahead<'_>,
    ) -> io::Result<()> {
        let whole = !self.features.structured || request.has(command::DONT_FRAGMENT);
        let result = match request.command {
            command::CACHE => self.cache(number, request, ahead),
            _ if whole => self.read_whole(number, request, ahead),
            _ => self.read_in_chunks(number, request, ahead),
        };
        result.or_else(|failure| self.fail(request, failure))
    }

    fn fail(&mut self, request: &Request, failure: Failure) -> io::Result<()> {
        match failure {
            Failure::Connection(error) => return Err(error),
            Failure::Client(number) => self.refuse(request, number),
            Failure::Disk(cause) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                if self.failures_logged < FAILURES_LOGGED_MAX {
                    self.failures_logged += 1;
                    let (offset, length) = (request.offset, request.length_bytes);
                    let cause: &dyn std::error::Error = &cause;
                    tracing::error!(cause, offset, length, "a guest's disk cannot be read");
                }
                self.refuse(request, error::INPUT_OUTPUT);
            }
        }
        Ok(())
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

    /// Replies if everything is in memory.
    fn read_at_once(&mut self, request: &Request) -> Result<bool, Failure> {
        let end = self.readable_end(request)?;
        let whole = !self.features.structured || request.has(command::DONT_FRAGMENT);
        let long = request.length_bytes as usize > NBD_PIECE_BYTES_MAX;
        if long && self.features.structured && whole {
            return Err(Failure::Client(error::OVERFLOW));
        }
        if long {
            return Ok(false);
        }
        let mark = self.outbox.mark();
        if whole {
            self.start_whole(request);
        }
        let mut offset = request.offset;
        while offset < end {
            match self.disk.piece_at(offset, end - offset) {
                Ok(Piece::Unread(_)) => {
                    self.outbox.return_to(mark);
                    return Ok(false);
                }
                Ok(piece) if whole => offset += self.push_piece(piece),
                Ok(piece) => offset += self.push_chunk(request, offset, piece),
                Err(error) => {
                    self.outbox.return_to(mark);
                    return Err(error.into());
                }
            }
        }
        self.count_read(request);
        Ok(true)
    }

    /// A simple reply says at its beginning whether it succeeded, so all must be read first.
    fn read_whole(
        &mut self,
        number: usize,
        request: &Request,
        ahead: &mut Ahead<'_>,
    ) -> Result<(), Failure> {
        let mut pieces = Vec::new();
        self.read_pieces(number, request, ahead, |_, _, piece| pieces.push(piece))?;
        self.start_whole(request);
        for piece in pieces {
            self.push_piece(piece);
            self.flush_if_full()?;
        }
        self.count_read(request);
        Ok(())
    }

    fn read_in_chunks(
        &mut self,
        number: usize,
        request: &Request,
        ahead: &mut Ahead<'_>,
    ) -> Result<(), Failure> {
        self.read_pieces(number, request, ahead, |transmission, offset, piece| {
            transmission.push_chunk(request, offset, piece);
        })?;
        self.count_read(request);
        Ok(())
    }

    /// Reads and forgets: what lies below keeps it at hand.
    fn cache(
        &mut self,
        number: usize,
        request: &Request,
        ahead: &mut Ahead<'_>,
    ) -> Result<(), Failure> {
        self.readable_end(request)?;
        self.read_pieces(number, request, ahead, |_, _, _| {})?;
        self.simple_reply(request, 0);
        Ok(())
    }

    /// Hands every piece of a range to `take`, in order, from memory or read for it. The client
    /// gets what is finished before we wait.
    fn read_pieces(
        &mut self,
        number: usize,
        request: &Request,
        ahead: &mut Ahead<'_>,
        mut take: impl FnMut(&mut Self, u64, Piece),
    ) -> Result<(), Failure> {
        let end = request.offset + u64::from(request.length_bytes);
        let mut offset = request.offset;
        let mut waited = false;
        while offset < end {
            let mut piece = self.disk.piece_at(offset, end - offset)?;
            if let Piece::Unread(length) = piece {
                waited = true;
                self.outbox.flush()?;
                let length = length.min(NBD_PIECE_BYTES_MAX as u64) as usize;
                piece = Piece::Bytes(ahead.read(number, offset, length)?);
            }
            let length = match &piece {
                Piece::Zeros(length) | Piece::Unread(length) => *length,
                Piece::Bytes(bytes) => bytes.len() as u64,
            };
            debug_assert!(length > 0, "a disk promises pieces that are not empty");
            take(self, offset, piece);
            self.flush_if_full()?;
            offset += length.max(1);
        }
        if waited && request.command == command::READ {
            self.counters.reads_waited.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.outbox.is_full() { self.outbox.flush() } else { Ok(()) }
    }

    /// The header of a reply in one piece.
    fn start_whole(&mut self, request: &Request) {
        if self.features.structured {
            let payload_bytes = 8 + request.length_bytes;
            self.start_chunk(request, chunk::DONE, chunk::OFFSET_DATA, payload_bytes);
            self.outbox.push(&request.offset.to_be_bytes());
        } else {
            self.simple_reply(request, 0);
        }
    }

    /// The bytes of a piece, and how many they are.
    fn push_piece(&mut self, piece: Piece) -> u64 {
        match piece {
            Piece::Zeros(length) | Piece::Unread(length) => {
                self.outbox.push_zeros(length as usize);
                length
            }
            Piece::Bytes(bytes) => {
                let length = bytes.len() as u64;
                self.outbox.push_shared(bytes);
                length
            }
        }
    }

    /// A piece as a chunk of its own, the last one if the request ends with it.
    fn push_chunk(&mut self, request: &Request, offset: u64, piece: Piece) -> u64 {
        let flags = |length: u64| {
            let end = request.offset + u64::from(request.length_bytes);
            if offset + length == end { chunk::DONE } else { 0 }
        };
        match piece {
            // `length` is at most the request's, which has 32 bits.
            Piece::Zeros(length) | Piece::Unread(length) => {
                self.start_chunk(request, flags(length), chunk::OFFSET_HOLE, 12);
                self.outbox.push(&offset.to_be_bytes());
                self.outbox.push(&(length as u32).to_be_bytes());
                length
            }
            Piece::Bytes(bytes) => {
                let length = bytes.len() as u64;
                let payload_bytes = 8 + bytes.len() as u32;
                self.start_chunk(request, flags(length), chunk::OFFSET_DATA, payload_bytes);
                self.outbox.push(&offset.to_be_bytes());
                self.outbox.push_shared(bytes);
                length
            }
        }
    }

    fn start_chunk(&mut self, request: &Request, flags: u16, kind: u16, payload_bytes: u32) {
        let mut header = [0; 20];
        header[..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
        header[4..6].copy_from_slice(&flags.to_be_bytes());
        header[6..8].copy_from_slice(&kind.to_be_bytes());
        header[8..16].copy_from_slice(&request.cookie.to_be_bytes());
        header[16..].copy_from_slice(&payload_bytes.to_be_bytes());
        self.outbox.push(&header);
    }

    /// The run that begins at `offset`, cut off at `end`, and whether it reads as zeros. What a disk
    /// leaves to its parent is zeros too, since an export is the bottom of its chain.
    fn run_at(&self, offset: u64, end: u64) -> Result<(u64, bool), Failure> {
        let extent = self.disk.extent_at(offset)?;
        debug_assert!(extent.length_bytes > 0, "a disk promises runs that are not empty");
        let length = extent.length_bytes.clamp(1, end - offset);
        Ok((length, extent.kind != ExtentKind::Data))
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
        let payload_bytes = 4 + 8 * extents.len() as u32;
        self.start_chunk(request, chunk::DONE, chunk::BLOCK_STATUS, payload_bytes);
        self.outbox.push(&ALLOCATION_ID.to_be_bytes());
        for (length, state) in extents {
            self.outbox.push(&length.to_be_bytes());
            self.outbox.push(&state.to_be_bytes());
        }
        Ok(())
    }

    fn simple_reply(&mut self, request: &Request, number: u32) {
        let mut reply = [0; 16];
        reply[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        reply[4..8].copy_from_slice(&number.to_be_bytes());
        reply[8..].copy_from_slice(&request.cookie.to_be_bytes());
        self.outbox.push(&reply);
    }

    /// Once structured replies are agreed on, reads and block status must have one; the error
    /// chunk may follow data chunks of the same reply.
    fn refuse(&mut self, request: &Request, number: u32) {
        let in_chunks = matches!(request.command, command::READ | command::BLOCK_STATUS);
        if !(self.features.structured && in_chunks) {
            return self.simple_reply(request, number);
        }
        // No message: what went wrong below is not the guest's to know.
        self.start_chunk(request, chunk::DONE, chunk::ERROR, 6);
        self.outbox.push(&number.to_be_bytes());
        self.outbox.push(&0_u16.to_be_bytes());
    }
}

#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod tests;
