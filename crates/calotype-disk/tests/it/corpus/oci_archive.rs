//! Archives from anywhere, as they are and with the checksums of their headers made right.

use calotype_disk::OpenLimits;
use calotype_disk::oci_archive::{ImageMetadata, OciArchive};

const LIMITS: OpenLimits =
    OpenLimits { virtual_size_bytes_max: 1 << 30, file_size_bytes_max: 1 << 20 };
const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

pub(crate) fn run(data: &[u8]) {
    open(data.to_vec());
    open(summed(data));
}

fn open(bytes: Vec<u8>) {
    let Ok(archive) = OciArchive::open(Box::new(bytes), &LIMITS) else { return };
    let size_bytes = archive.disk.size_bytes();
    assert!(size_bytes <= LIMITS.virtual_size_bytes_max);
    if size_bytes > 0
        && let Ok(extent) = archive.disk.extent_at(0)
    {
        let mut bytes = vec![0; extent.length_bytes.min(5000) as usize];
        let _ = archive.disk.read_at(0, &mut bytes);
    }
    ImageMetadata::from_json(&archive.metadata.to_json().unwrap()).unwrap();
}

/// With the right checksum in every block that says it is a header.
fn summed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..].starts_with(b"ustar")) {
        block[CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}
