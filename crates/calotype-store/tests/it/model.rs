//! Random histories of a store beside plain vectors of bytes.

use std::collections::{BTreeMap, BTreeSet};

use calotype_disk::{Disk, Extent, ExtentKind, Result};
use calotype_store::{Committed, ManifestId};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{CHUNK, GRAIN, MemoryDisk, extents, noise, open, read_all};

/// One thing that happens to a store.
#[derive(Debug, Clone)]
enum Event {
    /// A layer is committed, over one of the disks so far if it has any.
    Commit {
        layer: MemoryDisk,
        base: Option<prop::sample::Index>,
        pinned: bool,
    },
    /// Everything but these (by position, cyclic) is forgotten.
    Collect {
        keep: Vec<bool>,
    },
    Unpin,
    Reopen,
}

fn any_layer() -> impl Strategy<Value = MemoryDisk> {
    // Offset and length in grains, kind, seed. Few seeds: the same bytes occur again.
    let run = (0..220_usize, 1..50_usize, 0..4_u8, 0..6_u64);
    let size_bytes = prop_oneof![
        8 => 0..12 * CHUNK,
        2 => (0..200_usize).prop_map(|grains| grains * GRAIN),
        1 => 256 * CHUNK - 2..256 * CHUNK + 2 * GRAIN,
        1 => 300 * CHUNK..301 * CHUNK,
    ];
    (size_bytes, proptest::collection::vec(run, 0..8)).prop_map(|(size_bytes, runs)| {
        let mut layer = MemoryDisk::empty_layer(size_bytes);
        let grains = size_bytes.div_ceil(GRAIN);
        for (offset, length, kind, seed) in runs {
            // Some runs lie at the end of a large disk.
            let first = if seed == 5 { grains.saturating_sub(offset) } else { offset };
            let start = (first * GRAIN).min(size_bytes);
            let end = ((first + length) * GRAIN).min(size_bytes);
            match kind {
                0 => layer.kinds[first.min(grains)..(first + length).min(grains)]
                    .fill(ExtentKind::Zero),
                1 if start < end => layer.write(start, &vec![seed as u8; end - start]),
                _ if start < end => layer.write(start, &noise(seed, end - start)),
                _ => {}
            }
        }
        layer
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (any_layer(), any::<Option<prop::sample::Index>>(), any::<bool>())
            .prop_map(|(layer, base, pinned)| Event::Commit { layer, base, pinned }),
        2 => proptest::collection::vec(any::<bool>(), 1..6).prop_map(|keep| Event::Collect { keep }),
        1 => Just(Event::Unpin),
        1 => Just(Event::Reopen),
    ]
}

/// A store, and what should be in it.
struct World {
    directory: TempDir,
    store: Option<calotype_store::Store>,
    disks: BTreeMap<ManifestId, Vec<u8>>,
    pins: Vec<Committed>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Some(open(directory.path()));
        Self { directory, store, disks: BTreeMap::new(), pins: Vec::new() }
    }

    fn store(&self) -> &calotype_store::Store {
        self.store.as_ref().unwrap()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Commit { layer, base, pinned } => {
                let base = base
                    .filter(|_| !self.disks.is_empty())
                    .and_then(|index| self.disks.keys().nth(index.index(self.disks.len())))
                    .copied();
                let below = base.map(|id| self.disks[&id].clone()).unwrap_or_default();
                let committed = self.store().commit(&layer, base, &()).unwrap();
                self.disks.insert(committed.manifest, layer.over(&below));
                if pinned {
                    self.pins.push(committed);
                }
            }
            Event::Collect { keep } => {
                let mut kept = keep.iter().cycle();
                let roots: BTreeSet<_> =
                    self.disks.keys().filter(|_| *kept.next().unwrap()).copied().collect();
                self.store().collect(&roots).unwrap();
                let pinned: BTreeSet<_> = self.pins.iter().map(|pin| pin.manifest).collect();
                self.disks.retain(|id, _| roots.contains(id) || pinned.contains(id));
                // A second time there is nothing left to remove.
                let again = self.store().collect(&roots).unwrap();
                assert_eq!((again.manifests_removed, again.chunks_removed), (0, 0));
            }
            Event::Unpin => self.pins.clear(),
            Event::Reopen => {
                self.pins.clear();
                self.store = None;
                self.store = Some(open(self.directory.path()));
            }
        }
    }

    fn check(&self) {
        let store = self.store();
        assert_eq!(store.manifests(), self.disks.keys().copied().collect());
        for (&id, bytes) in &self.disks {
            assert!(read_all(store, id) == *bytes, "{id}");
            let verified = store.verify(id).unwrap();
            assert_eq!(verified.size_bytes, bytes.len() as u64);
            assert_eq!(verified.stored_bytes, store.stored_bytes(id).unwrap());
            for (offset, length, kind) in extents(store.disk(id).unwrap().as_ref()) {
                let run = &bytes[offset as usize..(offset + length) as usize];
                match kind {
                    ExtentKind::Zero => assert!(run.iter().all(|&byte| byte == 0)),
                    ExtentKind::Data => {
                        assert!(run.chunks(CHUNK).all(|chunk| chunk.iter().any(|&byte| byte != 0)));
                    }
                    ExtentKind::Parent => panic!("a stored disk has nothing below it"),
                }
            }
        }
        let on_disk: u64 = ["packs", "manifests", "partials", "tmp"]
            .iter()
            .flat_map(|folder| std::fs::read_dir(self.directory.path().join(folder)).unwrap())
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(store.usage().stored_bytes, on_disk);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_store_holds_what_was_committed_and_not_collected(
        events in proptest::collection::vec(any_event(), 1..14),
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            world.check();
        }
    }
}

/// A disk of any size with little in it: by the number of a chunk its seed and how much of it is
/// noise of that seed, zeros after; none is a hole.
#[derive(Debug, Clone)]
struct SparseDisk {
    size_bytes: u64,
    rest: ExtentKind,
    chunks: BTreeMap<u64, Option<(u64, usize)>>,
}

impl SparseDisk {
    fn new(
        size_bytes: u64,
        rest: ExtentKind,
        mut chunks: BTreeMap<u64, Option<(u64, usize)>>,
    ) -> Self {
        // What is beyond the end is nowhere, also for a larger disk over this one.
        chunks.retain(|chunk, _| chunk * (CHUNK as u64) < size_bytes);
        if let Some(Some((_, length))) = chunks.get_mut(&(size_bytes / CHUNK as u64)) {
            *length = (*length).min((size_bytes % CHUNK as u64) as usize);
        }
        Self { size_bytes, rest, chunks }
    }

    /// What is seen through this layer over `below`.
    fn over(&self, below: &Self) -> Self {
        let mut chunks = below.chunks.clone();
        chunks.extend(&self.chunks);
        Self::new(self.size_bytes, ExtentKind::Zero, chunks)
    }
}

impl Disk for SparseDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut position = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let in_chunk = (position % CHUNK as u64) as usize;
            let (part, after) = rest.split_at_mut((CHUNK - in_chunk).min(rest.len()));
            match self.chunks.get(&(position / CHUNK as u64)) {
                Some(Some((seed, length))) => {
                    let mut chunk = noise(*seed, CHUNK);
                    chunk[*length..].fill(0);
                    part.copy_from_slice(&chunk[in_chunk..in_chunk + part.len()]);
                }
                _ => part.fill(0),
            }
            position += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let chunk = offset / CHUNK as u64;
        let (kind, end) = match self.chunks.get(&chunk) {
            Some(Some(_)) => (ExtentKind::Data, chunk + 1),
            Some(None) => (ExtentKind::Zero, chunk + 1),
            None => {
                let next = self.chunks.range(chunk..).next();
                (self.rest, next.map_or(u64::MAX / CHUNK as u64, |(&chunk, _)| chunk))
            }
        };
        let end = (end * CHUNK as u64).min(self.size_bytes);
        Ok(Extent { length_bytes: end - offset, kind })
    }
}

/// Sizes around those where a tree becomes deeper, and some others.
fn any_size_bytes() -> impl Strategy<Value = u64> {
    let edge = prop_oneof![Just(1 << 24), Just(1_u64 << 32), Just(1 << 40), 1..20_u64 << 40];
    (edge, 0..4 * CHUNK as u64).prop_map(|(edge, more)| edge + more - CHUNK as u64)
}

fn any_sparse(rest: ExtentKind) -> impl Strategy<Value = SparseDisk> {
    // Where a node begins or ends at some level, and nearby; counted from either end.
    let place = (prop_oneof![Just(1_u64), Just(256), Just(65_536)], 0..5_u64, 0..3_u64);
    let chunk = (place, any::<bool>(), any::<bool>(), 0..9_u64);
    (any_size_bytes(), proptest::collection::vec(chunk, 0..12)).prop_map(move |(size, list)| {
        let count = size.div_ceil(CHUNK as u64);
        let mut chunks = BTreeMap::new();
        for ((unit, times, more), from_end, hole, seed) in list {
            let place = (unit * times + more) % count;
            let place = if from_end { count - 1 - place } else { place };
            chunks.insert(place, (!hole).then_some((seed, CHUNK)));
        }
        SparseDisk::new(size, rest, chunks)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_layer_over_a_base_is_the_disk_that_is_seen(
        base in any_sparse(ExtentKind::Zero),
        layers in proptest::collection::vec(any_sparse(ExtentKind::Parent), 1..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let mut seen = base.clone();
        let mut below = store.commit(&base, None, &()).unwrap();
        for layer in layers {
            seen = layer.over(&seen);
            let committed = store.commit(&layer, Some(below.manifest), &()).unwrap();
            let written = layer.chunks.values().flatten().count() + 1;
            prop_assert!(committed.bytes_read <= (written * CHUNK) as u64);
            let flat = store.commit(&seen, None, &()).unwrap();
            prop_assert_eq!(committed.manifest, flat.manifest);
            store.verify(flat.manifest).unwrap();
            below = committed;
        }
    }
}
