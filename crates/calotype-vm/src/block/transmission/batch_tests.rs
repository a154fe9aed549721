//! Several requests at once: which replies come first, in how many writes, and that each is right.

use std::collections::HashMap;
use std::ops::Range;

use calotype_disk::{Error, ErrorKind, Extent};
use proptest::prelude::*;

use super::*;

const SIZE_BYTES: u64 = 1 << 20;
const PIECE_BYTES: u64 = 1 << 14;

/// Pieces of 16 KiB, each in memory or to be read; every seventh is zeros.
#[derive(Debug, Clone, Default)]
struct Pieces {
    unread: Vec<u64>,
    damaged: Option<u64>,
}

fn content(range: Range<u64>) -> Vec<u8> {
    let byte = |offset: u64| match offset / PIECE_BYTES {
        piece if piece % 7 == 6 => 0,
        piece => (offset % 251 + piece) as u8,
    };
    range.map(byte).collect()
}

impl Disk for Pieces {
    fn size_bytes(&self) -> u64 {
        SIZE_BYTES
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> calotype_disk::Result<()> {
        if self.damaged == Some(offset / PIECE_BYTES) {
            return Err(Error::new(ErrorKind::Corrupt, "damaged on purpose"));
        }
        buf.copy_from_slice(&content(offset..offset + buf.len() as u64));
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        let zeros = offset / PIECE_BYTES % 7 == 6;
        let kind = if zeros { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(Extent { length_bytes: PIECE_BYTES - offset % PIECE_BYTES, kind })
    }

    fn piece_at(&self, offset: u64, length_max: u64) -> calotype_disk::Result<Piece> {
        let extent = self.extent_at(offset)?;
        let length = extent.length_bytes.min(length_max);
        Ok(match extent.kind {
            ExtentKind::Data if self.unread.contains(&(offset / PIECE_BYTES)) => {
                Piece::Unread(length)
            }
            ExtentKind::Data => Piece::Bytes(content(offset..offset + length).into()),
            _ => Piece::Zeros(length),
        })
    }
}

/// Remembers every write apart from the others.
#[derive(Default)]
struct Writes(Vec<Vec<u8>>);

impl Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[io::IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.push(slices.iter().flat_map(|slice| slice.to_vec()).collect());
        Ok(self.0.last().map_or(0, Vec::len))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A read with its number as cookie.
fn read(number: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(command::READ.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn exchange(disk: Pieces, structured: bool, reads: &[(u64, u32)]) -> (Writes, Counters) {
    let mut sent: Vec<u8> = (0..)
        .zip(reads)
        .flat_map(|(number, &(offset, length))| read(number, offset, length))
        .collect();
    sent.extend(REQUEST_MAGIC.to_be_bytes());
    sent.extend([&[0, 0][..], &command::DISCONNECT.to_be_bytes(), &[0; 20]].concat());
    let (mut writes, counters) = (Writes::default(), Counters::default());
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let features = Features { structured, allocation: false };
    let reader = &mut BufReader::new(sent.as_slice());
    transmit(reader, &mut writes, &disk, features, &counters, &Pool::new()).unwrap();
    (writes, counters)
}

/// The numbers of the requests in the order in which their structured replies ended, and what each
/// reply says: bytes, or an error.
fn replies(mut sent: &[u8], reads: &[(u64, u32)]) -> Vec<(u64, Option<Vec<u8>>)> {
    let mut open: HashMap<u64, Vec<u8>> = HashMap::new();
    let mut ended = Vec::new();
    while !sent.is_empty() {
        assert_eq!(read_u32(&mut sent).unwrap(), STRUCTURED_REPLY_MAGIC);
        let (flags, kind) = (read_u16(&mut sent).unwrap(), read_u16(&mut sent).unwrap());
        let number = read_u64(&mut sent).unwrap();
        let length = read_u32(&mut sent).unwrap() as usize;
        let (mut payload, rest) = sent.split_at(length);
        sent = rest;
        let bytes = open.entry(number).or_default();
        if kind != chunk::ERROR {
            let offset = read_u64(&mut payload).unwrap();
            // In order, though a server need not.
            assert_eq!(offset, reads[number as usize].0 + bytes.len() as u64);
        }
        match kind {
            chunk::OFFSET_DATA => bytes.extend(payload),
            chunk::OFFSET_HOLE => {
                let zeros = read_u32(&mut payload).unwrap();
                bytes.resize(bytes.len() + zeros as usize, 0);
            }
            _ => assert_eq!(flags, chunk::DONE),
        }
        if flags & chunk::DONE != 0 {
            let bytes = open.remove(&number).unwrap();
            ended.push((number, (kind != chunk::ERROR).then_some(bytes)));
        }
    }
    assert!(open.is_empty());
    ended
}

fn expected((offset, length): (u64, u32)) -> Vec<u8> {
    content(offset..offset + u64::from(length))
}

#[test]
fn what_is_in_memory_leaves_in_one_write() {
    let reads: Vec<_> = (0..12).map(|number| (number * 5000, 4096)).collect();
    let (writes, counters) = exchange(Pieces::default(), true, &reads);
    assert_eq!(writes.0.len(), 1);
    let numbers: Vec<_> = replies(&writes.0.concat(), &reads)
        .into_iter()
        .map(|(number, bytes)| {
            assert_eq!(bytes.unwrap(), expected(reads[number as usize]));
            number
        })
        .collect();
    assert_eq!(numbers, (0..12).collect::<Vec<_>>());
    let counted = counters.load();
    assert_eq!((counted.reads, counted.reads_waited), (12, 0));
}

#[test]
fn what_must_be_read_keeps_nobody_else_waiting() {
    let disk = Pieces { unread: vec![0, 4], damaged: Some(4) };
    let at = |piece: u64| (piece * PIECE_BYTES, 100);
    let reads = [at(0), at(1), at(4), at(2), at(0)];
    let (writes, counters) = exchange(disk, true, &reads);
    assert_eq!(replies(&writes.0[0], &reads).len(), 2);
    let all = replies(&writes.0.concat(), &reads);
    let numbers: Vec<_> = all.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 3, 0, 2, 4]);
    for (number, bytes) in all {
        let damaged = number == 2;
        assert_eq!(bytes, (!damaged).then(|| expected(reads[number as usize])));
    }
    let counted = counters.load();
    assert_eq!((counted.reads, counted.reads_waited, counted.failed), (4, 2, 1));
}

#[test]
fn a_long_read_is_written_piece_by_piece() {
    let reads = [(0, SIZE_BYTES as u32)];
    for unread in [vec![], (0..64).collect()] {
        let (writes, _) = exchange(Pieces { unread, damaged: None }, true, &reads);
        let longest = writes.0.iter().map(Vec::len).max().unwrap();
        assert!(longest <= SIZE_BYTES as usize + 64 * 28);
        let all = replies(&writes.0.concat(), &reads);
        assert_eq!(all, [(0, Some(expected(reads[0])))]);
    }
}

proptest! {
    #[test]
    fn every_request_gets_its_own_bytes(
        reads in prop::collection::vec((0..SIZE_BYTES - 100_000, 1_u32..100_000), 1..100),
        unread in prop::collection::vec(0..SIZE_BYTES / PIECE_BYTES, 0..64),
        damaged in prop::option::of(0..SIZE_BYTES / PIECE_BYTES),
    ) {
        let disk = Pieces { unread: unread.clone(), damaged };
        let (writes, _) = exchange(disk.clone(), true, &reads);
        let mut all = replies(&writes.0.concat(), &reads);
        all.sort_unstable_by_key(|(number, _)| *number);
        prop_assert_eq!(all.len(), reads.len());
        for ((number, bytes), read) in all.into_iter().zip(&reads) {
            let pieces = read.0 / PIECE_BYTES..=(read.0 + u64::from(read.1) - 1) / PIECE_BYTES;
            let fails = damaged.is_some_and(|piece| {
                piece % 7 != 6 && unread.contains(&piece) && pieces.contains(&piece)
            });
            prop_assert_eq!(bytes, (!fails).then(|| expected(*read)), "read {}", number);
        }

        let (writes, counters) = exchange(Pieces { damaged: None, ..disk }, false, &reads);
        let sent = writes.0.concat();
        let mut sent = sent.as_slice();
        for _ in &reads {
            prop_assert_eq!(read_u32(&mut sent).unwrap(), SIMPLE_REPLY_MAGIC);
            prop_assert_eq!(read_u32(&mut sent).unwrap(), 0);
            let read = reads[read_u64(&mut sent).unwrap() as usize];
            let (bytes, rest) = sent.split_at(read.1 as usize);
            prop_assert_eq!(bytes, expected(read));
            sent = rest;
        }
        prop_assert!(sent.is_empty());
        prop_assert_eq!(counters.load().reads, reads.len() as u64);
    }
}
