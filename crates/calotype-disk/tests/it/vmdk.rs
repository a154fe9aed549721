//! vmdk files: those of QEMU are read as QEMU reads them, those that lie are refused.

use std::path::Path;

use calotype_disk::{ErrorKind, FormatName, vmdk};
use proptest::prelude::*;

use crate::spots::{Spots, assert_refused, noise, open_file, poked, refusal, text, written};
use crate::support::{extents, path, qemu, raw_of, read_all};

const MIB: u64 = 1 << 20;
const SECTOR: usize = 512;
const VMDK: FormatName = FormatName::Vmdk;

fn disk() -> Spots {
    Spots::new(40 * MIB, [(0, text(100_000, 3)), (35 * MIB, noise(100_000, 1))])
}

/// Small files of both kinds, whose layout the tests know.
fn stream() -> Vec<u8> {
    let disk = Spots::new(MIB, [(0, text(65_536, 3)), (128 << 10, text(65_536, 4))]);
    written(vmdk::plan_stream(&disk).unwrap().as_ref(), &disk)
}

fn sparse() -> Vec<u8> {
    let disk = Spots::new(MIB, [(0, text(65_536, 3)), (128 << 10, text(65_536, 4))]);
    written(vmdk::plan_sparse(&disk).unwrap().as_ref(), &disk)
}

/// Places in the header.
const VERSION: usize = 4;
const FLAGS: usize = 8;
const CAPACITY: usize = 12;
const GRAIN_SIZE: usize = 20;
const DESCRIPTOR_OFFSET: usize = 28;
const DESCRIPTOR_SIZE: usize = 36;
const ENTRIES: usize = 44;
const DIRECTORY: usize = 56;
const OVERHEAD: usize = 64;
const UNCLEAN: usize = 72;
const NEWLINES: usize = 73;
const COMPRESSION: usize = 77;

fn number(file: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(file[offset..offset + 8].try_into().unwrap())
}

fn short(file: &[u8], offset: usize) -> usize {
    u32::from_le_bytes(file[offset..offset + 4].try_into().unwrap()) as usize
}

/// The file with a change in its descriptor.
fn described(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let descriptor = String::from_utf8(file[SECTOR..21 * SECTOR].to_vec()).unwrap();
    assert!(descriptor.contains(from), "{from}");
    let mut changed = descriptor.trim_end_matches('\0').replace(from, to).into_bytes();
    changed.resize(20 * SECTOR, 0);
    poked(file, SECTOR, &changed)
}

#[test]
fn reads_what_qemu_writes() {
    let directory = tempfile::tempdir().unwrap();
    let raw = path(&directory, "disk.raw");
    let file = path(&directory, "disk.vmdk");
    // Across tables, and with ends that are no grain's.
    for size in [40 * MIB, 40 * MIB + 512, 33 * MIB + 5 * 512, 512] {
        let spots = disk().spots.into_iter().filter(|&(offset, _)| offset + 100_000 < size);
        let end = (size - 512, vec![5; 512]);
        Spots::new(size, spots.chain([end])).write_raw(Path::new(&raw));
        for subformat in ["monolithicSparse", "streamOptimized"] {
            let options = format!("subformat={subformat}");
            qemu("qemu-img", &["convert", "-f", "raw", "-O", "vmdk", "-o", &options, &raw, &file]);
            let read = open_file(VMDK, Path::new(&file));
            let seen = raw_of(&directory, &["-f", "vmdk", &file]);
            assert!(read_all(read.as_ref()) == seen, "{subformat} of {size} bytes");
            extents(read.as_ref());
        }
    }
}

#[test]
fn reads_zero_grains() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "disk.vmdk");
    let options = "subformat=monolithicSparse,zeroed_grain=on";
    qemu("qemu-img", &["create", "-q", "-f", "vmdk", "-o", options, &file, "2M"]);
    let writes = ["-c", "write -P 7 0 1M", "-c", "write -z 128k 256k"];
    qemu("qemu-io", &[&["-f", "vmdk"], &writes[..], &[&file]].concat());
    let read = open_file(VMDK, Path::new(&file));
    assert!(read_all(read.as_ref()) == raw_of(&directory, &["-f", "vmdk", &file]));
    assert_eq!(extents(read.as_ref()).len(), 4);
}

#[test]
fn small_reads_of_compressed_grains_are_those_of_a_whole_one() {
    let disk = Spots::new(MIB, [(0, text(200_000, 3)), (300_001, noise(300_000, 1))]);
    let file = written(vmdk::plan_stream(&disk).unwrap().as_ref(), &disk);
    let (_, read) =
        calotype_disk::open(Box::new(file), Some(VMDK), &crate::spots::NO_LIMITS).unwrap();
    let whole = read_all(read.as_ref());
    for offset in (0..MIB - 700).step_by(4999) {
        let mut piece = [1; 700];
        read.read_at(offset, &mut piece).unwrap();
        assert!(piece == whole[offset as usize..][..700], "at {offset}");
    }
}

#[test]
fn the_files_of_these_tests_are_sound() {
    for file in [stream(), sparse()] {
        assert_eq!(refusal(VMDK, file), None);
    }
}

#[test]
fn refuses_a_descriptor_that_stands_alone() {
    let alone = "vmdk descriptor alone, whose data is in other files";
    let text = stream()[SECTOR..21 * SECTOR].to_vec();
    assert_refused(VMDK, text, ErrorKind::UnsupportedFeature, alone);
    for text in ["\n# x\n\nversion=1\nRW 1 FLAT \"/etc/passwd\" 0\n", "version=2\n"] {
        assert_refused(VMDK, text.into(), ErrorKind::UnsupportedFeature, alone);
    }
    // QEMU's own, of two files.
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "disk.vmdk");
    for subformat in ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let options = format!("subformat={subformat}");
        qemu("qemu-img", &["create", "-q", "-f", "vmdk", "-o", &options, &file, "1M"]);
        let text = std::fs::read(&file).unwrap();
        assert_refused(VMDK, text, ErrorKind::UnsupportedFeature, alone);
    }
    let part = std::fs::read(path(&directory, "disk-s001.vmdk")).unwrap();
    let reason = "vmdk extent without a descriptor, a part of a larger disk";
    assert_refused(VMDK, part, ErrorKind::UnsupportedFeature, reason);
}

#[test]
fn refuses_a_descriptor_that_needs_more_than_this_file() {
    let extent = "RW 2048 SPARSE \"disk.vmdk\"";
    let cases = [
        (extent, "RW 2048 FLAT \"disk.vmdk\" 0", "extent of type \"FLAT\""),
        (extent, "RW 2048 VMFS \"disk.vmdk\"", "extent of type \"VMFS\""),
        (extent, "RW 2048 ZERO", "extent of type \"ZERO\""),
        (extent, "NOACCESS 2048 SPARSE \"disk.vmdk\"", "must not be read"),
        (extent, "RW 2048 SPARSE \"/etc/passwd\"", "path of another file"),
        (extent, "RW 2048 SPARSE \"../disk.vmdk\"", "path of another file"),
        (extent, "RW 2048 SPARSE \"C:\\disk.vmdk\"", "path of another file"),
        (extent, "RW 2048 SPARSE \"a=/b\"", "path of another file"),
        (extent, "", "vmdk of 0 extents"),
        (extent, "RW 2048 SPARSE \"disk.vmdk\"\nRW 2048 SPARSE \"two.vmdk\"", "vmdk of 2 extents"),
        ("parentCID=ffffffff", "parentCID=12345678", "needs a parent"),
        ("parentCID=ffffffff", "PARENTcid = \"0\"", "needs a parent"),
        ("version=1", "parentFileNameHint=\"/etc/passwd\"", "names a parent"),
        ("version=1", "changeTrackPath=\"a-ctk.vmdk\"", "names a file of changes"),
        ("version=1", "encryption.keySafe = \"vmware:key\"", "encrypted vmdk"),
        ("\"streamOptimized\"", "\"monolithicFlat\"", "createType \"monolithicFlat\""),
        ("\"streamOptimized\"", "\"custom\"", "createType \"custom\""),
    ];
    for (from, to, reason) in cases {
        let file = described(&stream(), from, to);
        assert_refused(VMDK, file, ErrorKind::UnsupportedFeature, reason);
    }
}

#[test]
fn refuses_a_descriptor_that_contradicts_itself_or_the_header() {
    let cases = [
        ("RW 2048 SPARSE", "RW 2049 SPARSE", "extent of 2049 sectors with a capacity of 2048"),
        ("RW 2048 SPARSE", "RW 1920 SPARSE", "extent of 1920 sectors with a capacity of 2048"),
        ("RW 2048 SPARSE", "RW -1 SPARSE", "extent without a size"),
        ("RW 2048 SPARSE", "what 2048 SPARSE", "with the line \"what"),
        ("\"streamOptimized\"", "\"monolithicSparse\"", "createType disagrees"),
        ("createType=\"streamOptimized\"", "", "without a createType"),
        ("version=1", "createType=\"streamOptimized\"", "two values of createType"),
    ];
    for (from, to, reason) in cases {
        assert_refused(VMDK, described(&stream(), from, to), ErrorKind::Corrupt, reason);
    }
    let file = described(&sparse(), "\"monolithicSparse\"", "\"streamOptimized\"");
    assert_refused(VMDK, file, ErrorKind::Corrupt, "createType disagrees");
}

#[test]
fn a_capacity_rounded_up_to_a_grain_is_taken_as_qemu_takes_it() {
    let file = described(&stream(), "RW 2048 SPARSE", "RW 1921 SPARSE");
    assert_eq!(refusal(VMDK, file), None);
}

#[test]
fn refuses_a_header_that_cannot_be() {
    use ErrorKind::{Corrupt, InvalidFormat, OutOfBounds, UnsupportedFeature};
    let cases: &[(usize, &[u8], ErrorKind, &str)] = &[
        (0, b"COWD", UnsupportedFeature, "of the kind of ESX"),
        (VERSION, &[0], UnsupportedFeature, "vmdk version 0"),
        (VERSION, &[4], UnsupportedFeature, "vmdk version 4"),
        (FLAGS, &[0x0b], UnsupportedFeature, "vmdk flags 0x8"),
        (FLAGS, &[3, 0, 1], Corrupt, "with compression 0"),
        (FLAGS, &[3, 0, 2], Corrupt, "with compression 0"),
        (COMPRESSION, &[1], Corrupt, "with compression 1"),
        (COMPRESSION, &[2], UnsupportedFeature, "vmdk compression 2"),
        (NEWLINES, b"\n \n\n", Corrupt, "transferred as text"),
        (CAPACITY, &[0; 8], OutOfBounds, "capacity of 0 sectors"),
        (CAPACITY, &[0xff; 8], OutOfBounds, "capacity of 18446744073709551615 sectors"),
        (CAPACITY, &(1_u64 << 37 | 1).to_le_bytes(), OutOfBounds, "capacity of"),
        (GRAIN_SIZE, &[0], InvalidFormat, "grains of 0 sectors"),
        (GRAIN_SIZE, &[129], InvalidFormat, "grains of 129 sectors"),
        (GRAIN_SIZE, &[4], InvalidFormat, "grains of 4 sectors"),
        (GRAIN_SIZE, &(1_u64 << 20).to_le_bytes(), InvalidFormat, "grains of 1048576 sectors"),
        (ENTRIES, &[0; 4], InvalidFormat, "grain tables of 0 entries"),
        (ENTRIES, &[1, 2], InvalidFormat, "grain tables of 513 entries"),
        (DESCRIPTOR_OFFSET, &[0], UnsupportedFeature, "extent without a descriptor"),
        (DESCRIPTOR_SIZE, &[0], UnsupportedFeature, "extent without a descriptor"),
        (DESCRIPTOR_SIZE, &[129], OutOfBounds, "descriptor of 66048 bytes, over 65536"),
        (DESCRIPTOR_OFFSET, &[0, 0, 1], Corrupt, "vmdk descriptor of"),
        (DESCRIPTOR_OFFSET, &[0xff; 8], Corrupt, "descriptor offset of"),
        (DIRECTORY, &[0; 8], Corrupt, "grain directory at offset 0"),
        (DIRECTORY, &[0, 0, 1], Corrupt, "vmdk grain directory of 4 bytes"),
        (DIRECTORY, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Corrupt, "directory offset"),
        (DIRECTORY, &[0xff; 8], Corrupt, "without a footer"),
        (OVERHEAD, &[0, 0, 1], Corrupt, "vmdk metadata of"),
    ];
    for &(offset, value, kind, reason) in cases {
        assert_refused(VMDK, poked(&sparse(), offset, value), kind, reason);
    }
}

#[test]
fn an_unclean_shutdown_is_no_harm_to_a_reader() {
    assert_eq!(refusal(VMDK, poked(&sparse(), UNCLEAN, &[1])), None);
}

#[test]
fn refuses_a_footer_that_is_missing_or_disagrees() {
    let file = stream();
    let footer = file.len() - 2 * SECTOR;
    let disagree = "header and footer that disagree";
    for offset in [VERSION, FLAGS, CAPACITY, GRAIN_SIZE, DESCRIPTOR_SIZE, ENTRIES, COMPRESSION] {
        let changed = poked(&file, footer + offset, &[file[footer + offset] ^ 1]);
        assert_refused(VMDK, changed, ErrorKind::Corrupt, disagree);
    }
    let unmarked = poked(&file, footer - SECTOR + 12, &[2]);
    assert_refused(VMDK, unmarked, ErrorKind::Corrupt, "without a footer");
    let unended = poked(&file, file.len() - SECTOR, &[1]);
    assert_refused(VMDK, unended, ErrorKind::Corrupt, "without the marker of its end");
    let no_header = poked(&file, footer, b"KDMW");
    assert_refused(VMDK, no_header, ErrorKind::Corrupt, "footer that is no header");
    let circular = poked(&file, footer + DIRECTORY, &[0xff; 8]);
    assert_refused(VMDK, circular, ErrorKind::Corrupt, "refers to itself");
    for length in [600, file.len() - 1, file.len() - SECTOR, file.len() / 2] {
        assert!(refusal(VMDK, file[..length].to_vec()).is_some(), "cut at {length}");
    }
}

#[test]
fn refuses_tables_and_grains_where_they_cannot_be() {
    let file = sparse();
    let directory = number(&file, DIRECTORY) as usize * SECTOR;
    let table = short(&file, directory) * SECTOR;
    let far = [0xf0, 0xff, 0xff, 0xff];
    let cases: &[(usize, &[u8], &str)] = &[
        (directory, &far, "vmdk grain table of 2048 bytes"),
        (table, &far, "vmdk grain of 65536 bytes"),
        // The header, the descriptor, and the tables themselves.
        (table, &[1], "vmdk grain 0 inside of the metadata"),
        (table, &[21], "vmdk grain 0 inside of the metadata"),
        (table, &[127], "vmdk grain 0 inside of the metadata"),
    ];
    for &(offset, value, reason) in cases {
        assert_refused(VMDK, poked(&file, offset, value), ErrorKind::Corrupt, reason);
    }
    let cut = file[..file.len() - 1].to_vec();
    assert_refused(VMDK, cut, ErrorKind::Corrupt, "vmdk grain of 65536 bytes");
}

#[test]
fn refuses_compressed_grains_that_are_not_what_was_asked_for() {
    let file = stream();
    let footer = file.len() - 2 * SECTOR;
    let directory = number(&file, footer + DIRECTORY) as usize * SECTOR;
    let table = short(&file, directory) * SECTOR;
    let grain = short(&file, table) * SECTOR;
    let second = file[table + 8..table + 12].to_vec();
    let other_size = (short(&file, grain + 8) as u32 - 9).to_le_bytes();
    let cases: &[(usize, &[u8], &str)] = &[
        (table, &second, "is that of sector 256"),
        (table, &file[directory..directory + 4], "is that of sector"),
        (grain, &[1], "is that of sector 1"),
        (grain + 8, &[0; 4], "grain 0 of 0 compressed bytes"),
        (grain + 8, &[0xff; 4], "grain 0 of 4294967295 compressed bytes"),
        (grain + 8, &other_size, "does not inflate"),
        (grain + 12, &[0], "does not inflate"),
        (grain + 100, &[file[grain + 100] ^ 0x55], "does not inflate"),
    ];
    for &(offset, value, reason) in cases {
        assert_refused(VMDK, poked(&file, offset, value), ErrorKind::Corrupt, reason);
    }
}

#[test]
fn a_grain_that_would_inflate_to_more_than_a_grain_is_refused() {
    // The same stream, of grains half as large: what was one grain is a bomb now.
    let disk = Spots::new(MIB, [(0, vec![7; 65_536])]);
    let mut file = written(vmdk::plan_stream(&disk).unwrap().as_ref(), &disk);
    let footer = file.len() - 2 * SECTOR;
    for header in [0, footer] {
        file = poked(&file, header + GRAIN_SIZE, &[64]);
    }
    assert_refused(VMDK, file, ErrorKind::Corrupt, "does not inflate");
}

#[test]
fn a_huge_disk_in_a_small_file_is_walked_without_its_tables() {
    let mut file = sparse();
    file = described(&file, "RW 2048 SPARSE", &format!("RW {} SPARSE", 1_u64 << 37));
    file = poked(&file, CAPACITY, &(1_u64 << 37).to_le_bytes());
    assert_refused(VMDK, file, ErrorKind::Corrupt, "vmdk grain directory of 8388608 bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mutated_file_is_read_or_refused(
        compressed in any::<bool>(),
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_metadata in any::<bool>(),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut file = if compressed { stream() } else { sparse() };
        for (place, value) in places {
            let range = if in_metadata { 80 } else { file.len() };
            file[place.index(range)] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let _ = refusal(VMDK, file);
    }
}
