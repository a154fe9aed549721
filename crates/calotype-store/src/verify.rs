//! Reading everything again: proves that a whole disk hashes to its name.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::{CHUNK_BYTES, NODE_BYTES, WORKERS_MAX};
use crate::manifest::{self, ROOT_BYTES};
use crate::pack::PackId;
use crate::scrub::pieces::{self, Found, Piece, Place, Room};

/// What [`crate::Store::verify`] read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The size of the virtual disk.
    pub size_bytes: u64,
    /// Distinct chunks, the nodes of the manifest included.
    pub chunks: u64,
    /// Their bytes as stored, and the root's.
    pub stored_bytes: u64,
}

/// What a manifest reaches, each name once.
pub(crate) struct Reached {
    pub(crate) size_bytes: u64,
    pub(crate) nodes: HashSet<ChunkId>,
    pub(crate) chunks: HashSet<ChunkId>,
}

/// Walks the tree of a pinned manifest; nodes are read by `read_node`.
pub(crate) fn reach(
    core: &Core,
    id: ManifestId,
    mut read_node: impl FnMut(ChunkId) -> Result<Arc<Vec<u8>>>,
) -> Result<Reached> {
    let root = core.root(id)?;
    let mut reached =
        Reached { size_bytes: root.size_bytes, nodes: HashSet::new(), chunks: HashSet::new() };
    let mut stack: Vec<(u32, ChunkId)> = Vec::new();
    let mut found = |level: u32, child: ChunkId, stack: &mut Vec<_>, nodes: &mut HashSet<_>| {
        if child.is_hole() {
        } else if level == 0 {
            reached.chunks.insert(child);
        } else if nodes.insert(child) {
            stack.push((level, child));
        }
    };
    for &child in &root.children {
        found(root.depth() - 1, child, &mut stack, &mut reached.nodes);
    }
    while let Some((level, node)) = stack.pop() {
        let node = read_node(node)?;
        for child in manifest::children(&node) {
            found(level - 1, child, &mut stack, &mut reached.nodes);
        }
    }
    Ok(reached)
}

/// See [`crate::Store::verify`].
pub(crate) fn verify(core: &Core, id: ManifestId) -> Result<Verified> {
    let reached = reach(core, id, |node| Ok(core.load(node, NODE_BYTES)?.into()))?;
    let pieces = pieces(core, &reached)?;
    let next = AtomicUsize::new(0);
    let damaged: Mutex<Vec<Error>> = Mutex::default();
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut room = Room::default();
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let errors = check(core, piece, &mut room);
                    damaged.lock().unwrap_or_else(PoisonError::into_inner).extend(errors);
                }
            });
        }
    });
    let mut damaged = damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
    let count = damaged.len();
    if let Some(first) = damaged.pop() {
        let kind = if first.kind() == ErrorKind::Io { ErrorKind::Io } else { ErrorKind::Corrupt };
        let context = format!("manifest {id} has {count} chunks that cannot be read");
        return Err(Error::new(kind, context).with_source(first));
    }
    Ok(Verified {
        size_bytes: reached.size_bytes,
        chunks: (reached.nodes.len() + reached.chunks.len()) as u64,
        stored_bytes: stored_bytes(core, &reached)?,
    })
}

/// What of a piece cannot be read, wherever it is now.
fn check(core: &Core, piece: &Piece, room: &mut Room) -> Vec<Error> {
    let mut suspects = Vec::new();
    let checked = pieces::check(core, piece, room, |place, found| {
        if !matches!(found, Found::Sound | Found::BesideDamage) {
            suspects.push(place.id);
        }
    });
    if checked.is_err() {
        suspects = piece.places.iter().map(|place| place.id).collect();
    }
    // A collection may have moved it since it was looked up.
    suspects.into_iter().filter_map(|id| core.load(id, CHUNK_BYTES).err()).collect()
}

/// Compressed bytes of everything reached, and of the root.
pub(crate) fn stored_bytes(core: &Core, reached: &Reached) -> Result<u64> {
    let mut total = ROOT_BYTES as u64;
    for &id in reached.nodes.iter().chain(&reached.chunks) {
        total += u64::from(core.index.get(id)?.ok_or_else(|| missing(id))?.stored_bytes);
    }
    Ok(total)
}

/// The chunks of data in the order in which a disk reads them best.
fn pieces(core: &Core, reached: &Reached) -> Result<Vec<Piece>> {
    let mut packs: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
    for &id in &reached.chunks {
        let location = core.index.get(id)?.ok_or_else(|| missing(id))?;
        packs.entry(location.slot.pack).or_default().push(Place { id, location, checksum: None });
    }
    let mut pieces = Vec::new();
    for (number, mut places) in packs {
        places.sort_unstable_by_key(|place| place.location.offset);
        match core.index.pack(number) {
            Some(pack) => pieces.extend(pieces::cut(pack.id, places)),
            // Moved since: looked up again one by one.
            None => pieces.extend(pieces::cut(PackId::fresh(), places)),
        }
    }
    Ok(pieces)
}

fn missing(id: ChunkId) -> Error {
    Error::corrupt(format!("chunk {id} is missing"))
}
