//! Compressed files: they read like what is in them, and a bomb goes off nowhere.

use std::io::{self, Write};
use std::sync::LazyLock;

use calotype_disk::qcow2::create_layer;
use calotype_disk::{
    ErrorKind, FormatName, OpenLimits, Packing, Source, Unpacked, detect, open, unpack,
};
use flate2::write::GzEncoder;
use flate2::{Compression, Crc};
use lzma_rust2::{XzOptions, XzWriter};
use proptest::prelude::*;

use crate::support::{Counting, read_all};

const MIB: usize = 1 << 20;
const LIMITS: OpenLimits =
    OpenLimits { virtual_size_bytes_max: 1 << 30, file_size_bytes_max: 64 << 20 };
const PACKINGS: [Packing; 3] = [Packing::Gzip, Packing::Xz, Packing::Zstd];

pub(crate) fn pack(packing: Packing, bytes: &[u8]) -> Vec<u8> {
    match packing {
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Xz => {
            let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        }
        Packing::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// Bytes that differ at every place.
fn numbers(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64).flat_map(u64::to_le_bytes).take(length).collect()
}

fn all_of(source: &dyn Source) -> Vec<u8> {
    let mut bytes = vec![0; source.length_bytes() as usize];
    source.read_at(0, &mut bytes).unwrap();
    bytes
}

#[track_caller]
fn assert_refused(packed: Vec<u8>, kind: ErrorKind, reason: &str) {
    let error = open(Box::new(packed), None, &LIMITS).err().expect(reason);
    let text = format!("{error}: {:?}", std::error::Error::source(&error));
    assert!(error.kind() == kind && text.contains(reason), "{:?} {text}", error.kind());
}

#[test]
fn a_compressed_disk_is_the_disk() {
    let raw = numbers(3 * MIB + 17);
    let qcow2 = create_layer(5 << 20).unwrap();
    for packing in PACKINGS {
        let (name, disk) = open(Box::new(pack(packing, &raw)), None, &LIMITS).unwrap();
        assert_eq!(name, FormatName::Raw, "{packing}");
        assert!(read_all(disk.as_ref()) == raw, "{packing}");

        let declared = Some(FormatName::Qcow2);
        let (_, disk) = open(Box::new(pack(packing, &qcow2)), declared, &LIMITS).unwrap();
        assert!(read_all(disk.as_ref()) == vec![0; 5 << 20], "{packing}");
    }
}

#[test]
fn several_members_streams_or_frames_are_one_file() {
    let bytes = numbers(MIB);
    for packing in PACKINGS {
        let packed: Vec<u8> = bytes.chunks(300_000).flat_map(|part| pack(packing, part)).collect();
        assert!(all_of(unpack(Box::new(packed), &LIMITS).unwrap().as_ref()) == bytes, "{packing}");
    }
    // A frame that is to be skipped, of four bytes.
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let packed = [&skipped[..], &pack(Packing::Zstd, &bytes)].concat();
    assert!(all_of(unpack(Box::new(packed), &LIMITS).unwrap().as_ref()) == bytes);
}

#[test]
fn an_empty_file_stays_empty() {
    for packing in PACKINGS {
        let packed = pack(packing, &[]);
        assert_eq!(unpack(Box::new(packed), &LIMITS).unwrap().length_bytes(), 0);
    }
}

#[test]
fn what_is_not_compressed_stays_as_it_is() {
    let bytes = numbers(5000);
    assert!(all_of(unpack(Box::new(bytes.clone()), &LIMITS).unwrap().as_ref()) == bytes);
}

#[test]
fn refuses_damage_wherever_it_is() {
    let bytes = numbers(300_000);
    for packing in PACKINGS {
        let packed = pack(packing, &bytes);
        for place in (12..packed.len()).step_by(packed.len() / 90) {
            let mut damaged = packed.clone();
            damaged[place] ^= 0x10;
            // Some bits matter to nobody, such as the name of the system in gzip's header.
            match unpack(Box::new(damaged), &LIMITS) {
                Ok(source) => assert!(all_of(source.as_ref()) == bytes, "{packing} at {place}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{packing} at {place}"),
            }
        }
        let mut wrong_sum = packed.clone();
        let checksum = match packing {
            Packing::Gzip => packed.len() - 8,
            Packing::Xz => packed.len() - 28,
            Packing::Zstd => packed.len() - 1,
        };
        wrong_sum[checksum] ^= 1;
        assert_refused(wrong_sum, ErrorKind::Corrupt, &format!("unpacking {packing}"));
    }
}

#[test]
fn refuses_a_truncated_file_wherever_it_ends() {
    let bytes = numbers(300_000);
    for packing in PACKINGS {
        let packed = pack(packing, &bytes);
        for length in (8..packed.len()).step_by(packed.len() / 50).chain([packed.len() - 1]) {
            assert_refused(packed[..length].to_vec(), ErrorKind::Corrupt, "unpacking");
        }
    }
}

#[test]
fn refuses_what_follows_a_compressed_file() {
    for packing in PACKINGS {
        let packed = [pack(packing, &numbers(1000)), b"something else".to_vec()].concat();
        assert_refused(packed, ErrorKind::Corrupt, "unpacking");
    }
}

#[test]
fn refuses_a_bomb_when_the_limit_is_reached() {
    let limits = OpenLimits { file_size_bytes_max: 1 << 20, ..LIMITS };
    for packing in PACKINGS {
        let packed = pack(packing, &vec![0; 32 * MIB]);
        assert!(packed.len() < 200_000);
        let source = Counting::new(packed);
        let error = unpack(Box::new(source.clone()), &limits).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::OutOfBounds);
        let text = error.to_string();
        let length = source.length_bytes();
        assert_eq!(text, format!("{packing} data of {length} bytes unpacks to more than 1048576"));
    }
}

#[test]
fn refuses_what_is_compressed_twice() {
    for outer in PACKINGS {
        for inner in PACKINGS {
            let packed = pack(outer, &pack(inner, &numbers(1000)));
            let reason = format!("{inner} data inside of {outer} data");
            assert_refused(packed, ErrorKind::InvalidFormat, &reason);
        }
    }
}

#[test]
fn refuses_a_dictionary_or_a_window_that_is_too_large() {
    let mut packed = pack(Packing::Xz, &numbers(1000));
    // The block header: its size, flags, the filter, the length of its properties, the dictionary.
    let header = 12..12 + (usize::from(packed[12]) + 1) * 4;
    assert_eq!(packed[14..16], [0x21, 1]);
    packed[16] = 30;
    let mut crc = Crc::new();
    crc.update(&packed[header.start..header.end - 4]);
    packed[header.end - 4..header.end].copy_from_slice(&crc.sum().to_le_bytes());
    assert_refused(packed, ErrorKind::Corrupt, "memory");

    // A frame with a window of 1 GiB and one raw block of one byte.
    let packed = [0x28, 0xb5, 0x2f, 0xfd, 0, 0xa0, 9, 0, 0, 7].to_vec();
    assert_refused(packed, ErrorKind::Corrupt, "memory");
}

#[test]
fn a_failing_source_is_not_taken_for_damage() {
    struct Failing;
    impl Source for Failing {
        fn length_bytes(&self) -> u64 {
            10 << 20
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            if offset == 0 && buf.len() > 4096 {
                return Err(io::Error::other("the line is dead"));
            }
            buf.fill(0);
            buf[..3].copy_from_slice(&[0x1f, 0x8b, 8]);
            Ok(())
        }
    }
    let error = unpack(Box::new(Failing), &LIMITS).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn a_file_that_is_compressed_is_no_disk() {
    for packing in PACKINGS {
        let error = detect(&pack(packing, &numbers(1000))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidFormat);
        assert!(error.to_string().contains("data where a disk is expected"), "{error}");
    }
}

#[test]
fn reads_that_go_back_a_little_unpack_nothing_again() {
    let bytes = numbers(12 * MIB);
    let source = Counting::new(pack(Packing::Gzip, &bytes));
    let unpacked = Unpacked::open(Box::new(source.clone()), Packing::Gzip, &LIMITS).unwrap();
    let read = |offset: usize| {
        let mut buf = vec![0; 10_000];
        unpacked.read_at(offset as u64, &mut buf).unwrap();
        assert!(buf == bytes[offset..offset + 10_000], "at {offset}");
    };
    read(0);
    read(8 * MIB);
    let before = source.read_bytes();
    for step in 0..35 {
        read(8 * MIB - step * 100_000);
    }
    assert_eq!(source.read_bytes(), before);
    read(MIB);
    assert!(source.read_bytes() > before);
}

#[test]
fn a_format_is_told_without_unpacking_again() {
    let layer = [create_layer(1 << 30).unwrap(), numbers(12 * MIB)].concat();
    let source = Counting::new(pack(Packing::Gzip, &layer));
    open(Box::new(source.clone()), None, &LIMITS).unwrap();
    // Once as a whole, and the start of it again.
    let once = source.length_bytes();
    assert!((once..once * 3 / 2).contains(&source.read_bytes()), "{}", source.read_bytes());
}

#[test]
fn a_file_that_would_be_unpacked_without_end_is_given_up() {
    let bytes = numbers(12 * MIB);
    let unpacked =
        Unpacked::open(Box::new(pack(Packing::Zstd, &bytes)), Packing::Zstd, &LIMITS).unwrap();
    let mut buf = vec![0; 4096];
    let mut passes = 0;
    let error = loop {
        let there = unpacked.read_at(10 * MIB as u64, &mut buf);
        match there.and_then(|()| unpacked.read_at(0, &mut buf)) {
            Ok(()) => passes += 1,
            Err(error) => break error,
        }
    };
    assert!((10..20).contains(&passes), "{passes}");
    assert!(error.to_string().contains("unpack the file first"), "{error}");
}

/// More than is kept, so that some reads begin anew.
const LONG: usize = 6 * MIB;

/// The same bytes in each packing, made once.
static LONG_FILES: LazyLock<[Vec<u8>; 3]> =
    LazyLock::new(|| PACKINGS.map(|packing| pack(packing, &numbers(LONG))));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn reads_anywhere_bring_what_is_there(
        places in proptest::collection::vec((0..LONG, 0..MIB), 1..6),
        number in 0..PACKINGS.len(),
    ) {
        let (bytes, packed) = (numbers(LONG), LONG_FILES[number].clone());
        let unpacked = Unpacked::open(Box::new(packed), PACKINGS[number], &LIMITS).unwrap();
        for (offset, length) in places {
            let mut buf = vec![0; length.min(LONG - offset)];
            unpacked.read_at(offset as u64, &mut buf).unwrap();
            prop_assert!(buf == bytes[offset..offset + buf.len()]);
        }
        prop_assert!(unpacked.read_at(LONG as u64, &mut [0]).is_err());
        prop_assert!(unpacked.read_at(u64::MAX, &mut [0]).is_err());
    }
}
