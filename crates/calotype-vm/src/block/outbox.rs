//! Replies on their way out: many leave in one system call, and large pieces of a disk without a copy.

use std::io::{self, IoSlice, Write};

use calotype_disk::SharedBytes;

use crate::limits::{NBD_COPIED_BYTES_MAX, NBD_OUTBOX_BYTES, NBD_OUTBOX_PARTS_MAX};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What waits to be written, in order.
pub(super) struct Outbox<'a, W> {
    writer: &'a mut W,
    /// Headers and small pieces, one after the other.
    copied: Vec<u8>,
    parts: Vec<Part>,
    bytes: usize,
}

enum Part {
    /// So many of the copied bytes.
    Copied(usize),
    Shared(SharedBytes),
    Zeros(usize),
}

/// A place in an outbox to go back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    copied: usize,
    parts: usize,
    /// Of the last part, if it is copied bytes.
    last: usize,
    bytes: usize,
}

impl<'a, W: Write> Outbox<'a, W> {
    pub(super) fn new(writer: &'a mut W) -> Self {
        Self { writer, copied: Vec::new(), parts: Vec::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.bytes += bytes.len();
        match self.parts.last_mut() {
            Some(Part::Copied(length)) => *length += bytes.len(),
            _ => self.parts.push(Part::Copied(bytes.len())),
        }
    }

    pub(super) fn push_shared(&mut self, bytes: SharedBytes) {
        if bytes.len() <= NBD_COPIED_BYTES_MAX {
            return self.push(&bytes);
        }
        self.bytes += bytes.len();
        self.parts.push(Part::Shared(bytes));
    }

    pub(super) fn push_zeros(&mut self, length: usize) {
        self.bytes += length;
        self.parts.push(Part::Zeros(length));
    }

    /// Where the next push will go. Holds until the outbox is flushed.
    pub(super) fn mark(&self) -> Mark {
        let last = match self.parts.last() {
            Some(Part::Copied(length)) => *length,
            _ => 0,
        };
        Mark { copied: self.copied.len(), parts: self.parts.len(), last, bytes: self.bytes }
    }

    /// Forgets what was pushed since.
    pub(super) fn return_to(&mut self, mark: Mark) {
        self.copied.truncate(mark.copied);
        self.parts.truncate(mark.parts);
        if let Some(Part::Copied(length)) = self.parts.last_mut() {
            *length = mark.last;
        }
        self.bytes = mark.bytes;
    }

    /// Whether it is time to flush, so that memory stays bounded and the client has something to do.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= NBD_OUTBOX_BYTES || self.parts.len() >= NBD_OUTBOX_PARTS_MAX
    }

    /// Writes everything.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let [Part::Copied(_)] = self.parts[..] {
            self.writer.write_all(&self.copied)?;
        } else {
            let mut slices = Vec::with_capacity(self.parts.len());
            let mut copied = &self.copied[..];
            for part in &self.parts {
                match part {
                    Part::Copied(length) => {
                        let (bytes, rest) = copied.split_at(*length);
                        slices.push(IoSlice::new(bytes));
                        copied = rest;
                    }
                    Part::Shared(bytes) => slices.push(IoSlice::new(bytes)),
                    Part::Zeros(length) => {
                        let full = length / ZEROS.len();
                        slices.extend((0..full).map(|_| IoSlice::new(&ZEROS)));
                        slices.push(IoSlice::new(&ZEROS[..length % ZEROS.len()]));
                    }
                }
            }
            write_all_vectored(self.writer, &mut slices)?;
        }
        self.copied.clear();
        self.copied.shrink_to(2 * NBD_OUTBOX_BYTES);
        self.parts.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn write_all_vectored(writer: &mut impl Write, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match writer.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most so many bytes at once, and remembers in how many calls.
    struct Slow(usize, Vec<u8>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.1.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn large(byte: u8) -> SharedBytes {
        vec![byte; NBD_COPIED_BYTES_MAX + 1].into()
    }

    #[test]
    fn everything_leaves_in_the_order_in_which_it_came() {
        for at_once in [1, 1000, usize::MAX] {
            let mut writer = Slow(at_once, Vec::new());
            let mut outbox = Outbox::new(&mut writer);
            outbox.push(b"one");
            outbox.push_shared(large(2));
            outbox.push_zeros(ZEROS.len() + 3);
            outbox.push_shared(vec![4; 4].into());
            outbox.push(b"five");
            outbox.flush().unwrap();
            outbox.push(b"six");
            outbox.flush().unwrap();
            outbox.flush().unwrap();
            let expected =
                [b"one", &large(2)[..], &vec![0; ZEROS.len() + 3], &[4; 4], b"five", b"six"]
                    .concat();
            assert!(writer.1 == expected, "{at_once}");
        }
    }

    #[test]
    fn what_is_taken_back_does_not_leave() {
        let mut writer = Vec::new();
        let mut outbox = Outbox::new(&mut writer);
        let empty = outbox.mark();
        outbox.push(b"no");
        outbox.return_to(empty);
        outbox.push(b"one");
        let mark = outbox.mark();
        outbox.push(b"no");
        outbox.push_shared(large(2));
        outbox.push(b"no");
        outbox.return_to(mark);
        outbox.push_zeros(1);
        let mark = outbox.mark();
        outbox.push(b"no");
        outbox.return_to(mark);
        outbox.flush().unwrap();
        assert_eq!(writer, b"one\0");
    }

    #[test]
    fn an_outbox_fills_by_bytes_and_by_parts() {
        let mut writer = Vec::new();
        let mut outbox = Outbox::new(&mut writer);
        outbox.push(&vec![1; NBD_OUTBOX_BYTES - 1]);
        assert!(!outbox.is_full());
        outbox.push(&[1]);
        assert!(outbox.is_full());
        outbox.flush().unwrap();
        assert!(!outbox.is_full());
        for _ in 0..NBD_OUTBOX_PARTS_MAX {
            outbox.push_zeros(1);
        }
        assert!(outbox.is_full());
    }
}
