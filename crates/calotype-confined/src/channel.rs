//! One end of the socket.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::protocol::{Head, Word};

/// A message without its bytes, which whoever got it reads next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) word: Word,
    pub(crate) length: usize,
    pub(crate) offset: u64,
}

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Channel(pub(crate) UnixStream);

impl Channel {
    /// Sends a message; `length` is that of `bytes` but for a request to read.
    pub(crate) fn send(&mut self, message: Message, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(message.length).map_err(io::Error::other)?;
        let head = Head {
            word: U32::new(message.word as u32),
            length: U32::new(length),
            offset: U64::new(message.offset),
        };
        let mut parts = [IoSlice::new(head.as_bytes()), IoSlice::new(bytes)];
        let mut parts = &mut parts[..];
        while parts.iter().any(|part| !part.is_empty()) {
            match self.0.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks for something that is `length` bytes long, or says something without bytes.
    pub(crate) fn ask(&mut self, word: Word, offset: u64, length: usize) -> io::Result<()> {
        self.send(Message { word, length, offset }, &[])
    }

    /// Answers, or orders, with bytes.
    pub(crate) fn say(&mut self, word: Word, bytes: &[u8]) -> io::Result<()> {
        self.send(Message { word, length: bytes.len(), offset: 0 }, bytes)
    }

    /// The next message.
    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        let mut head = Head::new_zeroed();
        self.0.read_exact(head.as_mut_bytes())?;
        let word = Word::of(head.word.get()).ok_or_else(|| unexpected("unknown word"))?;
        Ok(Message { word, length: head.length.get() as usize, offset: head.offset.get() })
    }

    /// Reads the bytes of a message into all of `buf`.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(buf)
    }

    /// Reads the bytes of a message, if they are no more than `length_max`.
    pub(crate) fn read_all(&mut self, message: Message, length_max: usize) -> io::Result<Vec<u8>> {
        if message.length > length_max {
            return Err(unexpected("message too long"));
        }
        let mut bytes = vec![0; message.length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

pub(crate) fn unexpected(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
