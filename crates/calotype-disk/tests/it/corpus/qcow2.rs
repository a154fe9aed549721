//! A file from anywhere, as one of our layers and as a stranger's disk: opened, walked and read, the
//! layer alone and over a disk below.

use std::sync::Arc;

use calotype_disk::qcow2::Qcow2;
use calotype_disk::raw::Raw;
use calotype_disk::{Disk, FormatName, Layered};

use super::walked::{check, check_file};

pub(crate) fn run(data: &[u8]) {
    check_file(FormatName::Qcow2, Box::new(data.to_vec()));
    let Ok(layer) = Qcow2::open_layer(Box::new(data.to_vec())) else { return };
    let below = Raw::open(Box::new(vec![0x5a; 10_000])).unwrap();
    let layer: Arc<dyn Disk> = Arc::new(layer);
    let layered = Layered { top: Arc::clone(&layer), below: Arc::new(below) };
    check(&*layer);
    check(&layered);
    assert_eq!(layered.size_bytes(), layer.size_bytes());
}
