//! The file being written: where it stands, and what goes there next.

use std::io;

use super::Body;
use crate::{Error, Result};

/// A body that knows its position in the file.
pub(crate) struct Output<'a> {
    body: &'a mut dyn Body,
    position: u64,
}

impl<'a> Output<'a> {
    /// Begins behind a head of `head_bytes`.
    pub(crate) fn new(body: &'a mut dyn Body, head_bytes: u64) -> Self {
        Self { body, position: head_bytes }
    }

    /// The offset in the file of what is appended next.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Appends; answers the offset in the file where the bytes begin.
    pub(crate) fn append(&mut self, bytes: Vec<u8>) -> Result<u64> {
        let start = self.position;
        self.position += bytes.len() as u64;
        if !bytes.is_empty() {
            self.body.append(bytes).map_err(|error| failed(start, error))?;
        }
        Ok(start)
    }

    /// Appends bytes of memory that is used again; answers the offset in the file where they begin.
    pub(crate) fn append_slice(&mut self, bytes: &[u8]) -> Result<u64> {
        let start = self.position;
        self.position += bytes.len() as u64;
        self.body.append_slice(bytes).map_err(|error| failed(start, error))?;
        Ok(start)
    }

    /// Appends zeros.
    pub(crate) fn append_zeros(&mut self, length_bytes: u64) -> Result<()> {
        let start = self.position;
        self.position += length_bytes;
        if length_bytes == 0 {
            return Ok(());
        }
        self.body.append_zeros(length_bytes).map_err(|error| failed(start, error))
    }

    /// Appends zeros up to a multiple of `alignment`.
    pub(crate) fn align(&mut self, alignment: u64) -> Result<()> {
        self.append_zeros(self.position.next_multiple_of(alignment) - self.position)
    }
}

/// A file inside of a file: the inner one is written through the outer one's output.
impl Body for Output<'_> {
    fn append(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.body.append(bytes)
    }

    fn append_slice(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        self.body.append_slice(bytes)
    }

    fn append_zeros(&mut self, length_bytes: u64) -> io::Result<()> {
        self.position += length_bytes;
        self.body.append_zeros(length_bytes)
    }
}

fn failed(position: u64, error: io::Error) -> Error {
    Error::io(format!("writing the file from offset {position}"), error)
}
