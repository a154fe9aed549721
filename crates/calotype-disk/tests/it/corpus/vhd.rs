//! vhd files from anywhere, as they are and with their checksums made right.

use calotype_disk::FormatName;

use super::walked::check_file;

const FOOTER: usize = 512;
const HEADER: usize = 1024;

pub(crate) fn run(data: &[u8]) {
    check_file(FormatName::Vhd, Box::new(data.to_vec()));
    check_file(FormatName::Vhd, Box::new(signed(data)));
}

/// With the right checksums in the last footer and in the header behind the first, whose copy it gets.
fn signed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let Some(end) = bytes.len().checked_sub(FOOTER) else { return bytes };
    sign(&mut bytes[end..], 64);
    if end >= FOOTER + HEADER && bytes.starts_with(b"conectix") {
        sign(&mut bytes[FOOTER..FOOTER + HEADER], 36);
        bytes.copy_within(end.., 0);
    }
    bytes
}

/// The ones' complement of the sum of all bytes, at `place`.
fn sign(part: &mut [u8], place: usize) {
    part[place..place + 4].fill(0);
    let sum = part.iter().fold(0_u32, |sum, &byte| sum.wrapping_add(byte.into()));
    part[place..place + 4].copy_from_slice(&(!sum).to_be_bytes());
}
