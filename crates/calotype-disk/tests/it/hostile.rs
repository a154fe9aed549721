//! Layers that lie: no panic, no endless walk, no memory for what is not there.

use calotype_disk::qcow2::{Qcow2, create_layer};
use calotype_disk::{Disk, ErrorKind};
use proptest::prelude::*;

use crate::support::{self, put};

const CLUSTER: usize = 65_536;
const L1: usize = 3 * CLUSTER;
const L2: usize = 4 * CLUSTER;
const DATA: usize = 5 * CLUSTER;
const COPIED: u64 = 1 << 63;

/// A small layer with one data cluster, one zero cluster and the rest unallocated.
fn layer() -> Vec<u8> {
    let mut bytes = create_layer(3 << 30).unwrap();
    bytes.resize(DATA + CLUSTER, 0);
    bytes[DATA..].fill(7);
    put(&mut bytes, L1, L2 as u64 | COPIED);
    put(&mut bytes, L2, DATA as u64 | COPIED);
    put(&mut bytes, L2 + 8, 1);
    bytes
}

/// Opens and walks a layer; the kind of the first failure.
fn walk(bytes: Vec<u8>) -> Result<u64, ErrorKind> {
    Qcow2::open_layer(Box::new(bytes))
        .and_then(|disk| support::walk(&disk))
        .map_err(|error| error.kind())
}

#[test]
fn the_layer_of_these_tests_is_sound() {
    assert_eq!(walk(layer()), Ok(4));
}

#[test]
fn refuses_a_truncated_header() {
    for length in [0, 4, 71, 103] {
        assert_eq!(walk(layer()[..length].to_vec()), Err(ErrorKind::InvalidFormat));
    }
}

#[test]
fn refuses_a_header_that_cannot_be() {
    // Offset in the header, value of four or eight bytes, what it gets.
    let cases: &[(usize, &[u8], ErrorKind)] = &[
        (0, b"QFI\xfa", ErrorKind::InvalidFormat),
        (4, &2_u32.to_be_bytes(), ErrorKind::UnsupportedFeature),
        (20, &8_u32.to_be_bytes(), ErrorKind::InvalidFormat),
        (20, &22_u32.to_be_bytes(), ErrorKind::InvalidFormat),
        (20, &u32::MAX.to_be_bytes(), ErrorKind::InvalidFormat),
        (24, &u64::MAX.to_be_bytes(), ErrorKind::OutOfBounds),
        (24, &((64_u64 << 40) + 1).to_be_bytes(), ErrorKind::OutOfBounds),
        (32, &1_u32.to_be_bytes(), ErrorKind::UnsupportedFeature),
        (32, &2_u32.to_be_bytes(), ErrorKind::UnsupportedFeature),
        (36, &5_u32.to_be_bytes(), ErrorKind::Corrupt),
        (40, &(L1 as u64 + 8).to_be_bytes(), ErrorKind::Corrupt),
        (40, &(1_u64 << 40).to_be_bytes(), ErrorKind::Corrupt),
        (40, &(u64::MAX - 0xffff).to_be_bytes(), ErrorKind::Corrupt),
        (72, &2_u64.to_be_bytes(), ErrorKind::Corrupt),
        (72, &4_u64.to_be_bytes(), ErrorKind::UnsupportedFeature),
        (72, &(1_u64 << 63).to_be_bytes(), ErrorKind::UnsupportedFeature),
        (100, &96_u32.to_be_bytes(), ErrorKind::InvalidFormat),
        (100, &u32::MAX.to_be_bytes(), ErrorKind::InvalidFormat),
    ];
    for &(offset, value, kind) in cases {
        let mut bytes = layer();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        assert_eq!(walk(bytes), Err(kind), "offset {offset}, value {value:x?}");
    }
}

#[test]
fn a_huge_disk_of_small_clusters_is_refused_before_memory_is_taken() {
    let mut bytes = layer();
    bytes[20..24].copy_from_slice(&9_u32.to_be_bytes());
    put(&mut bytes, 24, 64 << 40);
    bytes[36..40].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(walk(bytes), Err(ErrorKind::OutOfBounds));
}

#[test]
fn refuses_tables_and_data_outside_of_the_file() {
    for (offset, value) in [
        (L1, 1 << 40),
        (L1, L2 as u64 + 512),
        (L1, (DATA + CLUSTER) as u64),
        (L1, L2 as u64 | 1 << 60),
        (L1 + 8, 0x00ff_ffff_ffff_0000),
        (L2, (DATA + CLUSTER) as u64),
        (L2, DATA as u64 + 512),
        (L2, DATA as u64 | 2),
        (L2, 0x00ff_ffff_ffff_0000),
        (L2 + 8191 * 8, 1 << 56),
    ] {
        let mut bytes = layer();
        put(&mut bytes, offset, value);
        assert_eq!(walk(bytes), Err(ErrorKind::Corrupt), "offset {offset:#x}, value {value:#x}");
    }
}

#[test]
fn a_last_cluster_cut_short_reads_as_zeros_beyond() {
    let mut bytes = layer();
    bytes.truncate(DATA + 1000);
    let disk = Qcow2::open_layer(Box::new(bytes)).unwrap();
    let mut buf = vec![1; CLUSTER];
    disk.read_at(0, &mut buf).unwrap();
    assert!(buf[..1000].iter().all(|&byte| byte == 7));
    assert!(buf[1000..].iter().all(|&byte| byte == 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutated_layer_is_read_or_refused(
        places in proptest::collection::vec(
            prop_oneof![0..112_usize, L1..L1 + 48, L2..L2 + 64, L2 + 65_500..L2 + 65_536],
            1..4,
        ),
        value in any::<u8>(),
        cut in prop_oneof![4 => Just(None), 1 => (0..DATA + CLUSTER).prop_map(Some)],
    ) {
        let mut bytes = layer();
        for place in places {
            bytes[place] = value;
        }
        if let Some(length) = cut {
            bytes.truncate(length);
        }
        let _ = walk(bytes);
    }

    #[test]
    fn noise_behind_a_header_is_read_or_refused(
        noise in proptest::collection::vec(any::<u8>(), 0..2000),
        cluster_bits in 9..12_u32,
    ) {
        let mut bytes = layer();
        bytes[20..24].copy_from_slice(&cluster_bits.to_be_bytes());
        put(&mut bytes, 24, 1 << 20);
        put(&mut bytes, 40, 1 << cluster_bits);
        bytes[1 << cluster_bits..][..noise.len()].copy_from_slice(&noise);
        let _ = walk(bytes);
    }
}
