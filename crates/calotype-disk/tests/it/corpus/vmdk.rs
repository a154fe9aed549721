//! vmdk files from anywhere.

use calotype_disk::FormatName;

use super::walked::check_file;

pub(crate) fn run(data: &[u8]) {
    check_file(FormatName::Vmdk, Box::new(data.to_vec()));
}
