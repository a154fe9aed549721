//! `.oci` archives: what real tools write is read, and anything else in them is refused.

use std::io::Cursor;

use calotype_disk::oci_archive::{ImageMetadata, OciArchive, is_archive};
use calotype_disk::qcow2::create_layer;
use calotype_disk::{ErrorKind, OpenLimits, Packing};
use proptest::prelude::*;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::support::Counting;
use crate::unpacked::pack;

const LIMITS: OpenLimits =
    OpenLimits { virtual_size_bytes_max: 1 << 30, file_size_bytes_max: 8 << 20 };
const DISK: &str = "output.QCOW2";
const METADATA: &str = "image_metadata.json";

use ErrorKind::{Corrupt, InvalidFormat, OutOfBounds};

fn disk() -> Vec<u8> {
    create_layer(7 << 20).unwrap()
}

/// As a real export has it.
fn metadata() -> Value {
    json!({
        "version": 2,
        "externalLaunchOptions": {
            "firmware": "UEFI_64", "networkType": "PARAVIRTUALIZED",
            "bootVolumeType": "PARAVIRTUALIZED", "remoteDataVolumeType": "PARAVIRTUALIZED",
            "localDataVolumeType": "PARAVIRTUALIZED", "launchOptionsSource": "PARAVIRTUALIZED",
            "pvAttachmentVersion": 2, "pvEncryptionInTransitEnabled": true,
            "consistentVolumeNamingEnabled": true
        },
        "imageCapabilityData": "{\"capabilities\":{\"Compute.Firmware\":{\"descriptorType\":\
            \"enumstring\",\"values\":[\"UEFI_64\"],\"defaultValue\":\"UEFI_64\"}}}",
        "imageCapsFormatVersion": "34dd2cea-aff2-4f45-b8f6-1cb5290bfab2",
        "operatingSystem": "Oracle Linux", "operatingSystemVersion": "8",
        "additionalMetadata": {
            "sourcePublicImageId": null,
            "shapeCompatibilities": [
                {"internalShapeName": "VM.Standard2.1", "ocpuConstraints": null,
                 "memoryConstraints": null},
                {"internalShapeName": "VM.Standard.E4.Flex",
                 "ocpuConstraints": {"min": 1, "max": 64},
                 "memoryConstraints": {"minInGBs": 1, "maxInGBs": 1024}}
            ]
        }
    })
}

fn metadata_bytes() -> Vec<u8> {
    serde_json::to_vec(&metadata()).unwrap()
}

/// An archive of these members, all plain files of the POSIX dialect.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in members {
        append(&mut builder, Header::new_ustar(), name, EntryType::Regular, bytes);
    }
    builder.into_inner().unwrap()
}

/// A member whose name is taken as it is, however wrong.
fn append(
    builder: &mut Builder<Vec<u8>>,
    mut header: Header,
    name: &str,
    kind: EntryType,
    bytes: &[u8],
) {
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, Cursor::new(bytes)).unwrap();
}

fn sound() -> Vec<u8> {
    archive(&[(METADATA, &metadata_bytes()), (DISK, &disk())])
}

/// The sound archive with one more member.
fn with(name: &str, kind: EntryType) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, Header::new_gnu(), METADATA, EntryType::Regular, &metadata_bytes());
    append(&mut builder, Header::new_gnu(), name, kind, b"");
    append(&mut builder, Header::new_gnu(), DISK, EntryType::Regular, &disk());
    builder.into_inner().unwrap()
}

#[track_caller]
fn assert_sound(bytes: Vec<u8>) {
    let archive = OciArchive::open(Box::new(bytes), &LIMITS).unwrap();
    assert_eq!(archive.disk.size_bytes(), 7 << 20);
    let options = &archive.metadata.external_launch_options;
    assert_eq!(options.firmware.as_deref(), Some("UEFI_64"));
}

#[track_caller]
fn assert_refused(bytes: Vec<u8>, kind: ErrorKind, reason: &str) {
    let error = OciArchive::open(Box::new(bytes), &LIMITS).err().expect(reason);
    let text = format!("{error}: {:?}", std::error::Error::source(&error));
    assert!(error.kind() == kind && text.contains(reason), "{:?} {text}", error.kind());
}

#[test]
fn reads_members_in_any_order_compressed_or_not() {
    assert_sound(sound());
    let turned = archive(&[(DISK, &disk()), (METADATA, &metadata_bytes())]);
    assert_sound(turned.clone());
    for packing in [Packing::Gzip, Packing::Xz, Packing::Zstd] {
        assert_sound(pack(packing, &sound()));
        assert_sound(pack(packing, &turned));
    }
}

#[test]
fn an_archive_is_told_from_its_start() {
    assert!(is_archive(&sound()).unwrap());
    assert!(is_archive(&with("x", EntryType::Regular)).unwrap());
    assert!(!is_archive(&disk()).unwrap());
    assert!(!is_archive(&Vec::new()).unwrap());
}

#[test]
fn reads_what_the_usual_tools_write() {
    for name in ["output.qcow2", "my image.QcOw2", "./output.qcow2"] {
        assert_sound(archive(&[(METADATA, &metadata_bytes()), (name, &disk())]));
    }
    // `tar -C folder -cf image.oci .`
    assert_sound(with("./", EntryType::Directory));

    // pax: a name and a size that do not fit the header, and times of no interest.
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, Header::new_ustar(), METADATA, EntryType::Regular, &metadata_bytes());
    let size = disk().len().to_string();
    let pax = [("mtime", &b"1.5"[..]), ("path", DISK.as_bytes()), ("size", size.as_bytes())];
    builder.append_pax_extensions(pax).unwrap();
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    let start = builder.get_ref().len();
    builder.append(&header, Cursor::new(&disk()[..])).unwrap();
    assert!(builder.get_ref().len() > start + 512);
    assert_sound(builder.into_inner().unwrap());

    // GNU: a name too long for the header, and a size in binary.
    let long = format!("{}.qcow2", "long".repeat(60));
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, Header::new_gnu(), METADATA, EntryType::Regular, &metadata_bytes());
    let mut header = Header::new_gnu();
    header.as_old_mut().size[..4].copy_from_slice(&[0x80, 0, 0, 0]);
    header.as_old_mut().size[4..].copy_from_slice(&(disk().len() as u64).to_be_bytes());
    header.set_cksum();
    builder.append_data(&mut header, long, Cursor::new(disk())).unwrap();
    assert_sound(builder.into_inner().unwrap());
}

#[test]
fn the_end_of_an_archive_may_be_missing() {
    let bytes = sound();
    let end = 512 + metadata_bytes().len().next_multiple_of(512) + 512 + disk().len();
    assert_sound(bytes[..end].to_vec());
    assert_sound([&bytes[..], &[0; 9000]].concat());
}

#[test]
fn refuses_members_that_are_not_plain_files() {
    for (kind, reason) in [
        (EntryType::Link, "link \"odd\""),
        (EntryType::Symlink, "link \"odd\""),
        (EntryType::Directory, "folder \"odd\""),
        (EntryType::Char, "member \"odd\" of type 0x33"),
        (EntryType::Block, "member \"odd\" of type 0x34"),
        (EntryType::Fifo, "member \"odd\" of type 0x36"),
        (EntryType::GNUSparse, "sparse member \"odd\""),
        (EntryType::GNULongLink, "link \"odd\""),
    ] {
        assert_refused(with("odd", kind), InvalidFormat, reason);
    }
    // A link in the place of the disk.
    let mut builder = Builder::new(Vec::new());
    append(&mut builder, Header::new_ustar(), METADATA, EntryType::Regular, &metadata_bytes());
    append(&mut builder, Header::new_ustar(), DISK, EntryType::Symlink, b"");
    assert_refused(builder.into_inner().unwrap(), InvalidFormat, "link \"output.QCOW2\"");
}

#[test]
fn refuses_names_that_lead_elsewhere() {
    for (name, reason) in [
        ("/etc/image.qcow2", "with an absolute name"),
        ("//image.qcow2", "with an absolute name"),
        ("../image.qcow2", "leads outside"),
        ("a/../../image.qcow2", "leads outside"),
        ("..", "leads outside"),
        ("a/image.qcow2", "in a folder"),
        ("./a/image_metadata.json", "in a folder"),
    ] {
        assert_refused(with(name, EntryType::Regular), InvalidFormat, reason);
    }
}

#[test]
fn refuses_members_that_are_too_many_or_too_few() {
    let (metadata, disk) = (metadata_bytes(), disk());
    let (metadata, disk) = ((METADATA, &metadata[..]), (DISK, &disk[..]));
    for (members, reason) in [
        (&[metadata, disk, metadata][..], "two members image_metadata.json"),
        (&[metadata, disk, ("other.qcow2", disk.1)], "a second disk \"other.qcow2\""),
        (&[metadata, disk, ("README", b"hello")], "unexpected member \"README\""),
        (&[metadata, ("disk.vmdk", disk.1)], "unexpected member \"disk.vmdk\""),
        (&[metadata, (".qcow2", disk.1)], "unexpected member \".qcow2\""),
        (&[metadata], "no disk named *.qcow2"),
        (&[disk], "no image_metadata.json"),
        (&[], "no image_metadata.json"),
    ] {
        assert_refused(archive(members), InvalidFormat, reason);
    }
}

#[test]
fn refuses_sizes_that_leave_the_archive_or_are_too_large() {
    let disk_header = 512 + metadata_bytes().len().next_multiple_of(512);
    let sized = |size: &[u8]| {
        let mut bytes = sound();
        let mut header = Header::from_byte_slice(&bytes[disk_header..disk_header + 512]).clone();
        header.as_old_mut().size[..size.len()].copy_from_slice(size);
        header.set_cksum();
        bytes[disk_header..disk_header + 512].copy_from_slice(header.as_bytes());
        bytes
    };
    assert_refused(sized(b"77777777777"), Corrupt, "member of 8589934591 bytes");
    let huge = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_refused(sized(&huge), Corrupt, "member of 18446744073709551615 bytes");
    assert_refused(sized(&[0xff; 12]), Corrupt, "no member's header");
    assert_refused(sized(b"9"), Corrupt, "no member's header");

    let large = vec![b' '; (1 << 20) + 1];
    let bytes = archive(&[(METADATA, &large), (DISK, &disk())]);
    assert_refused(bytes, OutOfBounds, "image_metadata.json of 1048577 bytes, over 1048576");
    let path = "a".repeat(70_000);
    let mut builder = Builder::new(Vec::new());
    builder.append_pax_extensions([("path", path.as_bytes())]).unwrap();
    assert_refused(builder.into_inner().unwrap(), OutOfBounds, "extended header of");
    let mut builder = Builder::new(Vec::new());
    for _ in 0..20 {
        builder.append_pax_extensions([("mtime", &b"1"[..])]).unwrap();
    }
    assert_refused(builder.into_inner().unwrap(), OutOfBounds, "more headers");
}

#[test]
fn refuses_headers_that_are_none() {
    for (place, reason) in [(0, "no member's header at 0"), (150, "no member's header at 0")] {
        let mut bytes = sound();
        bytes[place] ^= 1;
        assert_refused(bytes, Corrupt, reason);
    }
    assert_refused(sound()[..700].to_vec(), Corrupt, "member of");
    assert_refused(sound()[..sound().len() - 1024 - 100].to_vec(), Corrupt, "member of");
    assert_refused(disk(), InvalidFormat, "no .oci archive, but QCOW2");
    assert_refused(vec![1; 10_000], Corrupt, "no member's header at 0");
}

#[test]
fn refuses_pax_headers_that_lie() {
    let pax = |kind: EntryType, record: &[u8]| {
        let mut builder = Builder::new(Vec::new());
        append(&mut builder, Header::new_ustar(), "pax", kind, record);
        builder.into_inner().unwrap()
    };
    let next = EntryType::XHeader;
    for record in [&b"0 a=b\n"[..], b"99 a=b\n", b"6 a=b\n6 a=bX", b"a=b\n", b"6 a.b\n", b"2 "] {
        assert_refused(pax(next, record), Corrupt, "pax header");
    }
    assert_refused(pax(next, b"10 size=x\n"), Corrupt, "size in the pax header");
    assert_refused(pax(next, b"22 GNU.sparse.major=1\n"), InvalidFormat, "sparse");
    let all = EntryType::XGlobalHeader;
    assert_refused(pax(all, b"10 size=5\n"), InvalidFormat, "for all members");
    assert_refused(pax(all, b"10 path=a\n"), InvalidFormat, "for all members");
}

#[test]
fn refuses_a_disk_that_is_not_what_its_name_says() {
    let packed = pack(Packing::Gzip, &disk());
    for (bytes, reason) in [
        (&vec![0; 4096], "declared as QCOW2, and is RAW"),
        (&packed, "gzip data where a disk is expected"),
    ] {
        let bytes = archive(&[(METADATA, &metadata_bytes()), (DISK, bytes)]);
        assert_refused(bytes, InvalidFormat, reason);
    }
    let large = create_layer(2 << 30).unwrap();
    let bytes = archive(&[(METADATA, &metadata_bytes()), (DISK, &large)]);
    assert_refused(bytes, OutOfBounds, "disk of 2147483648 bytes");
}

#[test]
fn the_data_of_the_disk_is_not_read() {
    let mut layer = disk();
    layer.resize(4 << 20, 7);
    let source = Counting::new(archive(&[(DISK, &layer), (METADATA, &metadata_bytes())]));
    OciArchive::open(Box::new(source.clone()), &LIMITS).unwrap();
    assert!(source.read_bytes() < 50_000, "{}", source.read_bytes());
}

#[test]
fn metadata_is_written_as_it_was_read() {
    let read = ImageMetadata::from_json(&metadata_bytes()).unwrap();
    let written: Value = serde_json::from_slice(&read.to_json().unwrap()).unwrap();
    assert_eq!(written, metadata());

    let mut changed = metadata();
    changed["imageCapabilityData"] = Value::Null;
    changed["additionalMetadata"]["sourcePublicImageId"] = json!("ocid1.image.oc1..a");
    let read = ImageMetadata::from_json(changed.to_string().as_bytes()).unwrap();
    assert_eq!(read.image_capability_data, None);
    assert_eq!(serde_json::from_slice::<Value>(&read.to_json().unwrap()).unwrap(), changed);
}

#[test]
fn metadata_of_other_tools_is_read() {
    let mut other = metadata();
    // Older tools wrote an object, and constraints by other names; newer ones know more fields.
    let text = other["imageCapabilityData"].as_str().unwrap().to_owned();
    other["imageCapabilityData"] = serde_json::from_str(&text).unwrap();
    other["additionalMetadata"]["shapeCompatibilities"][1]["memoryConstraints"] =
        json!({"min": 1, "max": 1024});
    other["future"] = json!({"a": [1, 2]});
    other["externalLaunchOptions"]["future"] = json!(true);
    let expected = ImageMetadata::from_json(&metadata_bytes()).unwrap();
    assert_eq!(ImageMetadata::from_json(other.to_string().as_bytes()).unwrap(), expected);

    let least = json!({"version": 2, "externalLaunchOptions": {}});
    let read = ImageMetadata::from_json(least.to_string().as_bytes()).unwrap();
    assert_eq!(read.external_launch_options.firmware, None);
    assert_eq!(read.additional_metadata.shape_compatibilities, []);
}

#[test]
fn malformed_metadata_is_refused_with_its_field() {
    let shape = "/additionalMetadata/shapeCompatibilities/1";
    let cases = [
        ("/version", json!("1.0"), "field version"),
        ("/version", json!(3), "field version of image_metadata.json is 3, not 2"),
        ("/externalLaunchOptions", json!("BIOS"), "field externalLaunchOptions"),
        ("/externalLaunchOptions", Value::Null, "field externalLaunchOptions"),
        ("/externalLaunchOptions/firmware", json!(1), "field externalLaunchOptions.firmware"),
        (
            "/externalLaunchOptions/pvAttachmentVersion",
            json!("2"),
            "field externalLaunchOptions.pvAttachmentVersion",
        ),
        ("/imageCapabilityData", json!("{"), "field imageCapabilityData"),
        ("/imageCapabilityData", json!(7), "field imageCapabilityData"),
        (shape, json!({}), "field additionalMetadata.shapeCompatibilities[1]"),
    ];
    for (pointer, value, reason) in cases {
        let mut changed = metadata();
        *changed.pointer_mut(pointer).unwrap() = value;
        let bytes = archive(&[(METADATA, changed.to_string().as_bytes()), (DISK, &disk())]);
        assert_refused(bytes, InvalidFormat, reason);
    }
    for text in ["", "{", "[]", "null", "{\"version\":2}", "\u{feff}{}"] {
        let bytes = archive(&[(METADATA, text.as_bytes()), (DISK, &disk())]);
        assert_refused(bytes, InvalidFormat, "of image_metadata.json");
    }
    let twice = format!("{}{}", metadata(), metadata());
    let bytes = archive(&[(METADATA, twice.as_bytes()), (DISK, &disk())]);
    assert_refused(bytes, InvalidFormat, "the end of image_metadata.json");
    let deep = "[".repeat(100_000);
    let bytes = archive(&[(METADATA, deep.as_bytes()), (DISK, &disk())]);
    assert_refused(bytes, InvalidFormat, "of image_metadata.json");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mutated_archive_is_read_or_refused(
        places in proptest::collection::vec(0..4096_usize, 1..4),
        value in any::<u8>(),
        cut in prop_oneof![4 => Just(None), 1 => (0..300_000_usize).prop_map(Some)],
    ) {
        let mut bytes = sound();
        for place in places {
            bytes[place] = value;
        }
        if let Some(length) = cut {
            bytes.truncate(length);
        }
        let _ = OciArchive::open(Box::new(bytes), &LIMITS);
    }
}
