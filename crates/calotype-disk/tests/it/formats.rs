//! Telling formats, and refusing what is none.

use calotype_disk::qcow2::create_layer;
use calotype_disk::{ErrorKind, FORMATS, FormatName, OpenLimits, detect, open};

use crate::support::Counting;

const LIMITS: OpenLimits =
    OpenLimits { virtual_size_bytes_max: 1 << 30, file_size_bytes_max: 1 << 20 };

#[test]
fn every_format_has_one_row_and_one_name() {
    let mut names: Vec<_> = FORMATS.iter().map(|format| format.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FORMATS.len());
}

#[test]
fn tells_a_format_from_both_ends_alone() {
    let source = Counting::new(create_layer(1 << 30).unwrap());
    assert_eq!(detect(&source).unwrap(), FormatName::Qcow2);
    assert!(source.read_bytes() <= 8192);
    assert_eq!(detect(&vec![0; 10_000]).unwrap(), FormatName::Raw);
    assert_eq!(detect(&Vec::new()).unwrap(), FormatName::Raw);
    assert_eq!(detect(&b"QFI".to_vec()).unwrap(), FormatName::Raw);
}

#[test]
fn refuses_a_format_that_was_not_declared() {
    for (bytes, declared, found) in [
        (create_layer(1 << 20).unwrap(), FormatName::Raw, "QCOW2"),
        (vec![0; 4096], FormatName::Qcow2, "RAW"),
    ] {
        let error = open(Box::new(bytes), Some(declared), &LIMITS).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidFormat);
        assert_eq!(error.to_string(), format!("declared as {declared}, and is {found}"));
    }
}

#[test]
fn refuses_sizes_over_either_limit() {
    let layer = create_layer((1 << 30) + 512).unwrap();
    let length = layer.len();
    let error = open(Box::new(layer), None, &LIMITS).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::OutOfBounds);
    assert_eq!(
        error.to_string(),
        format!(
            "disk of 1073742336 bytes in a file of {length} bytes; at most 1073741824 and 1048576 \
             are taken"
        )
    );
    let error = open(Box::new(vec![0; (1 << 20) + 1]), None, &LIMITS).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::OutOfBounds);
    assert_eq!(error.to_string(), "file of 1048577 bytes; at most 1048576 are taken");
    assert!(open(Box::new(vec![0; 1 << 20]), None, &LIMITS).is_ok());
    assert!(open(Box::new(create_layer(1 << 30).unwrap()), None, &LIMITS).is_ok());
}

#[test]
fn refuses_encrypted_disks_and_what_is_no_disk() {
    for (offset, mark, reason) in [
        (0, &b"LUKS\xba\xbe\0\x02"[..], "encrypted disk (LUKS)"),
        (3, b"-FVE-FS-", "encrypted disk (BitLocker)"),
        (100_000 - 512, b"GEOM::ELI", "encrypted disk (GELI)"),
        (257, b"ustar\x0000", "tar archive"),
        (0, b"BZh91AY&SY", "bzip2"),
        (0, b"PK\x03\x04", "zip archive"),
        (0, b"<?xml version=\"1.0\"?>", "XML"),
        (100_000 - 512, b"koly", "Apple disk image"),
    ] {
        let mut bytes = vec![0; 100_000];
        bytes[offset..offset + mark.len()].copy_from_slice(mark);
        let error = open(Box::new(bytes), None, &LIMITS).err().expect(reason);
        assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
        assert!(error.to_string().contains(reason), "{error}");
    }
}
