//! vhdx files: those of QEMU are read as QEMU reads them, those that lie are refused.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use calotype_disk::{ErrorKind, FormatName};
use proptest::prelude::*;

use crate::spots::{Spots, assert_refused, noise, open_file, poked, refusal, text};
use crate::support::{extents, path, qemu, raw_of, read_all};

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;
const VHDX: FormatName = FormatName::Vhdx;

const HEADERS: [usize; 2] = [64 * KIB, 128 * KIB];
const REGIONS: [usize; 2] = [192 * KIB, 256 * KIB];

/// Places in a header.
const LOG_GUID: usize = 48;
const LOG_VERSION: usize = 64;
const HEADER_VERSION: usize = 66;
const LOG_LENGTH: usize = 68;
const LOG_OFFSET: usize = 72;

/// A small file of QEMU's: 4 blocks of 1 MiB, of which the first and the third have data.
static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let (raw, file) = (path(&directory, "disk.raw"), path(&directory, "disk.vhdx"));
    let spots = [(0, text(1000, 3)), (2 * MIB + 5, text(1000, 4))];
    Spots::new(4 * MIB, spots).write_raw(Path::new(&raw));
    let options = "block_size=1M,log_size=1M";
    qemu("qemu-img", &["convert", "-f", "raw", "-O", "vhdx", "-o", options, &raw, &file]);
    fs::read(file).unwrap()
});

/// Signs a part again whose checksum is at its fifth byte.
fn sign(part: &mut [u8]) {
    part[4..8].fill(0);
    let sum = crc32c::crc32c(part);
    part[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// The file with a change in both headers.
fn headed(offset: usize, value: &[u8]) -> Vec<u8> {
    changed(&SMALL, HEADERS, 4 * KIB, offset, value)
}

/// The file with a change in both region tables.
fn regioned(offset: usize, value: &[u8]) -> Vec<u8> {
    changed(&SMALL, REGIONS, 64 * KIB, offset, value)
}

fn changed(file: &[u8], places: [usize; 2], length: usize, offset: usize, value: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    for place in places {
        file = poked(&file, place + offset, value);
        sign(&mut file[place..place + length]);
    }
    file
}

/// Where the entry of a region with this first byte is in its table, and where the region is.
fn region(first_byte: u8) -> (usize, usize) {
    let entry = (16..).step_by(32).find(|&entry| SMALL[REGIONS[0] + entry] == first_byte).unwrap();
    let place = &SMALL[REGIONS[0] + entry + 16..][..8];
    (entry, u64::from_le_bytes(place.try_into().unwrap()) as usize)
}

/// What the names of the regions begin with in the file.
const TABLE: u8 = 0x66;
const METADATA: u8 = 0x06;

/// Where the entry of a metadata item with this first byte is in the file, and where the item is.
fn item(first_byte: u8) -> (usize, usize) {
    let metadata = region(METADATA).1;
    let entry = (metadata + 32..).step_by(32).find(|&entry| SMALL[entry] == first_byte).unwrap();
    let place = u32::from_le_bytes(SMALL[entry + 16..][..4].try_into().unwrap());
    (entry, metadata + place as usize)
}

const PARAMETERS: u8 = 0x37;
const SIZE: u8 = 0x24;
const SECTOR: u8 = 0x1d;

#[test]
fn reads_what_qemu_writes() {
    let directory = tempfile::tempdir().unwrap();
    let raw = path(&directory, "disk.raw");
    let file = path(&directory, "disk.vhdx");
    for size in [20 * MIB, 20 * MIB + 512, 512] {
        let spots =
            [(0, text(512, 3)), (5 * MIB - 700, noise(3 << 20, 1)), (17 * MIB, text(512, 2))];
        let spots = spots.into_iter().filter(|spot| spot.0 == 0 || spot.0 < size);
        Spots::new(size, spots).write_raw(Path::new(&raw));
        for options in ["subformat=dynamic", "subformat=fixed", "block_size=1M", "block_size=256M"]
        {
            qemu("qemu-img", &["convert", "-f", "raw", "-O", "vhdx", "-o", options, &raw, &file]);
            let read = open_file(VHDX, Path::new(&file));
            let seen = raw_of(&directory, &["-f", "vhdx", &file]);
            assert!(read_all(read.as_ref()) == seen, "{options} of {size} bytes");
            extents(read.as_ref());
        }
    }
}

#[test]
fn reads_behind_the_entries_of_bitmaps() {
    let directory = tempfile::tempdir().unwrap();
    let raw = path(&directory, "disk.raw");
    let file = path(&directory, "disk.vhdx");
    // With blocks of 256 MiB there is a bitmap's entry after every 16.
    let (size, last) = (10 << 30, (9 << 30) + 12_345);
    let spots = [(1 << 30, text(5000, 1)), ((4 << 30) + 7, text(5000, 2)), (last, text(5000, 3))];
    let disk = Spots::new(size, spots);
    disk.write_raw(Path::new(&raw));
    let options = "block_size=256M";
    qemu("qemu-img", &["convert", "-f", "raw", "-O", "vhdx", "-o", options, &raw, &file]);
    let read = open_file(VHDX, Path::new(&file));
    assert_eq!(read.size_bytes(), size);
    for (&offset, bytes) in &disk.spots {
        let mut found = vec![0; bytes.len()];
        read.read_at(offset, &mut found).unwrap();
        assert!(found == *bytes, "at {offset}");
    }
    assert_eq!(extents(read.as_ref()).len(), 7);
}

#[test]
fn the_file_of_these_tests_is_sound() {
    assert_eq!(refusal(VHDX, SMALL.clone()), None);
    assert_eq!(refusal(VHDX, headed(0, b"head")), None);
    assert_eq!(refusal(VHDX, regioned(0, b"regi")), None);
}

#[test]
fn one_damaged_copy_of_header_or_regions_does_no_harm() {
    for place in HEADERS.into_iter().chain(REGIONS) {
        assert_eq!(refusal(VHDX, poked(&SMALL, place + 20, &[0x77])), None);
    }
}

#[test]
fn refuses_a_header_that_cannot_be() {
    use ErrorKind::{Corrupt, UnsupportedFeature};
    let cases: &[(usize, &[u8], ErrorKind, &str)] = &[
        (0, b"heat", Corrupt, "without a header that has the right checksum"),
        (LOG_GUID, &[1], UnsupportedFeature, "with a log that must be replayed"),
        (LOG_VERSION, &[1], UnsupportedFeature, "a log of version 1"),
        (HEADER_VERSION, &[2], UnsupportedFeature, "vhdx version 2"),
        (LOG_LENGTH, &[1], Corrupt, "vhdx log of 1048577 bytes"),
        (LOG_OFFSET, &[0; 8], Corrupt, "vhdx log of 1048576 bytes at 0"),
        (LOG_OFFSET, &[0xff; 8], Corrupt, "vhdx log of 1048576 bytes"),
    ];
    for &(offset, value, kind, reason) in cases {
        assert_refused(VHDX, headed(offset, value), kind, reason);
    }
    let mut unsigned = poked(&SMALL, HEADERS[0] + 20, &[0x77]);
    unsigned = poked(&unsigned, HEADERS[1] + 20, &[0x77]);
    assert_refused(VHDX, unsigned, Corrupt, "without a header that has the right checksum");
    assert_refused(VHDX, SMALL[..1000].to_vec(), ErrorKind::InvalidFormat, "cut short");
}

#[test]
fn refuses_regions_that_cannot_be() {
    use ErrorKind::{Corrupt, UnsupportedFeature};
    let (table, table_place) = region(TABLE);
    let (metadata, metadata_place) = region(METADATA);
    let mut unknown = SMALL[REGIONS[0] + table..][..32].to_vec();
    (unknown[0], unknown[28]) = (1, 1);
    let table_place = (table_place as u64).to_le_bytes();
    let metadata_place = (metadata_place as u64).to_le_bytes();
    let cases: &[(usize, &[u8], ErrorKind, &str)] = &[
        (0, b"rege", Corrupt, "without a region table that has the right checksum"),
        (8, &2048_u32.to_le_bytes(), Corrupt, "region table of 2048 entries"),
        (8, &[1], Corrupt, "without metadata or block allocation table"),
        (table, &unknown, UnsupportedFeature, "region that is required and unknown"),
        (table + 16, &[0; 8], Corrupt, "at 0"),
        (table + 16, &metadata_place, Corrupt, "regions that overlap"),
        (metadata + 16, &table_place, Corrupt, "regions that overlap"),
        (table + 16, &[1], Corrupt, "vhdx region of 1048576 bytes at"),
        (table + 16, &[0xff; 8], Corrupt, "vhdx region of"),
        (table + 24, &[1], Corrupt, "vhdx region of 1048577 bytes"),
        (table + 24, &[0; 4], Corrupt, "vhdx region of 0 bytes"),
        (table + 24, &[0, 0, 0, 0x70], Corrupt, "vhdx region of 1879048192 bytes"),
    ];
    for &(offset, value, kind, reason) in cases {
        assert_refused(VHDX, regioned(offset, value), kind, reason);
    }
    let again = SMALL[REGIONS[0] + table..][..32].to_vec();
    let twice = regioned(metadata, &again);
    assert_refused(VHDX, twice, Corrupt, "region that is there twice");
}

#[test]
fn refuses_metadata_that_cannot_be() {
    use ErrorKind::{Corrupt, OutOfBounds, UnsupportedFeature};
    let start = region(METADATA).1;
    let (parameters_entry, parameters) = item(PARAMETERS);
    let (size_entry, size) = item(SIZE);
    let sector = item(SECTOR).1;
    let parent = [
        0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab,
        0x0c,
    ];
    let again = SMALL[size_entry..size_entry + 16].to_vec();
    let cases: &[(usize, &[u8], ErrorKind, &str)] = &[
        (start, b"metadatb", Corrupt, "without a metadata table"),
        (start + 10, &2048_u16.to_le_bytes(), Corrupt, "metadata table of 2048 entries"),
        (start + 10, &[1], Corrupt, "without the sizes of disk, blocks or sectors"),
        (size_entry, &[1], UnsupportedFeature, "metadata that is required and unknown"),
        (size_entry, &parent, UnsupportedFeature, "names a parent"),
        (parameters_entry, &again, Corrupt, "item that is there twice"),
        (size_entry + 16, &[0; 4], Corrupt, "item of 8 bytes at 0"),
        (size_entry + 16, &[0xff; 4], Corrupt, "item of 8 bytes at 4294967295"),
        (size_entry + 20, &[9], Corrupt, "item of 9 bytes"),
        (parameters + 4, &[2], UnsupportedFeature, "needs a parent"),
        (parameters, &[1], Corrupt, "vhdx blocks of 1048577 bytes"),
        (parameters, &[0; 4], Corrupt, "vhdx blocks of 0 bytes"),
        (parameters, &(512_u32 << 20).to_le_bytes(), Corrupt, "vhdx blocks of 536870912 bytes"),
        (sector, &[0, 4], UnsupportedFeature, "vhdx sectors of 1024 bytes"),
        (sector, &[0, 0], UnsupportedFeature, "vhdx sectors of 0 bytes"),
        (size, &[0; 8], OutOfBounds, "vhdx of 0 bytes"),
        (size, &[0xff; 8], OutOfBounds, "vhdx of 18446744073709551615 bytes"),
        (size, &[1], Corrupt, "no whole sectors"),
        (size, &(1_u64 << 45).to_le_bytes(), Corrupt, "vhdx block allocation table of 1048576"),
    ];
    for &(offset, value, kind, reason) in cases {
        assert_refused(VHDX, poked(&SMALL, offset, value), kind, reason);
    }
}

#[test]
fn refuses_blocks_where_they_cannot_be() {
    use ErrorKind::{Corrupt, UnsupportedFeature};
    let table = region(TABLE).1;
    let at = |mib: u64| ((mib << 20) | 6).to_le_bytes();
    let over = "lies over the metadata";
    let cases: &[(&[u8], ErrorKind, &str)] = &[
        (&7_u64.to_le_bytes(), UnsupportedFeature, "partly its parent's"),
        (&4_u64.to_le_bytes(), Corrupt, "block 0 in state 4"),
        (&14_u64.to_le_bytes(), Corrupt, "vhdx entry 0xe of block 0"),
        (&at(0), Corrupt, over),
        (&at(1), Corrupt, over),
        (&at(region(METADATA).1 as u64 >> 20), Corrupt, over),
        (&at(table as u64 >> 20), Corrupt, over),
        (&at(1 << 20), Corrupt, "vhdx block of 1048576 bytes"),
        (&at((1 << 44) - 1), Corrupt, "vhdx block of 1048576 bytes"),
    ];
    for &(value, kind, reason) in cases {
        assert_refused(VHDX, poked(&SMALL, table, value), kind, reason);
    }
    for state in [0, 1, 2, 3, 5_u64] {
        assert_eq!(refusal(VHDX, poked(&SMALL, table, &state.to_le_bytes())), None);
    }
    let cut = SMALL[..SMALL.len() - 1].to_vec();
    assert_refused(VHDX, cut, Corrupt, "vhdx block of 1048576 bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_mutated_file_is_read_or_refused(
        headers in proptest::collection::vec((0..80_usize, any::<u8>()), 0..2),
        regions in proptest::collection::vec((0..80_usize, any::<u8>()), 0..2),
        metadata in proptest::collection::vec((0..200_usize, any::<u8>()), 0..3),
        entries in proptest::collection::vec((0..40_usize, any::<u8>()), 0..3),
        cut in proptest::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut file = SMALL.clone();
        let (table, items) = (region(TABLE).1, region(METADATA).1);
        for (places, start) in [(metadata, items), (entries, table)] {
            for (place, value) in places {
                file[start + place] = value;
            }
        }
        for (place, value) in headers {
            file = changed(&file, HEADERS, 4 * KIB, place, &[value]);
        }
        for (place, value) in regions {
            file = changed(&file, REGIONS, 64 * KIB, place, &[value]);
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let _ = refusal(VHDX, file);
    }
}
