//! vhd files: those of QEMU are read as QEMU reads them, those that lie are refused.

use std::fs;
use std::path::Path;

use calotype_disk::{ErrorKind, FormatName, vhd};
use proptest::prelude::*;

use crate::spots::{Spots, assert_refused, noise, open_file, poked, refusal, text, written};
use crate::support::{extents, path, qemu, raw_of, read_all};

const MIB: u64 = 1 << 20;
const VHD: FormatName = FormatName::Vhd;
const FOOTER: usize = 512;

/// Places in the footer.
const FILE_VERSION: usize = 12;
const HEADER_OFFSET: usize = 16;
const MAKER: usize = 28;
const CURRENT_SIZE: usize = 48;
const GEOMETRY: usize = 56;
const TYPE: usize = 60;
const FOOTER_CHECKSUM: usize = 64;

/// Where header and table are, and places in the header.
const HEADER: usize = 512;
const TABLE_OFFSET: usize = HEADER + 16;
const HEADER_VERSION: usize = HEADER + 24;
const ENTRIES: usize = HEADER + 28;
const BLOCK_SIZE: usize = HEADER + 32;
const HEADER_CHECKSUM: usize = HEADER + 36;
const TABLE: usize = 1536;

fn disk() -> Spots {
    Spots::new(8 * MIB, [(0, text(1000, 3)), (4 * MIB + 5, text(1000, 4))])
}

/// Small files whose layout the tests know.
fn dynamic() -> Vec<u8> {
    written(vhd::plan_dynamic(&disk()).unwrap().as_ref(), &disk())
}

fn fixed() -> Vec<u8> {
    written(vhd::plan_fixed(&disk()).unwrap().as_ref(), &disk())
}

/// The ones' complement of the sum, written where it belongs.
fn sign(bytes: &mut [u8], checksum: usize) {
    bytes[checksum..checksum + 4].fill(0);
    let sum = bytes.iter().fold(0_u32, |sum, &byte| sum.wrapping_add(byte.into()));
    bytes[checksum..checksum + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// The file with a change in its footer, and in the copy of a dynamic one, signed again.
fn footed(file: &[u8], offset: usize, value: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let end = file.len() - FOOTER;
    let is_dynamic = file.starts_with(b"conectix");
    for start in [0, end].into_iter().skip(usize::from(!is_dynamic)) {
        file = poked(&file, start + offset, value);
        sign(&mut file[start..start + FOOTER], FOOTER_CHECKSUM);
    }
    file
}

/// The file with a change in its header, signed again.
fn headed(file: &[u8], offset: usize, value: &[u8]) -> Vec<u8> {
    let mut file = poked(file, offset, value);
    sign(&mut file[HEADER..TABLE], HEADER_CHECKSUM - HEADER);
    file
}

#[test]
fn reads_what_qemu_writes() {
    let directory = tempfile::tempdir().unwrap();
    let raw = path(&directory, "disk.raw");
    let file = path(&directory, "disk.vhd");
    for size in [20 * MIB, 20 * MIB + 512, 31 * MIB + 5 * 512] {
        let spots = [(0, text(512, 3)), (5 * MIB - 700, noise(3 << 20, 1)), (size - 9, vec![4; 9])];
        Spots::new(size, spots).write_raw(Path::new(&raw));
        for subformat in ["dynamic", "fixed"] {
            // The size is that of the geometry, unless it is forced to be exact.
            for force in ["off", "on"] {
                let options = format!("subformat={subformat},force_size={force}");
                qemu(
                    "qemu-img",
                    &["convert", "-f", "raw", "-O", "vpc", "-o", &options, &raw, &file],
                );
                let read = open_file(VHD, Path::new(&file));
                let seen = raw_of(&directory, &["-f", "vpc", &file]);
                assert!(read_all(read.as_ref()) == seen, "{options} of {size} bytes");
                extents(read.as_ref());
            }
        }
    }
}

#[test]
fn the_size_is_that_of_the_footer_or_of_the_geometry_by_the_maker() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "disk.vhd");
    for maker in [b"vpc ", b"qemu", b"qem2", b"win ", b"d2v ", b"tap\0", b"CTXS", b"vbox"] {
        for geometry in [[0, 100, 4, 17], [0xff, 0xff, 16, 255]] {
            let changed = footed(&footed(&dynamic(), MAKER, maker), GEOMETRY, &geometry);
            fs::write(&file, &changed).unwrap();
            let info = qemu("qemu-img", &["info", "--output=json", "-f", "vpc", &file]);
            let read = open_file(VHD, Path::new(&file));
            let size = format!("\"virtual-size\": {},", read.size_bytes());
            assert!(info.contains(&size), "{maker:?} {geometry:?}: {size} {info}");
        }
    }
}

#[test]
fn the_files_of_these_tests_are_sound() {
    assert_eq!(refusal(VHD, dynamic()), None);
    assert_eq!(refusal(VHD, fixed()), None);
    assert_eq!(
        refusal(VHD, headed(&footed(&dynamic(), 0, b"conectix"), HEADER, b"cxsparse")),
        None
    );
}

#[test]
fn refuses_a_footer_that_cannot_be() {
    use ErrorKind::{Corrupt, OutOfBounds, UnsupportedFeature};
    let cases: &[(usize, &[u8], ErrorKind, &str)] = &[
        (FILE_VERSION, &[0, 2], UnsupportedFeature, "vhd version 0x20000"),
        (TYPE + 3, &[4], UnsupportedFeature, "vhd that needs a parent"),
        (TYPE + 3, &[0], UnsupportedFeature, "vhd of type 0"),
        (TYPE + 3, &[5], UnsupportedFeature, "vhd of type 5"),
        (CURRENT_SIZE, &[0; 8], OutOfBounds, "vhd of 0 bytes"),
        (CURRENT_SIZE, &[0xff; 8], OutOfBounds, "vhd of 18446744073709551104 bytes"),
        (CURRENT_SIZE, &(2041_u64 << 30).to_be_bytes(), OutOfBounds, "vhd of 2191507062784 bytes"),
    ];
    for file in [dynamic(), fixed()] {
        for &(offset, value, kind, reason) in cases {
            assert_refused(VHD, footed(&file, offset, value), kind, reason);
        }
        let checksum = file.len() - FOOTER + FOOTER_CHECKSUM;
        let unsigned = poked(&file, checksum, &[file[checksum] ^ 1]);
        assert_refused(VHD, unsigned, Corrupt, "vhd footer with a wrong checksum");
    }
}

#[test]
fn refuses_a_fixed_disk_that_is_not_whole() {
    let reason = "vhd data and footer of";
    let larger = footed(&fixed(), CURRENT_SIZE, &(9 * MIB).to_be_bytes());
    assert_refused(VHD, larger, ErrorKind::Corrupt, reason);
    let file = fixed();
    let cut = [&file[..file.len() - 2 * FOOTER], &file[file.len() - FOOTER..]].concat();
    assert_refused(VHD, cut, ErrorKind::Corrupt, reason);
}

#[test]
fn refuses_a_dynamic_disk_whose_footer_and_copy_disagree() {
    let file = dynamic();
    let disagree = "vhd footer and its copy that disagree";
    assert_refused(VHD, poked(&file, 100, &[1]), ErrorKind::Corrupt, disagree);
    assert_refused(VHD, poked(&file, 0, b"CONECTIX"), ErrorKind::Corrupt, disagree);
    let cut = file[..file.len() - FOOTER].to_vec();
    assert_refused(VHD, cut, ErrorKind::InvalidFormat, "no vhd footer at the end");
}

#[test]
fn refuses_a_header_that_cannot_be() {
    use ErrorKind::{Corrupt, UnsupportedFeature};
    let cases: &[(usize, &[u8], ErrorKind, &str)] = &[
        (HEADER, b"cxsparsf", Corrupt, "no vhd header at 512"),
        (HEADER_VERSION, &[0, 2], UnsupportedFeature, "vhd header version 0x20000"),
        (ENTRIES, &3_u32.to_be_bytes(), Corrupt, "table of 3 entries for 8388608 bytes"),
        (ENTRIES, &[0xff; 4], Corrupt, "vhd block allocation table of 17179869180 bytes"),
        (BLOCK_SIZE, &[0; 4], Corrupt, "vhd blocks of 0 bytes"),
        (BLOCK_SIZE, &256_u32.to_be_bytes(), Corrupt, "vhd blocks of 256 bytes"),
        (BLOCK_SIZE, &3_000_000_u32.to_be_bytes(), Corrupt, "vhd blocks of 3000000 bytes"),
        (BLOCK_SIZE, &(1_u32 << 20).to_be_bytes(), Corrupt, "table of 4 entries for"),
        (TABLE_OFFSET, &0_u64.to_be_bytes(), Corrupt, "block allocation table at 0"),
        (TABLE_OFFSET, &1024_u64.to_be_bytes(), Corrupt, "block allocation table at 1024"),
        (TABLE_OFFSET, &(1_u64 << 40).to_be_bytes(), Corrupt, "at offset 1099511627776"),
        (TABLE_OFFSET, &[0xff; 8], Corrupt, "vhd block allocation table of 16 bytes"),
    ];
    for &(offset, value, kind, reason) in cases {
        assert_refused(VHD, headed(&dynamic(), offset, value), kind, reason);
    }
    let unsigned = poked(&dynamic(), ENTRIES, &[1]);
    assert_refused(VHD, unsigned, Corrupt, "vhd header with a wrong checksum");
    for (offset, reason) in [
        (0_u64, "vhd header at 0, inside of the footer's copy"),
        (1 << 40, "vhd header of 1024 bytes at offset 1099511627776"),
        (u64::MAX, "vhd header of 1024 bytes"),
        (1024, "no vhd header at 1024"),
    ] {
        let file = footed(&dynamic(), HEADER_OFFSET, &offset.to_be_bytes());
        assert_refused(VHD, file, Corrupt, reason);
    }
}

#[test]
fn refuses_blocks_where_they_cannot_be() {
    let file = dynamic();
    let sectors = (file.len() / 512) as u32;
    let beyond = "reaches beyond the data";
    let over = "lies over the metadata";
    for (sector, reason) in [
        (0, over),
        (1, over),
        (2, over),
        (3, over),
        // Into the last footer.
        (sectors - 4097, beyond),
        (sectors, beyond),
        (u32::MAX - 1, beyond),
    ] {
        let poked = poked(&file, TABLE, &sector.to_be_bytes());
        assert_refused(VHD, poked, ErrorKind::Corrupt, reason);
    }
    let footer = &file[file.len() - FOOTER..];
    let cut = [&file[..file.len() - 2 * FOOTER], footer].concat();
    assert_refused(VHD, cut, ErrorKind::Corrupt, beyond);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_mutated_file_is_read_or_refused(
        footers in proptest::collection::vec((0..100_usize, any::<u8>()), 0..3),
        headers in proptest::collection::vec((HEADER..HEADER + 60, any::<u8>()), 0..3),
        entries in proptest::collection::vec((TABLE..TABLE + 16, any::<u8>()), 0..3),
        is_fixed in any::<bool>(),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut file = if is_fixed { fixed() } else { dynamic() };
        for (place, value) in entries {
            file[place] = value;
        }
        for (place, value) in headers {
            file = headed(&file, place, &[value]);
        }
        for (place, value) in footers {
            file = footed(&file, place, &[value]);
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let _ = refusal(VHD, file);
    }
}
