//! vdi files: those of QEMU are read as QEMU reads them, those that lie are refused.

use std::path::Path;

use calotype_disk::{ErrorKind, FormatName, vdi};
use proptest::prelude::*;

use crate::spots::{Spots, assert_refused, noise, open_file, poked, refusal, text, written};
use crate::support::{extents, path, qemu, raw_of, read_all};

const MIB: u64 = 1 << 20;
const VDI: FormatName = FormatName::Vdi;

/// Places in the header.
const VERSION: usize = 0x44;
const TYPE: usize = 0x4c;
const MAP_OFFSET: usize = 0x154;
const DATA_OFFSET: usize = 0x158;
const SECTOR_SIZE: usize = 0x168;
const DISK_SIZE: usize = 0x170;
const BLOCK_SIZE: usize = 0x178;
const BLOCK_EXTRA: usize = 0x17c;
const BLOCKS: usize = 0x180;
const UUID_LINK: usize = 0x1a8;
const UUID_PARENT: usize = 0x1b8;
const MAP: usize = 0x200;

/// A small file whose layout the tests know: the first and the third block have data.
fn small() -> Vec<u8> {
    let disk = Spots::new(4 * MIB, [(0, text(1000, 3)), (2 * MIB + 5, text(1000, 4))]);
    written(vdi::plan(&disk).unwrap().as_ref(), &disk)
}

#[test]
fn reads_what_qemu_writes() {
    let directory = tempfile::tempdir().unwrap();
    let raw = path(&directory, "disk.raw");
    let file = path(&directory, "disk.vdi");
    for size in [20 * MIB, 20 * MIB + 512, 512] {
        let spots =
            [(0, text(512, 3)), (5 * MIB - 700, noise(3 << 20, 1)), (17 * MIB, text(512, 2))];
        let spots = spots.into_iter().filter(|spot| spot.0 == 0 || spot.0 < size);
        Spots::new(size, spots).write_raw(Path::new(&raw));
        for options in ["static=off", "static=on"] {
            qemu("qemu-img", &["convert", "-f", "raw", "-O", "vdi", "-o", options, &raw, &file]);
            let read = open_file(VDI, Path::new(&file));
            let seen = raw_of(&directory, &["-f", "vdi", &file]);
            assert!(read_all(read.as_ref()) == seen, "{options} of {size} bytes");
            extents(read.as_ref());
        }
    }
}

#[test]
fn discarded_blocks_are_zeros() {
    let file = poked(&small(), MAP, &0xffff_fffe_u32.to_le_bytes());
    let (_, disk) =
        calotype_disk::open(Box::new(file), Some(VDI), &crate::spots::NO_LIMITS).unwrap();
    assert!(read_all(disk.as_ref())[..1000].iter().all(|&byte| byte == 0));
    assert_eq!(extents(disk.as_ref()).len(), 3);
}

#[test]
fn the_file_of_these_tests_is_sound() {
    assert_eq!(refusal(VDI, small()), None);
}

#[test]
fn refuses_a_header_that_cannot_be() {
    use ErrorKind::{Corrupt, OutOfBounds, UnsupportedFeature};
    let cases: &[(usize, &[u8], ErrorKind, &str)] = &[
        (VERSION, &[0], UnsupportedFeature, "vdi version 0x10000"),
        (TYPE, &[3], UnsupportedFeature, "vdi of type 3"),
        (TYPE, &[4], UnsupportedFeature, "vdi of type 4"),
        (UUID_LINK, &[1], UnsupportedFeature, "needs a parent"),
        (UUID_PARENT, &[1], UnsupportedFeature, "needs a parent"),
        (SECTOR_SIZE + 1, &[16], UnsupportedFeature, "sectors of 4096 bytes"),
        (BLOCK_SIZE + 2, &[32], UnsupportedFeature, "blocks of 2097152 bytes"),
        (BLOCK_EXTRA, &[1], UnsupportedFeature, "blocks of 1048576 bytes and 1 more"),
        (DISK_SIZE, &[0; 8], OutOfBounds, "vdi of 0 bytes"),
        (DISK_SIZE, &[0xff; 8], OutOfBounds, "vdi of 18446744073709551615 bytes"),
        (DISK_SIZE, &(5 * MIB).to_le_bytes(), Corrupt, "vdi of 4 blocks, not 5"),
        (BLOCKS, &[3], Corrupt, "vdi of 3 blocks, not 4"),
        (BLOCKS, &[0xff; 4], Corrupt, "block map at 512"),
        (MAP_OFFSET, &[0, 0], Corrupt, "block map at 0 "),
        (MAP_OFFSET, &[0, 4], Corrupt, "block map at 1024 "),
        (MAP_OFFSET, &[0xff; 4], Corrupt, "block map at 4294967295 "),
        (DATA_OFFSET, &[0x10, 2], Corrupt, "data at offset 528, not at a sector"),
        (DATA_OFFSET, &[0, 0, 0, 2], Corrupt, "vdi block of 1048576 bytes"),
    ];
    for &(offset, value, kind, reason) in cases {
        assert_refused(VDI, poked(&small(), offset, value), kind, reason);
    }
    assert_refused(VDI, small()[..300].to_vec(), ErrorKind::InvalidFormat, "cut short");
}

#[test]
fn refuses_blocks_outside_of_the_file() {
    let outside = "vdi block of 1048576 bytes";
    for entry in [2_u32, 1 << 20, 0xffff_fffd] {
        let file = poked(&small(), MAP, &entry.to_le_bytes());
        assert_refused(VDI, file, ErrorKind::Corrupt, outside);
    }
    let cut = small()[..small().len() - 1].to_vec();
    assert_refused(VDI, cut, ErrorKind::Corrupt, outside);
}

#[test]
fn a_huge_disk_in_a_small_file_is_refused_before_memory_is_taken() {
    let blocks = 1_u32 << 26;
    let mut file = poked(&small(), DISK_SIZE, &(u64::from(blocks) << 20).to_le_bytes());
    file = poked(&file, BLOCKS, &blocks.to_le_bytes());
    file = poked(&file, DATA_OFFSET, &(blocks * 4 + 1024).to_le_bytes());
    assert_refused(VDI, file, ErrorKind::Corrupt, "vdi block map of 268435456 bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_mutated_file_is_read_or_refused(
        places in proptest::collection::vec((0x40..0x220_usize, any::<u8>()), 1..5),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut file = small();
        for (place, value) in places {
            file[place] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let _ = refusal(VDI, file);
    }
}
