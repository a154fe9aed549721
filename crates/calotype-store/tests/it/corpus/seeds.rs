//! What the fuzzer starts from: directories that the store itself wrote, whole and damaged.

use std::fs;
use std::path::Path;

use calotype_disk::{Disk, Extent, ExtentKind, Result};
use calotype_store::Store;

use super::store::{CHECKSUM, RENAME, ROOT_HEAD_BYTES, run};
use crate::support::CHUNK;

/// A disk of any size with text in some of its chunks.
struct Sparse {
    size_bytes: u64,
    chunks: Vec<u64>,
}

impl Sparse {
    fn text(chunk: u64) -> Vec<u8> {
        format!("chunk {chunk} of a disk\n").bytes().cycle().take(CHUNK).collect()
    }
}

impl Disk for Sparse {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (chunk, start) = (offset / CHUNK as u64, offset as usize % CHUNK);
        let text = Self::text(chunk);
        // A run of this disk is a chunk.
        buf.copy_from_slice(&text[start..start + buf.len()]);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let chunk = offset / CHUNK as u64;
        let is_data = self.chunks.contains(&chunk);
        let next = if is_data { Some(chunk + 1) } else { None };
        let next = next.or_else(|| self.chunks.iter().copied().find(|&next| next > chunk));
        let end = next.map_or(self.size_bytes, |next| (next * CHUNK as u64).min(self.size_bytes));
        let kind = if is_data { ExtentKind::Data } else { ExtentKind::Zero };
        Ok(Extent { length_bytes: end - offset, kind })
    }
}

/// The input that stands for the store of this disk.
fn input(flags: u8, disk: &Sparse) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let id = store.commit(disk, None, &()).unwrap().manifest;
    let root = fs::read(directory.path().join(format!("manifests/{id}"))).unwrap();
    let mut packs = fs::read_dir(directory.path().join("packs")).unwrap();
    let pack = fs::read(packs.next().unwrap().unwrap().path()).unwrap();
    [&[flags], &root[..ROOT_HEAD_BYTES], &pack].concat()
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let chunk = CHUNK as u64;
    let small = Sparse { size_bytes: 5 * chunk - 100, chunks: vec![0, 1, 4] };
    let two_levels = Sparse { size_bytes: 300 * chunk, chunks: vec![0, 255, 256, 299] };
    let three_levels = Sparse { size_bytes: (5 << 30) + 7, chunks: vec![0, 1 << 16] };
    let four_levels = Sparse { size_bytes: 2 << 40, chunks: vec![9, 1 << 24] };
    // A node full of names does not compress: its names can be changed in place.
    let raw_node = Sparse { size_bytes: 256 * chunk + 1, chunks: (0..256).collect() };
    let all = RENAME | CHECKSUM;
    let mut damaged = input(RENAME, &small);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    vec![
        ("small", input(all, &small)),
        ("small_as_it_is", input(0, &small)),
        ("small_without_footer", damaged),
        ("two_levels", input(all, &two_levels)),
        ("three_levels", input(all, &three_levels)),
        ("four_levels", input(all, &four_levels)),
        ("raw_node", input(all, &raw_node)),
    ]
}

#[test]
#[ignore = "writes the seeds anew"]
fn write_the_seeds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/store");
    fs::create_dir_all(&corpus).unwrap();
    for (name, input) in seeds() {
        run(&input);
        fs::write(corpus.join(name), input).unwrap();
    }
}
