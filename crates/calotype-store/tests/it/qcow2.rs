//! The way of a capture: a layer that QEMU wrote over a stored disk becomes a stored disk.

use std::fs;
use std::path::Path;
use std::process::Command;

use calotype_disk::Source;
use calotype_disk::qcow2::{Qcow2, create_layer};
use calotype_disk::raw::Raw;
use calotype_store::FileSource;

use crate::support::{CHUNK, noise, open, read_all};

fn qemu(tool: &str, arguments: &[&str]) {
    let output = Command::new(tool).args(arguments).output().unwrap_or_else(|error| {
        panic!(
            "{tool}: {error}; this test compares with QEMU's tools, install them with \
             `apt-get install --no-install-recommends qemu-utils`"
        )
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {errors}");
}

fn source(path: &Path) -> Box<dyn Source> {
    Box::new(FileSource::open(path).unwrap())
}

#[test]
fn a_layer_written_by_qemu_is_captured() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (raw, layer, flat) = (path("disk.raw"), path("layer.qcow2"), path("flat.raw"));
    let mut bytes = noise(1, 64 * CHUNK);
    bytes[10 * CHUNK..20 * CHUNK].fill(0);
    fs::write(&raw, &bytes).unwrap();
    let store = open(&path("store"));
    let base = store.commit(&Raw::open(source(&raw)).unwrap(), None, &()).unwrap();

    // A larger disk over a smaller image, as a boot volume may be.
    fs::write(&layer, create_layer(100 * CHUNK as u64).unwrap()).unwrap();
    let options = format!(
        "driver=qcow2,file.driver=file,file.filename={},\
         backing.driver=raw,backing.file.driver=file,backing.file.filename={}",
        layer.display(),
        raw.display()
    );
    let commands =
        ["write -P 1 1000k 3k", "write -P 2 2M 256k", "write -z 3M 128k", "write -P 3 6M 64k"];
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    qemu("qemu-io", &["--image-opts", &options].into_iter().chain(commands).collect::<Vec<_>>());
    let convert = ["convert", "-O", "raw", "--image-opts", &options, flat.to_str().unwrap()];
    qemu("qemu-img", &convert);

    let disk = Qcow2::open_layer(source(&layer)).unwrap();
    let captured = store.commit(&disk, Some(base.manifest), &()).unwrap();
    assert!(captured.bytes_read <= 7 * CHUNK as u64, "{captured:?}");
    assert!(read_all(&store, captured.manifest) == fs::read(&flat).unwrap());

    // The same disk by another way has the same name.
    let flat = store.commit(&Raw::open(source(&flat)).unwrap(), None, &()).unwrap();
    assert_eq!(flat.manifest, captured.manifest);
    assert_eq!(flat.chunks_new, 0);
}
