//! The order in which the chunks of a disk were first read when it was booted from, as a small file.
//!
//! It is a hint and nothing else: whoever follows it reads chunks that are verified like all others.
//! A file that is missing, damaged or made up costs time, and a damaged one is replaced by the next boot.
//!
//! ```text
//! "CALOBOOT" | version 1 | count | count chunk numbers | BLAKE3 digest of all before
//!  8 bytes     4 bytes     4       4 each                32
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::id::ManifestId;
use crate::limits::BOOT_ORDER_CHUNKS_MAX;

const MAGIC: &[u8; 8] = b"CALOBOOT";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = blake3::OUT_LEN;
const FILE_BYTES_MAX: usize = 16 + 4 * BOOT_ORDER_CHUNKS_MAX + DIGEST_BYTES;

/// The bytes of a file: the first chunks of `order`, as many as it may hold.
fn encode(order: &[u32]) -> Vec<u8> {
    let order = &order[..order.len().min(BOOT_ORDER_CHUNKS_MAX)];
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((order.len() as u32).to_le_bytes());
    bytes.extend(order.iter().flat_map(|chunk| chunk.to_le_bytes()));
    bytes.extend(blake3::hash(&bytes).as_bytes());
    bytes
}

/// What [`encode`] made, and nothing else.
fn decode(bytes: &[u8]) -> Option<Vec<u32>> {
    let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
    if blake3::hash(content) != *digest {
        return None;
    }
    let content = content.strip_prefix(MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
    let (count, chunks) = content.split_first_chunk()?;
    let (chunks, rest) = chunks.as_chunks();
    let whole = rest.is_empty() && chunks.len() == u32::from_le_bytes(*count) as usize;
    (whole && chunks.len() <= BOOT_ORDER_CHUNKS_MAX)
        .then(|| chunks.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
}

/// A folder of such files, one for each manifest.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes it if it is not there, and removes the files that are not `wanted`.
    pub(crate) fn open(path: &Path, wanted: impl Fn(ManifestId) -> bool) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !id.is_some_and(&wanted) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The order of a disk, if one is known and whole.
    pub(crate) fn read(&self, id: ManifestId) -> Option<Vec<u32>> {
        let mut bytes = Vec::new();
        let file = File::open(self.path.join(id.to_string())).ok()?;
        file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).ok()?;
        let order = decode(&bytes);
        if order.is_none() {
            tracing::warn!(manifest = %id, "a boot order is damaged, and recorded anew");
        }
        order
    }

    /// Replaces the order of a disk; durable, and never seen half.
    pub(crate) fn write(&self, id: ManifestId, order: &[u32]) -> io::Result<()> {
        let (path, fresh) = (self.path.join(id.to_string()), self.path.join("new"));
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&encode(order))?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> ManifestId {
        ManifestId::from_bytes([number; DIGEST_BYTES])
    }

    #[test]
    fn an_order_is_there_after_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("boot-orders");
        let folder = Folder::open(&path, |_| true).unwrap();
        assert_eq!(folder.read(id(1)), None);
        folder.write(id(1), &[5, 0, u32::MAX]).unwrap();
        folder.write(id(2), &[]).unwrap();
        folder.write(id(1), &[7]).unwrap();
        let folder = Folder::open(&path, |_| true).unwrap();
        assert_eq!((folder.read(id(1)), folder.read(id(2))), (Some(vec![7]), Some(Vec::new())));
    }

    #[test]
    fn orders_of_disks_that_are_gone_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path(), |_| true).unwrap();
        folder.write(id(1), &[1]).unwrap();
        folder.write(id(2), &[2]).unwrap();
        fs::write(directory.path().join("new"), "left by a crash").unwrap();
        let folder = Folder::open(directory.path(), |wanted| wanted == id(2)).unwrap();
        assert_eq!((folder.read(id(1)), folder.read(id(2))), (None, Some(vec![2])));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::open(directory.path(), |_| true).unwrap();
        folder.write(id(1), &vec![3; BOOT_ORDER_CHUNKS_MAX + 9]).unwrap();
        assert_eq!(folder.read(id(1)).unwrap().len(), BOOT_ORDER_CHUNKS_MAX);
        // Honest but for its length.
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((BOOT_ORDER_CHUNKS_MAX as u32 + 1).to_le_bytes());
        bytes.extend(vec![0; 4 * BOOT_ORDER_CHUNKS_MAX + 4]);
        bytes.extend(blake3::hash(&bytes).as_bytes());
        fs::write(directory.path().join(id(2).to_string()), bytes).unwrap();
        assert_eq!(folder.read(id(2)), None);
    }

    proptest! {
        #[test]
        fn any_order_survives_and_no_change_does(
            order in prop::collection::vec(any::<u32>(), 0..200),
            place in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut bytes = encode(&order);
            prop_assert_eq!(decode(&bytes), Some(order));
            let place = place.index(bytes.len());
            prop_assert_eq!(decode(&bytes[..place]), None);
            bytes[place] ^= 1_u8 << bit;
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn anything_with_a_digest_is_survived(
            mut bytes in prop::collection::vec(any::<u8>(), 0..100), honest in any::<bool>(),
        ) {
            if honest {
                bytes.splice(..0, [&MAGIC[..], &VERSION.to_le_bytes()].concat());
            }
            bytes.extend(blake3::hash(&bytes).as_bytes());
            if let Some(order) = decode(&bytes) {
                prop_assert_eq!(encode(&order), bytes);
            }
        }
    }
}
