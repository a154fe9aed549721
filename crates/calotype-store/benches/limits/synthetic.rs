//! Target 11 at a size that no corpus has: a store of ten million chunks whose manifests and footers are real,
//! and whose data is a hole in the file, which nobody reads.
//!
//! It is written by this file from `docs/store-format.md` alone. The index is built from it by opening it; then
//! one image of a hundred dies.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use crate::Bench;
use crate::measure::{Sample, ours};
use crate::table::{Figure, Goal, Row, Table};

const CHUNK_BYTES: u64 = 65_536;
const FANOUT: usize = 256;
const ENTRY_BYTES: u32 = 64;
const RECORD_BYTES: usize = 64;
/// Of all chunks of data together: enough that no pack counts as small.
const PAYLOADS_BYTES: u64 = 4_000_000_000;
const IMAGES: u64 = 100;
const PACKS_OF_IMAGE: u64 = 2;
const MIB: f64 = 1_048_576.0;
const MEMORY_MIB_MAX: f64 = 2048.0;

type Name = [u8; 32];

pub(crate) fn run(bench: &Bench, table: &mut Table) {
    let chunks: u64 = if bench.quick { 1_000_000 } else { 10_000_000 };
    let store = bench.path("synthetic");
    make(&store, chunks);
    let text = store.to_str().unwrap();
    let (built, _) = ours(&["init", text]);
    let (opened, _) = ours(&["init", text]);
    let (idle, nothing) = ours(&["collect", text, "0"]);
    let (busy, died) = ours(&["collect", text, "1"]);
    assert_eq!((&nothing["chunks_removed"], &died["manifests_removed"]), (&0.into(), &1.into()));
    fs::remove_dir_all(&store).unwrap();

    let millions = chunks / 1_000_000;
    let memory = |work: &str, sample: Sample| {
        let figure = Figure::values(vec![sample.peak_bytes as f64 / MIB], "MiB");
        let name = format!("{work}, {millions} million chunks");
        let took =
            format!("{:.1} s, cpu {:.1} s", sample.wall.as_secs_f64(), sample.cpu.as_secs_f64());
        Row::alone(11, &name, figure, Some(Goal::AtMost(MEMORY_MIB_MAX))).note(took)
    };
    table.push(memory("index built anew: memory", built));
    table.push(memory("index opened: memory", opened));
    table.push(memory("collection, nothing dead: memory", idle));
    let seconds = |value: &serde_json::Value| {
        Figure::times(&[Duration::from_secs_f64(value["seconds"].as_f64().unwrap())]).median / 1e3
    };
    let note = format!(
        "{:.2} s beside {:.2} s with nothing dead; {} chunks removed, {} packs deleted, {} moved",
        seconds(&died),
        seconds(&nothing),
        died["chunks_removed"],
        died["packs_deleted"],
        died["packs_rewritten"],
    );
    table.push(memory("collection, 1 % dead: memory", busy).note(note));
}

fn make(store: &Path, chunks: u64) {
    for folder in ["packs", "manifests"] {
        fs::create_dir_all(store.join(folder)).unwrap();
    }
    fs::write(store.join("format"), "calotype-store 2\n").unwrap();
    for image in 0..IMAGES {
        make_image(store, image, chunks / IMAGES);
    }
}

/// An image with packs of its own. Its disk is large enough for a tree of three levels.
fn make_image(store: &Path, image: u64, chunks: u64) {
    let count = (4 << 30) / CHUNK_BYTES + chunks;
    let name = |number: u64| {
        *blake3::hash(&[image.to_le_bytes(), number.to_le_bytes()].concat()).as_bytes()
    };
    let payload_bytes = (PAYLOADS_BYTES / IMAGES / chunks) as u32;
    let mut pack = Pack::create(store, image * PACKS_OF_IMAGE, payload_bytes);
    let mut level: Vec<Name> = Vec::new();
    for leaf in 0..chunks.div_ceil(FANOUT as u64) {
        let first = leaf * FANOUT as u64;
        let names: Vec<Name> = (first..chunks.min(first + FANOUT as u64)).map(name).collect();
        pack.data.extend_from_slice(&names);
        level.push(pack.node(&names));
        if first * PACKS_OF_IMAGE / chunks != pack.number % PACKS_OF_IMAGE {
            let next = pack.number + 1;
            std::mem::replace(&mut pack, Pack::create(store, next, payload_bytes)).finish();
        }
    }
    let above: Vec<Name> = level.chunks(FANOUT).map(|names| pack.node(names)).collect();
    pack.finish();

    let mut root = b"CALOROOT".to_vec();
    root.extend_from_slice(&1_u32.to_le_bytes());
    root.extend_from_slice(&[3, 16, 8, 0]);
    root.extend_from_slice(&(count * CHUNK_BYTES).to_le_bytes());
    root.extend_from_slice(&[0; 8]);
    root.extend_from_slice(above.as_flattened());
    root.resize(32 + FANOUT * 32, 0);
    fs::write(store.join(format!("manifests/{}", blake3::hash(&root).to_hex())), root).unwrap();
}

struct Pack {
    number: u64,
    file: BufWriter<File>,
    length: u32,
    records: Vec<u8>,
    /// The chunks of data, which come after the nodes.
    data: Vec<Name>,
    /// Of each of those.
    payload_bytes: u32,
}

impl Pack {
    fn create(store: &Path, number: u64, payload_bytes: u32) -> Self {
        let path = store.join(format!("packs/{:032x}.pack", number + 1));
        let mut pack = Self {
            number,
            file: BufWriter::with_capacity(1 << 20, File::create(path).unwrap()),
            length: 0,
            records: Vec::new(),
            data: Vec::new(),
            payload_bytes,
        };
        pack.write(b"CALOPACK");
        pack.write(&2_u32.to_le_bytes());
        pack.write(&[0; 4]);
        pack
    }

    fn write(&mut self, bytes: &[u8]) {
        self.file.write_all(bytes).unwrap();
        self.length += bytes.len() as u32;
    }

    fn record(&mut self, name: &Name, offset: u32, stored: u32, plain: u32, codec: u8) {
        self.records.extend_from_slice(name);
        let numbers = [offset, stored, plain, codec.into()].map(u32::to_le_bytes);
        self.records.extend_from_slice(numbers.as_flattened());
        // The checksum of a raw payload is the first half of its name.
        self.records.extend_from_slice(&name[..16]);
    }

    fn node(&mut self, names: &[Name]) -> Name {
        let mut node = names.as_flattened().to_vec();
        node.resize(FANOUT * 32, 0);
        let name = *blake3::hash(&node).as_bytes();
        let length = node.len() as u32;
        self.write(b"CHNK");
        self.write([length, length, 0].map(u32::to_le_bytes).as_flattened());
        self.write(&name);
        self.write(&name[..16]);
        self.record(&name, self.length, length, length, 0);
        self.write(&node);
        name
    }

    fn finish(mut self) {
        for name in std::mem::take(&mut self.data) {
            let offset = self.length + ENTRY_BYTES;
            self.record(&name, offset, self.payload_bytes, CHUNK_BYTES as u32, 1);
            self.length = offset + self.payload_bytes;
        }
        self.file.seek(SeekFrom::Start(self.length.into())).unwrap();
        let records = std::mem::take(&mut self.records);
        let mut trailer = u64::from(self.length).to_le_bytes().to_vec();
        trailer.extend_from_slice(&((records.len() / RECORD_BYTES) as u32).to_le_bytes());
        trailer.extend_from_slice(&2_u32.to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&records);
        hasher.update(&trailer);
        trailer.extend_from_slice(hasher.finalize().as_bytes());
        trailer.extend_from_slice(&[0; 8]);
        trailer.extend_from_slice(b"CALOEND\n");
        self.write(&records);
        self.write(&trailer);
        self.file.flush().unwrap();
    }
}
