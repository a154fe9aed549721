//! qcow2 disks of strangers that lie: one field each, refused for its own reason.

use calotype_disk::qcow2::{Qcow2, create_layer};
use calotype_disk::{Disk, ErrorKind};
use miniz_oxide::deflate::compress_to_vec;
use proptest::prelude::*;

use crate::support::{Counting, put, walk};

const CLUSTER: usize = 65_536;
const REFCOUNT_TABLE: usize = CLUSTER;
const REFCOUNT_BLOCK: usize = 2 * CLUSTER;
const L1: usize = 3 * CLUSTER;
const L2: usize = 4 * CLUSTER;
const DATA: usize = 5 * CLUSTER;
const DEFLATED: usize = 6 * CLUSTER;
const SNAPSHOTS: usize = 7 * CLUSTER;
const SNAPSHOT_L1: usize = 8 * CLUSTER;
const END: usize = 9 * CLUSTER;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

use ErrorKind::{Corrupt, InvalidFormat, OutOfBounds, UnsupportedFeature};

/// A disk of 3 GiB with a cluster of data, one of zeros, one that is compressed, and a snapshot.
fn disk() -> Vec<u8> {
    let mut bytes = create_layer(3 << 30).unwrap();
    bytes.resize(END, 0);
    put(&mut bytes, L1, L2 as u64 | COPIED);
    put(&mut bytes, L2, DATA as u64 | COPIED);
    put(&mut bytes, L2 + 8, 1);
    bytes[DATA..DATA + CLUSTER].fill(7);
    deflate_into(&mut bytes, &vec![9; CLUSTER]);
    snapshot_into(&mut bytes);
    bytes
}

/// Makes the third cluster one that holds `cluster`.
fn deflate_into(bytes: &mut [u8], cluster: &[u8]) {
    let deflated = compress_to_vec(cluster, 6);
    bytes[DEFLATED..DEFLATED + deflated.len()].copy_from_slice(&deflated);
    let more_sectors = deflated.len() as u64 / 512;
    put(bytes, L2 + 16, COMPRESSED | more_sectors << 54 | DEFLATED as u64);
}

fn snapshot_into(bytes: &mut [u8]) {
    bytes[60..64].copy_from_slice(&1_u32.to_be_bytes());
    put(bytes, 64, SNAPSHOTS as u64);
    put(bytes, SNAPSHOTS, SNAPSHOT_L1 as u64);
    bytes[SNAPSHOTS + 8..SNAPSHOTS + 12].copy_from_slice(&6_u32.to_be_bytes());
    bytes[SNAPSHOTS + 12..SNAPSHOTS + 16].copy_from_slice(&[0, 1, 0, 4]);
    bytes[SNAPSHOTS + 36..SNAPSHOTS + 40].copy_from_slice(&16_u32.to_be_bytes());
    bytes[SNAPSHOTS + 56..SNAPSHOTS + 61].copy_from_slice(b"1name");
}

/// Opens and walks a disk; the first failure in full.
fn look(bytes: Vec<u8>) -> Result<u64, (ErrorKind, String)> {
    Qcow2::open(Box::new(bytes))
        .and_then(|disk| walk(&disk))
        .map_err(|error| (error.kind(), error.to_string()))
}

/// The disk with one place overwritten.
fn poked(offset: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = disk();
    bytes[offset..offset + value.len()].copy_from_slice(value);
    bytes
}

#[track_caller]
fn assert_refused(bytes: Vec<u8>, kind: ErrorKind, reason: &str) {
    let (found, text) = look(bytes).expect_err(reason);
    assert!(found == kind && text.contains(reason), "not {kind:?}, {reason:?}: {found:?}, {text}");
}

#[test]
fn the_disk_of_these_tests_is_sound() {
    // Data, zeros, the compressed cluster, the rest of its table, and what has no table.
    assert_eq!(look(disk()), Ok(5));
    let disk = Qcow2::open(Box::new(disk())).unwrap();
    let mut bytes = vec![0; 3 * CLUSTER];
    disk.read_at(0, &mut bytes).unwrap();
    assert!(bytes == [7, 0, 9].map(|byte| vec![byte; CLUSTER]).concat());
}

#[test]
fn refuses_a_header_that_lies() {
    let four = |value: u32| value.to_be_bytes().to_vec();
    let eight = |value: u64| value.to_be_bytes().to_vec();
    let cases = [
        (4, four(1), UnsupportedFeature, "version 1"),
        (4, four(4), UnsupportedFeature, "version 4"),
        (8, eight(1000), UnsupportedFeature, "backing file"),
        (16, four(10), UnsupportedFeature, "backing file"),
        (20, four(8), InvalidFormat, "cluster size 2^8"),
        (20, four(22), InvalidFormat, "cluster size 2^22"),
        (24, eight((64 << 40) + 1), OutOfBounds, "disk of 70368744177665 bytes"),
        (24, eight(1 << 63), OutOfBounds, "disk of 9223372036854775808 bytes"),
        (32, four(1), UnsupportedFeature, "AES"),
        (32, four(2), UnsupportedFeature, "LUKS"),
        (32, four(3), UnsupportedFeature, "crypt_method 3"),
        (36, four(5), Corrupt, "L1 table of 5 entries, not 6"),
        (36, four(u32::MAX), Corrupt, "L1 table of 34359738360 bytes"),
        (40, eight(L1 as u64 + 8), Corrupt, "L1 table at 0x30008"),
        (40, eight(1 << 40), Corrupt, "L1 table at 0x10000000000"),
        (48, eight(1 << 40), Corrupt, "refcount table at 0x10000000000"),
        (48, eight(u64::MAX), Corrupt, "refcount table at 0xffffffffffffffff"),
        (48, eight(REFCOUNT_TABLE as u64 + 512), Corrupt, "refcount table at 0x10200, inside"),
        (56, four(0), Corrupt, "without a refcount table"),
        (56, four(u32::MAX), Corrupt, "refcount table of 281474976645120 bytes"),
        (56, four(2), Corrupt, "refcount table at 0x10000 overlaps the refcount block at 0x20000"),
        (60, four(u32::MAX), Corrupt, "of 4294967295 of the qcow2 snapshot table at 0x70000"),
        (64, eight(END as u64), Corrupt, "entry 0 of 1 of the qcow2 snapshot table"),
        (64, eight(u64::MAX), Corrupt, "entry 0 of 1 of the qcow2 snapshot table"),
        (72, eight(2), Corrupt, "marked corrupt"),
        (72, eight(4), UnsupportedFeature, "external data file"),
        (72, eight(8), Corrupt, "compression_type"),
        (72, eight(16), Corrupt, "L1 table of 6 entries, not 12"),
        (72, eight(32), UnsupportedFeature, "incompatible features 0x20"),
        (72, eight(1 << 63), UnsupportedFeature, "incompatible features 0x8000000000000000"),
        (96, four(7), InvalidFormat, "refcount_order 7"),
        (100, four(96), InvalidFormat, "header length 96"),
        (100, four(u32::MAX), InvalidFormat, "header length 4294967295"),
    ];
    for (offset, value, kind, reason) in cases {
        assert_refused(poked(offset, &value), kind, reason);
    }
}

#[test]
fn refuses_a_compression_that_is_unknown_or_contradicted() {
    let with = |length: u32, kind: u8, features: u64| {
        let mut bytes = poked(100, &length.to_be_bytes());
        bytes[104] = kind;
        put(&mut bytes, 72, features);
        bytes
    };
    assert_eq!(look(with(112, 0, 0)), Ok(5));
    assert_eq!(look(with(104, 1, 0)), Ok(5), "a shorter header does not have the field");
    assert_refused(with(112, 1, 0), Corrupt, "contradicts");
    assert_refused(with(112, 0, 8), Corrupt, "contradicts");
    assert_refused(with(112, 2, 8), UnsupportedFeature, "compression_type 2");
    assert_refused(with(112, 1, 8), Corrupt, "compressed cluster at 0x60000 is damaged");
}

#[test]
fn refuses_subclusters_in_clusters_too_small_for_them() {
    let mut bytes = poked(20, &13_u32.to_be_bytes());
    put(&mut bytes, 72, 16);
    assert_refused(bytes, InvalidFormat, "subclusters in clusters of 2^13");
}

#[test]
fn refuses_metadata_that_overlaps_or_leaves_the_file() {
    let cases = [
        (40, SNAPSHOT_L1, "overlaps the L1 table of a snapshot at 0x80000"),
        (48, SNAPSHOT_L1, "overlaps"),
        (64, L1, "overlaps"),
        (REFCOUNT_TABLE, 0x1_0000, "refcount table at 0x10000 overlaps the refcount block"),
        (REFCOUNT_TABLE, L1, "overlaps"),
        (REFCOUNT_TABLE, L2, "overlaps"),
        (REFCOUNT_TABLE, REFCOUNT_BLOCK + 512, "refcount block at 0x20200, inside a cluster"),
        (REFCOUNT_TABLE, REFCOUNT_BLOCK + 1, "refcount table entry 0x20001"),
        (REFCOUNT_TABLE, END, "refcount block of 65536 bytes at 0x90000"),
        (L1, L1, "L1 table at 0x30000 overlaps the L2 table at 0x30000"),
        (L1, REFCOUNT_BLOCK, "overlaps"),
        (L1, SNAPSHOTS, "overlaps"),
        (L1, END, "L1 entry 0x90000"),
        (L1, L2 + 512, "L1 entry 0x40200"),
        (L1, L2 | 1, "L1 entry 0x40001"),
        (L1, L2 | 1 << 60, "L1 entry"),
        // Two entries that share a table.
        (L1 + 8, L2, "L2 table at 0x40000 overlaps the L2 table at 0x40000"),
        (SNAPSHOTS, L1, "overlaps"),
        (SNAPSHOTS, END, "L1 table of a snapshot of 48 bytes at 0x90000"),
    ];
    for (offset, value, reason) in cases {
        assert_refused(poked(offset, &(value as u64).to_be_bytes()), Corrupt, reason);
    }
}

#[test]
fn refuses_data_in_metadata_or_outside_of_the_file() {
    let cases = [
        (0x1_0000, "lies in the refcount table at 0x10000"),
        (REFCOUNT_BLOCK, "lies in the refcount block"),
        (L1, "lies in the L1 table"),
        (L2, "lies in the L2 table at 0x40000"),
        (SNAPSHOTS, "lies in the snapshot table"),
        (SNAPSHOT_L1, "lies in the L1 table of a snapshot"),
        (END, "data at 0x90000 for offset 0, in a file of 589824 bytes"),
        (DATA + 512, "data at 0x50200"),
        (DATA | 2, "L2 entry 0x50002"),
        (DATA | 1 << 60, "L2 entry"),
    ];
    for (value, reason) in cases {
        assert_refused(poked(L2, &(value as u64).to_be_bytes()), Corrupt, reason);
    }
}

#[test]
fn refuses_zero_clusters_in_version_2() {
    assert_refused(poked(4, &2_u32.to_be_bytes()), Corrupt, "zero cluster in version 2");
}

#[test]
fn refuses_compressed_clusters_that_are_not_whole() {
    let entry = |start: usize, more_sectors: u64| {
        poked(L2 + 16, &(COMPRESSED | more_sectors << 54 | start as u64).to_be_bytes())
    };
    assert_refused(entry(END - 512, 1), Corrupt, "compressed data at 0x8fe00..0x90200");
    assert_refused(entry(END, 0), Corrupt, "compressed data at 0x90000");
    assert_refused(entry(0, 0), Corrupt, "lies in the header");
    assert_refused(entry(L2 - 512, 1), Corrupt, "lies in the L1 table");
    assert_refused(entry(DATA - 100, 0), Corrupt, "lies in the L2 table");
    assert_refused(entry(DATA, 0), Corrupt, "compressed cluster at 0x50000");

    let holding = |cluster: &[u8]| {
        let mut bytes = disk();
        deflate_into(&mut bytes, cluster);
        bytes
    };
    assert_refused(holding(&vec![9; CLUSTER - 1]), Corrupt, "inflates to 65535 bytes, not 65536");
    assert_refused(holding(&vec![9; CLUSTER + 1]), Corrupt, "inflates to more than 65536 bytes");
    assert_refused(holding(&[]), Corrupt, "inflates to 0 bytes");
    let noise: Vec<u8> = (0..CLUSTER as u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let mut bytes = holding(&noise);
    // One sector of many.
    put(&mut bytes, L2 + 16, COMPRESSED | DEFLATED as u64);
    assert_refused(bytes, Corrupt, "compressed cluster at 0x60000 is damaged");
}

#[test]
fn refuses_a_truncated_file() {
    let mut bytes = disk();
    // The snapshot aside, whose tables are the last in the file.
    bytes[60..72].fill(0);
    for (length, kind, reason) in [
        (0, InvalidFormat, "cut short at 0 bytes"),
        (103, InvalidFormat, "cut short at 103 bytes"),
        (CLUSTER, Corrupt, "L1 table at 0x30000"),
        (L1 + 47, Corrupt, "L1 table at 0x30000"),
        (L2 + 100, Corrupt, "L1 entry"),
        (DATA, Corrupt, "data at 0x50000"),
        (DATA + CLUSTER - 1, Corrupt, "data at 0x50000"),
        (DEFLATED, Corrupt, "compressed data at 0x60000"),
        (DEFLATED + 20, Corrupt, "compressed cluster at 0x60000 is damaged"),
    ] {
        assert_refused(bytes[..length].to_vec(), kind, reason);
    }
}

#[test]
fn refuses_subclusters_that_contradict_each_other() {
    let with = |entry: u64, bitmap: u64| {
        let mut bytes = disk();
        put(&mut bytes, 24, 1 << 30);
        put(&mut bytes, 72, 16);
        put(&mut bytes, L2, entry);
        put(&mut bytes, L2 + 8, bitmap);
        put(&mut bytes, L2 + 16, 0);
        bytes
    };
    // One subcluster of data, the rest of its table, and what has no table.
    assert_eq!(look(with(DATA as u64, 1)), Ok(3));
    assert_refused(with(DATA as u64, 1 << 32 | 1), Corrupt, "extended L2 entry");
    assert_refused(with(0, 2), Corrupt, "extended L2 entry");
    assert_refused(with(DATA as u64 | 1, 0), Corrupt, "extended L2 entry");
    assert_refused(with(END as u64, 1 << 31), Corrupt, "data at 0x9f800");
    assert_refused(with(L2 as u64, 1), Corrupt, "lies in the L2 table");
    assert_refused(with(COMPRESSED | DEFLATED as u64, 1), Corrupt, "compressed subclusters");
}

#[test]
fn tables_larger_than_anybody_needs_are_refused_before_they_are_read() {
    let mut bytes = poked(20, &9_u32.to_be_bytes());
    put(&mut bytes, 24, 5 << 30);
    bytes[36..40].copy_from_slice(&u32::MAX.to_be_bytes());
    let source = Counting::new(bytes);
    let error = Qcow2::open(Box::new(source.clone())).err().unwrap();
    assert_eq!(error.kind(), OutOfBounds);
    assert!(error.to_string().contains("over 1048576"), "{error}");
    assert!(source.read_bytes() < 1024);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutated_disk_is_read_or_refused(
        places in proptest::collection::vec(
            prop_oneof![
                0..112_usize,
                REFCOUNT_TABLE..REFCOUNT_TABLE + 16,
                L1..L1 + 48,
                L2..L2 + 64,
                DEFLATED..DEFLATED + 100,
                SNAPSHOTS..SNAPSHOTS + 64,
            ],
            1..4,
        ),
        value in any::<u8>(),
        cut in prop_oneof![4 => Just(None), 1 => (0..END).prop_map(Some)],
    ) {
        let mut bytes = disk();
        for place in places {
            bytes[place] = value;
        }
        if let Some(length) = cut {
            bytes.truncate(length);
        }
        let source = Counting::new(bytes);
        if let Ok(disk) = Qcow2::open(Box::new(source.clone())) {
            prop_assert!(source.read_bytes() <= 2 << 20);
            let _ = walk(&disk);
        }
    }
}
