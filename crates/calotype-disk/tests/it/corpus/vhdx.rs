//! vhdx files from anywhere. The parts that a fuzzer would hardly find in MiB of zeros are put where they
//! belong, with the right checksums.

use calotype_disk::{FormatName, Source};

use super::walked::check_file;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const FILE_BYTES: usize = 6 * MIB;
/// Each part's length in the input, its place in the file, and how many bytes its checksum is over.
const PARTS: [(usize, usize, usize); 5] = [
    (80, 64 * KIB, 4 * KIB),
    (80, 192 * KIB, 64 * KIB),
    // The table of metadata, the metadata, and the block allocation table.
    (192, 2 * MIB, 0),
    (64, 2 * MIB + 64 * KIB, 0),
    (512, 3 * MIB, 0),
];

pub(crate) fn run(data: &[u8]) {
    let mut parts = vec![(0, b"vhdxfile".to_vec())];
    let mut rest = data;
    for (length, place, signed) in PARTS {
        let (part, behind) = rest.split_at(length.min(rest.len()));
        let mut part = part.to_vec();
        if signed > 0 {
            part.resize(signed, 0);
            part[4..8].fill(0);
            let sum = crc32c::crc32c(&part);
            part[4..8].copy_from_slice(&sum.to_le_bytes());
        }
        parts.push((place, part));
        rest = behind;
    }
    check_file(FormatName::Vhdx, Box::new(Placed(parts)));
}

/// Zeros, but for the parts.
struct Placed(Vec<(usize, Vec<u8>)>);

impl Source for Placed {
    fn length_bytes(&self) -> u64 {
        FILE_BYTES as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let offset = offset as usize;
        let end = offset.checked_add(buf.len()).filter(|&end| end <= FILE_BYTES);
        let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        buf.fill(0);
        for (place, part) in &self.0 {
            let (from, to) = ((*place).max(offset), (place + part.len()).min(end));
            if from < to {
                buf[from - offset..to - offset].copy_from_slice(&part[from - place..to - place]);
            }
        }
        Ok(())
    }
}
