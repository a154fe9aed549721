//! Layers beside QEMU: what it writes is read alike, and what is made here it accepts.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use calotype_disk::limits::VIRTUAL_SIZE_BYTES_MAX;
use calotype_disk::qcow2::create_layer;
use calotype_disk::raw::Raw;
use calotype_disk::{Disk, ErrorKind, ExtentKind, Layered};

use crate::support::{FileSource, extents, open_layer, path, qemu, raw_of, read_all, run};

const MIB: u64 = 1 << 20;

#[test]
fn an_empty_layer_passes_qemus_check_at_every_size() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "layer.qcow2");
    for size_bytes in [512, 65_536 - 512, MIB, 3 << 30, 1 << 40, VIRTUAL_SIZE_BYTES_MAX] {
        fs::write(&file, create_layer(size_bytes).unwrap()).unwrap();
        qemu("qemu-img", &["check", &file]);
        let info = qemu("qemu-img", &["info", "--output=json", &file]);
        assert!(info.contains(&format!("\"virtual-size\": {size_bytes},")), "{info}");
        assert!(info.contains("\"cluster-size\": 65536"), "{info}");
        assert!(info.contains("\"lazy-refcounts\": false"), "{info}");
        assert!(info.contains("\"extended-l2\": false"), "{info}");
        assert!(!info.contains("backing"), "{info}");
        let disk = open_layer(Path::new(&file)).unwrap();
        assert_eq!(disk.size_bytes(), size_bytes);
        assert_eq!(extents(&disk), [(0, size_bytes, ExtentKind::Parent)]);
    }
}

#[test]
fn refuses_to_make_a_layer_that_qemu_would_not_take() {
    for size_bytes in [0, 511, 513, VIRTUAL_SIZE_BYTES_MAX + 512, u64::MAX] {
        assert_eq!(create_layer(size_bytes).unwrap_err().kind(), ErrorKind::OutOfBounds);
    }
}

#[test]
fn qemu_writes_to_a_layer_made_here_over_an_explicit_node_below() {
    let directory = tempfile::tempdir().unwrap();
    let (below, top) = (path(&directory, "below.raw"), path(&directory, "top.qcow2"));
    let pattern: Vec<u8> = (0..4 * MIB as usize).map(|n| (n / 977) as u8).collect();
    fs::write(&below, pattern).unwrap();
    fs::write(&top, create_layer(8 * MIB).unwrap()).unwrap();

    let options = format!(
        "driver=qcow2,discard=unmap,file.driver=file,file.filename={top},\
         backing.driver=raw,backing.file.driver=file,backing.file.filename={below}"
    );
    let write = |commands: &[&str]| {
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        let arguments: Vec<_> = ["--image-opts", &options].into_iter().chain(commands).collect();
        qemu("qemu-io", &arguments);
    };
    // A piece of a cluster (the rest is copied up), clusters, zeros with and without room, the last.
    write(&[
        "write -P 1 1000k 3k",
        "write -P 2 2M 192k",
        "write -z 3M 128k",
        "write -z -u 3500k 8k",
    ]);
    write(&["write -P 3 6M 64k", "write -z 6M 64k", "discard 2112k 64k", "write -P 4 8388096 512"]);
    qemu("qemu-img", &["check", &top]);

    let raw = Raw::open(Box::new(FileSource(File::open(&below).unwrap()))).unwrap();
    let top = Arc::new(open_layer(Path::new(&top)).unwrap());
    let disk = Layered { top: top.clone(), below: Arc::new(raw) };
    let seen = raw_of(&directory, &["--image-opts", &options]);
    assert!(read_all(&disk) == seen);

    // Whatever is not said to be data must be zero, or what is below.
    let below = fs::read(&below).unwrap();
    for (offset, length, kind) in extents(top.as_ref()) {
        let range = offset as usize..(offset + length) as usize;
        match kind {
            ExtentKind::Data => {}
            ExtentKind::Zero => assert!(seen[range].iter().all(|&byte| byte == 0)),
            ExtentKind::Parent => {
                let end = range.end.min(below.len()).max(range.start.min(below.len()));
                let start = range.start.min(end);
                assert!(seen[range.clone()][..end - start] == below[start..end]);
            }
        }
    }
    let kinds: Vec<_> = extents(top.as_ref()).into_iter().map(|extent| extent.2).collect();
    for kind in [ExtentKind::Data, ExtentKind::Zero, ExtentKind::Parent] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

#[test]
fn reads_every_cluster_size_as_qemu_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "layer.qcow2");
    for cluster_bytes in ["512", "4096", "65536", "2097152"] {
        let options = format!("cluster_size={cluster_bytes}");
        qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, &file, "40000512"]);
        let mut arguments = vec![file.clone()];
        let mut state = 1_u64;
        for pattern in 1..60 {
            state =
                state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            let offset = (state >> 20) % 78_000 * 512;
            let length = ((state >> 50) % 120 + 1) * 512;
            let kind = if pattern % 7 == 0 { "-z".into() } else { format!("-P {pattern}") };
            arguments.extend(["-c".into(), format!("write {kind} {offset} {length}")]);
        }
        qemu("qemu-io", &arguments.iter().map(String::as_str).collect::<Vec<_>>());

        let disk = open_layer(Path::new(&file)).unwrap();
        assert!(read_all(&disk) == raw_of(&directory, &[&file]), "{cluster_bytes}");
        assert!(cluster_bytes == "2097152" || extents(&disk).len() > 10);
    }
}

#[test]
fn ignores_a_recorded_backing_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "layer.qcow2");
    let create = ["create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/hostname"];
    qemu("qemu-img", &[&create[..], &[&file, "1M"]].concat());
    let disk = open_layer(Path::new(&file)).unwrap();
    assert_eq!(extents(&disk), [(0, MIB, ExtentKind::Parent)]);
    assert!(read_all(&disk) == vec![0; MIB as usize]);
}

#[test]
fn reads_a_layer_whose_writer_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "layer.qcow2");
    qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", &file, "4M"]);
    let aborted = run("qemu-io", &["-c", "write -P 9 1M 64k", "-c", "flush", "-c", "abort", &file]);
    assert!(!aborted.status.success());
    // The dirty bit, the lowest of the incompatible features.
    assert_eq!(fs::read(&file).unwrap()[79], 1);
    let disk = open_layer(Path::new(&file)).unwrap();
    let mut bytes = vec![0; 65_536];
    disk.read_at(MIB, &mut bytes).unwrap();
    assert!(bytes == vec![9; 65_536]);
}

#[test]
fn refuses_what_it_cannot_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = path(&directory, "layer.qcow2");
    let data_file = format!("data_file={}", path(&directory, "data"));
    for options in
        ["compat=0.10", "extended_l2=on", &data_file, "compression_type=zstd", "cluster_size=64k"]
    {
        qemu("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &file, "4M"]);
        let opened = open_layer(Path::new(&file)).map(drop).map_err(|error| error.kind());
        let expected = match options {
            "cluster_size=64k" => Ok(()),
            _ => Err(ErrorKind::UnsupportedFeature),
        };
        assert_eq!(opened, expected, "{options}");
    }
    let secret = ["--object", "secret,id=key,data=secret"];
    // The older method: making a LUKS header measures the machine, which some machines cannot.
    let aes = ["-o", "encrypt.format=aes,encrypt.key-secret=key"];
    let create = ["create", "-q", "-f", "qcow2"];
    qemu("qemu-img", &[&create[..], &secret, &aes, &[&file, "4M"]].concat());
    let error = open_layer(Path::new(&file)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
}

#[test]
fn refuses_compressed_clusters_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let (raw, file) = (path(&directory, "disk.raw"), path(&directory, "layer.qcow2"));
    fs::write(&raw, [vec![0; 65_536], vec![5; 65_536]].concat()).unwrap();
    qemu("qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", &raw, &file]);
    let disk = open_layer(Path::new(&file)).unwrap();
    disk.read_at(64_000, &mut [0; 1000]).unwrap();
    let error = disk.read_at(65_000, &mut [0; 1000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
    let error = disk.extent_at(65_536).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFeature);
}
