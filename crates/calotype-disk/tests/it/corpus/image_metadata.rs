//! `image_metadata.json` from anywhere: what is taken is written so that it is taken again.

use calotype_disk::oci_archive::ImageMetadata;

pub(crate) fn run(data: &[u8]) {
    let Ok(metadata) = ImageMetadata::from_json(data) else { return };
    ImageMetadata::from_json(&metadata.to_json().unwrap()).unwrap();
}
