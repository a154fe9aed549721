//! Which pieces a connection will need next: the pool reads them while earlier ones are sent.

use std::collections::VecDeque;
use std::sync::Arc;

use calotype_disk::{Disk, Piece, Result, SharedBytes};

use super::Request;
use crate::block::pool::{Pool, Reading};
use crate::limits::{NBD_AHEAD_PIECES_MAX, NBD_PIECE_BYTES_MAX, NBD_REQUEST_BYTES_MAX};

/// Pieces looked at to find those to read: a long range in memory is not walked twice as a whole.
const STEPS_MAX: usize = 64;

/// A batch of requests, and how far it was looked at.
pub(super) struct Ahead<'a> {
    disk: &'a Arc<dyn Disk>,
    pool: &'a Pool,
    requests: &'a [Request],
    /// The place to look at next: a request's number, and the offset in the disk.
    next: (usize, u64),
    /// What will be needed, in order.
    readings: VecDeque<(usize, Arc<Reading>)>,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(disk: &'a Arc<dyn Disk>, pool: &'a Pool, requests: &'a [Request]) -> Self {
        let begin = requests.first().map_or(0, |request| request.offset);
        Self { disk, pool, requests, next: (0, begin), readings: VecDeque::new() }
    }

    /// The piece at `offset` that request `number` needs now, and the pool reads on.
    pub(super) fn read(
        &mut self,
        number: usize,
        offset: u64,
        length: usize,
    ) -> Result<SharedBytes> {
        while let Some((at, reading)) = self.readings.front()
            && (*at, reading.offset) < (number, offset)
        {
            self.readings.pop_front();
        }
        let begun = self.readings.front().is_some_and(|(at, reading)| {
            (*at, reading.offset, reading.length) == (number, offset, length)
        });
        let reading = if begun { self.readings.pop_front() } else { None };
        self.next = self.next.max((number, offset + length as u64));
        self.look_ahead();
        match reading {
            Some((_, reading)) => {
                // Rather than to wait, something else that will be needed.
                while reading.is_begun() && self.readings.iter().any(|(_, next)| next.carry_out()) {
                }
                reading.finish()
            }
            None => self.disk.read_piece(offset, length),
        }
    }

    fn look_ahead(&mut self) {
        // Many at once: waking a thread costs about as much as a tenth of what it does then.
        if self.readings.len() > NBD_AHEAD_PIECES_MAX / 2 {
            return;
        }
        for _ in 0..STEPS_MAX {
            if self.readings.len() >= NBD_AHEAD_PIECES_MAX {
                return;
            }
            let (number, offset) = self.next;
            let Some(request) = self.requests.get(number) else { return };
            let short = request.length_bytes <= NBD_REQUEST_BYTES_MAX;
            let end = request.end_within(self.disk.size_bytes()).filter(|_| short).unwrap_or(0);
            if offset >= end {
                let begin = self.requests.get(number + 1).map_or(0, |request| request.offset);
                self.next = (number + 1, begin);
                continue;
            }
            let length = match self.disk.piece_at(offset, end - offset) {
                Ok(Piece::Zeros(length)) => length,
                Ok(Piece::Bytes(bytes)) => bytes.len() as u64,
                Ok(Piece::Unread(length)) => {
                    let length = length.min(NBD_PIECE_BYTES_MAX as u64);
                    let reading = Reading::new(Arc::clone(self.disk), offset, length as usize);
                    self.pool.submit(&reading);
                    self.readings.push_back((number, reading));
                    length
                }
                // Whoever needs it will see.
                Err(_) => NBD_PIECE_BYTES_MAX as u64,
            };
            self.next = (number, offset + length.max(1));
        }
    }
}
