//! Requests and replies, with a client of the tests' own that is strict.

use calotype_disk::{Error, ErrorKind, Extent};
use proptest::prelude::*;

use super::*;

const RUN_BYTES: u64 = 1000;

/// Runs of 1,000 bytes, each data or zeros, some of them damaged.
#[derive(Debug, Clone)]
struct Striped {
    runs: Vec<ExtentKind>,
    damaged: Option<u64>,
}

impl Striped {
    fn byte(&self, offset: u64) -> u8 {
        match self.runs[(offset / RUN_BYTES) as usize] {
            ExtentKind::Data => (offset % 251) as u8 + 1,
            _ => 0,
        }
    }

    fn bytes(&self, offset: u64, length: u32) -> Vec<u8> {
        (offset..offset + u64::from(length)).map(|offset| self.byte(offset)).collect()
    }
}

impl Disk for Striped {
    fn size_bytes(&self) -> u64 {
        self.runs.len() as u64 * RUN_BYTES
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> calotype_disk::Result<()> {
        let end = offset + buf.len() as u64;
        assert!(end <= self.size_bytes(), "the server checks ranges");
        if self.damaged.is_some_and(|damaged| (offset..end).contains(&damaged)) {
            return Err(Error::new(ErrorKind::Corrupt, "damaged on purpose"));
        }
        buf.copy_from_slice(&self.bytes(offset, buf.len() as u32));
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        let kind = self.runs[(offset / RUN_BYTES) as usize];
        Ok(Extent { length_bytes: RUN_BYTES - offset % RUN_BYTES, kind })
    }
}

const DATA_RUN: ExtentKind = ExtentKind::Data;
const ZERO_RUN: ExtentKind = ExtentKind::Zero;
const PARENT_RUN: ExtentKind = ExtentKind::Parent;

fn striped() -> Striped {
    Striped { runs: vec![DATA_RUN, ZERO_RUN, PARENT_RUN, DATA_RUN, DATA_RUN], damaged: None }
}

fn request(command: u16, flags: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(COOKIE.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

const COOKIE: u64 = 0xc00c_1e00_c00c_1e00;
const SIMPLE: Features = Features { structured: false, allocation: false };
const STRUCTURED: Features = Features { structured: true, allocation: true };

/// What the server sends in answer to this and a disconnect, which must follow it in step.
fn serve(disk: &Striped, features: Features, request: &[u8]) -> Vec<u8> {
    let sent = [request, &self::request(command::DISCONNECT, 0, 0, 0)].concat();
    let mut replies = Vec::new();
    transmit_all(disk, features, &sent, &mut replies, &Counters::default()).unwrap();
    replies
}

fn transmit_all(
    disk: &Striped,
    features: Features,
    sent: &[u8],
    replies: &mut impl Write,
    counters: &Counters,
) -> io::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    transmit(&mut BufReader::new(sent), replies, &disk, features, counters, &Pool::new())
}

fn simple_error(replies: &[u8]) -> u32 {
    let (mut header, data) = replies.split_at(16);
    assert_eq!(read_u32(&mut header).unwrap(), SIMPLE_REPLY_MAGIC);
    let number = read_u32(&mut header).unwrap();
    assert_eq!(read_u64(&mut header).unwrap(), COOKIE);
    assert!(data.is_empty());
    number
}

/// Types and payloads of one reply's chunks.
fn chunks(mut replies: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut chunks = Vec::new();
    loop {
        assert_eq!(read_u32(&mut replies).unwrap(), STRUCTURED_REPLY_MAGIC);
        let (flags, kind) = (read_u16(&mut replies).unwrap(), read_u16(&mut replies).unwrap());
        assert_eq!(read_u64(&mut replies).unwrap(), COOKIE);
        let mut payload = vec![0; read_u32(&mut replies).unwrap() as usize];
        replies.read_exact(&mut payload).unwrap();
        chunks.push((kind, payload));
        if flags & chunk::DONE != 0 {
            assert!(replies.is_empty(), "nothing follows the last chunk");
            return chunks;
        }
    }
}

fn error_of_last_chunk(replies: &[u8]) -> u32 {
    let (kind, payload) = chunks(replies).pop().unwrap();
    assert_eq!(kind, chunk::ERROR);
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// The bytes that a structured reply describes; every byte must be described once.
fn assemble(replies: &[u8], offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = vec![None; length as usize];
    for (kind, payload) in chunks(replies) {
        let (mut at, data) = payload.split_at(8);
        let begin = (read_u64(&mut at).unwrap() - offset) as usize;
        let data = match kind {
            chunk::OFFSET_DATA => data.to_vec(),
            chunk::OFFSET_HOLE => vec![0; u32::from_be_bytes(data.try_into().unwrap()) as usize],
            other => panic!("chunk of type {other}"),
        };
        for (place, byte) in bytes[begin..begin + data.len()].iter_mut().zip(data) {
            assert!(place.replace(byte).is_none(), "described twice");
        }
    }
    bytes.into_iter().map(|byte| byte.expect("described")).collect()
}

#[test]
fn a_simple_read_is_a_header_and_the_bytes() {
    let disk = striped();
    let replies = serve(&disk, SIMPLE, &request(command::READ, 0, 990, 3000));
    assert_eq!(simple_error(&replies[..16]), 0);
    assert_eq!(replies[16..], disk.bytes(990, 3000));
}

#[test]
fn a_structured_read_tells_holes_from_data() {
    let disk = striped();
    let replies = serve(&disk, STRUCTURED, &request(command::READ, 0, 990, 2500));
    let kinds: Vec<u16> = chunks(&replies).into_iter().map(|(kind, _)| kind).collect();
    let (data, hole) = (chunk::OFFSET_DATA, chunk::OFFSET_HOLE);
    assert_eq!(kinds, [data, hole, hole, data]);
    assert_eq!(assemble(&replies, 990, 2500), disk.bytes(990, 2500));
}

#[test]
fn a_read_that_must_not_be_fragmented_is_one_chunk() {
    let disk = striped();
    let flags = command::DONT_FRAGMENT;
    let replies = serve(&disk, STRUCTURED, &request(command::READ, flags, 10, 4000));
    assert_eq!(chunks(&replies).len(), 1);
    assert_eq!(assemble(&replies, 10, 4000), disk.bytes(10, 4000));

    let large = Striped { runs: vec![ZERO_RUN; 2000], damaged: None };
    let length = NBD_PIECE_BYTES_MAX as u32 + 1;
    let replies = serve(&large, STRUCTURED, &request(command::READ, flags, 0, length));
    assert_eq!(error_of_last_chunk(&replies), error::OVERFLOW);
}

#[test]
fn a_damaged_place_is_an_error_that_may_follow_data() {
    let disk = Striped { damaged: Some(3500), ..striped() };
    let replies = serve(&disk, STRUCTURED, &request(command::READ, 0, 0, 5000));
    assert_eq!(error_of_last_chunk(&replies), error::INPUT_OUTPUT);
    assert_eq!(chunks(&replies)[0].0, chunk::OFFSET_DATA);
    let replies = serve(&disk, SIMPLE, &request(command::READ, 0, 0, 5000));
    assert_eq!(simple_error(&replies), error::INPUT_OUTPUT);
    let replies = serve(&disk, SIMPLE, &request(command::CACHE, 0, 0, 5000));
    assert_eq!(simple_error(&replies), error::INPUT_OUTPUT);
    // Past the damage all is well.
    let replies = serve(&disk, STRUCTURED, &request(command::READ, 0, 4000, 1000));
    assert_eq!(assemble(&replies, 4000, 1000), disk.bytes(4000, 1000));
}

#[test]
fn ranges_that_are_empty_too_long_or_off_the_disk_are_invalid() {
    let disk = striped();
    let large = Striped { runs: vec![ZERO_RUN; 40_000], damaged: None };
    let cases: [(&Striped, u64, u32); 6] = [
        (&disk, 0, 0),
        (&disk, 0, 5001),
        (&disk, 5000, 1),
        (&disk, u64::MAX, 2),
        (&disk, u64::MAX - 3, u32::MAX),
        (&large, 0, NBD_REQUEST_BYTES_MAX + 1),
    ];
    for (disk, offset, length) in cases {
        let replies = serve(disk, SIMPLE, &request(command::READ, 0, offset, length));
        assert_eq!(simple_error(&replies), error::INVALID, "{offset} {length}");
        let replies = serve(disk, STRUCTURED, &request(command::READ, 0, offset, length));
        assert_eq!(error_of_last_chunk(&replies), error::INVALID, "{offset} {length}");
        let replies = serve(disk, SIMPLE, &request(command::CACHE, 0, offset, length));
        assert_eq!(simple_error(&replies), error::INVALID, "{offset} {length}");
    }
}

#[test]
fn nothing_is_written() {
    let disk = striped();
    let write = [request(command::WRITE, 0, 0, 100), vec![7; 100]].concat();
    for request in
        [write, request(command::TRIM, 0, 0, 100), request(command::WRITE_ZEROES, 0, 0, 100)]
    {
        for features in [SIMPLE, STRUCTURED] {
            assert_eq!(simple_error(&serve(&disk, features, &request)), error::NOT_PERMITTED);
        }
    }
}

#[test]
fn a_command_that_was_not_offered_is_invalid() {
    for number in [3, 8, 77] {
        let replies = serve(&striped(), STRUCTURED, &request(number, 0, 0, 100));
        assert_eq!(simple_error(&replies), error::INVALID);
    }
}

#[test]
fn a_write_too_long_to_skip_and_a_broken_request_end_the_connection() {
    let too_long = request(command::WRITE, 0, 0, NBD_REQUEST_BYTES_MAX + 1);
    let cut_off = request(command::WRITE, 0, 0, 100);
    let no_magic = vec![0; 28];
    for sent in [too_long, cut_off, no_magic, Vec::new()] {
        let (counters, mut replies) = (Counters::default(), Vec::new());
        let disk = striped();
        let outcome = transmit_all(&disk, STRUCTURED, &sent, &mut replies, &counters);
        assert!(outcome.is_err() && replies.is_empty());
    }
}

/// Lengths and flags of a block status reply.
fn extents(replies: &[u8]) -> Vec<(u32, u32)> {
    let (kind, payload) = chunks(replies).pop().unwrap();
    assert_eq!(kind, chunk::BLOCK_STATUS);
    let numbers: Vec<u32> =
        payload.chunks(4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(numbers[0], ALLOCATION_ID);
    numbers[1..].chunks(2).map(|pair| (pair[0], pair[1])).collect()
}

#[test]
fn block_status_joins_runs_of_a_kind() {
    let disk = striped();
    let replies = serve(&disk, STRUCTURED, &request(command::BLOCK_STATUS, 0, 10, 4000));
    assert_eq!(extents(&replies), [(990, DATA), (2000, HOLE_AND_ZERO), (1010, DATA)]);
    let one = command::REQUEST_ONE;
    let replies = serve(&disk, STRUCTURED, &request(command::BLOCK_STATUS, one, 1500, 3500));
    assert_eq!(extents(&replies), [(1500, HOLE_AND_ZERO)]);
}

#[test]
fn block_status_is_bounded_and_must_have_been_agreed_on() {
    let runs = [DATA_RUN, ZERO_RUN].into_iter().cycle().take(3 * NBD_EXTENTS_MAX).collect();
    let disk = Striped { runs, damaged: None };
    let all = request(command::BLOCK_STATUS, 0, 0, disk.size_bytes() as u32);
    assert_eq!(extents(&serve(&disk, STRUCTURED, &all)).len(), NBD_EXTENTS_MAX);
    let structured_only = Features { structured: true, allocation: false };
    assert_eq!(error_of_last_chunk(&serve(&disk, structured_only, &all)), error::INVALID);
    assert_eq!(simple_error(&serve(&disk, SIMPLE, &all)), error::INVALID);
}

#[test]
fn reads_are_counted() {
    let disk = Striped { damaged: Some(0), ..striped() };
    let sent = [
        request(command::READ, 0, 1000, 3000),
        request(command::READ, command::DONT_FRAGMENT, 3000, 500),
        request(command::READ, 0, 0, 1),
        request(command::DISCONNECT, 0, 0, 0),
    ]
    .concat();
    for features in [SIMPLE, STRUCTURED] {
        let counters = Counters::default();
        transmit_all(&disk, features, &sent, &mut Vec::new(), &counters).unwrap();
        let counted = counters.load();
        assert_eq!((counted.read_bytes, counted.reads, counted.failed), (3500, 2, 1));
    }
}

prop_compose! {
    fn any_disk()(
        runs in prop::collection::vec(prop::sample::select(&[DATA_RUN, ZERO_RUN, PARENT_RUN]), 1..12),
    ) -> Striped {
        Striped { runs, damaged: None }
    }
}

proptest! {
    #[test]
    fn what_is_read_is_what_is_there(
        disk in any_disk(), begin in any::<prop::sample::Index>(), share in any::<prop::sample::Index>(), unfragmented in any::<bool>(),
    ) {
        let size = disk.size_bytes();
        let offset = begin.index(size as usize) as u64;
        let length = 1 + share.index((size - offset) as usize) as u32;
        let flags = if unfragmented { command::DONT_FRAGMENT } else { 0 };
        let read = request(command::READ, flags, offset, length);
        let expected = disk.bytes(offset, length);
        prop_assert_eq!(&serve(&disk, SIMPLE, &read)[16..], &expected[..]);
        prop_assert_eq!(&assemble(&serve(&disk, STRUCTURED, &read), offset, length), &expected);

        // What block status calls a hole reads as zeros, and it covers the range from its start.
        let status = request(command::BLOCK_STATUS, 0, offset, length);
        let mut at = 0;
        for (length, state) in extents(&serve(&disk, STRUCTURED, &status)) {
            let bytes = &expected[at..at + length as usize];
            prop_assert!(bytes.iter().all(|byte| (*byte == 0) == (state == HOLE_AND_ZERO)));
            at += length as usize;
        }
        prop_assert_eq!(at, expected.len());
    }

    #[test]
    fn any_requests_are_survived(
        requests in prop::collection::vec(
            (any::<u16>(), 0_u16..10, prop_oneof![0_u64..20_000, any::<u64>()], prop_oneof![0_u32..20_000, any::<u32>()]),
            0..8,
        ),
        structured in any::<bool>(),
    ) {
        let sent: Vec<u8> = requests
            .iter()
            .flat_map(|(flags, command, offset, length)| request(*command, *flags, *offset, *length))
            .collect();
        let features = Features { structured, allocation: structured };
        let (counters, mut replies) = (Counters::default(), Vec::new());
        let _ = transmit_all(&striped(), features, &sent, &mut replies, &counters);
        prop_assert!(replies.len() <= requests.len() * 8000);
    }
}
