//! Storing lost chunks anew from copies of them.
//!
//! A copy is compared with its name, stored in a fresh pack, which is durable before the chunk is read
//! from there, and then read from there once more. The damaged pack is left alone: the next collection
//! takes what is still needed out of it, and deletes it if all of that could be read.

use std::collections::BTreeMap;
use std::thread;

use super::Origin;
use super::source::{ChunkSource, LocalCache, Memory, OtherPacks, sound_manifest};
use crate::backend::Key;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::pack::codec::Packer;
use crate::pack::{PackWriter, Publish};

/// Looks for copies of the `wanted` chunks and stores what it finds. Answers what was repaired, and from
/// where; and why it ended early, if it did.
pub(super) fn chunks(
    core: &Core,
    wanted: &BTreeMap<ChunkId, usize>,
    also: &[&dyn ChunkSource],
) -> (BTreeMap<ChunkId, Origin>, Option<Error>) {
    let mut stored = BTreeMap::new();
    let failure = store_copies(core, wanted, also, &mut stored).err();
    // Only what can be read now is repaired.
    stored.retain(|id, _| wanted.get(id).is_some_and(|&bytes| core.load(*id, bytes).is_ok()));
    (stored, failure)
}

fn store_copies(
    core: &Core,
    wanted: &BTreeMap<ChunkId, usize>,
    also: &[&dyn ChunkSource],
    stored: &mut BTreeMap<ChunkId, Origin>,
) -> Result<()> {
    let memory = Memory(core);
    let cache = LocalCache(core);
    let packs = OtherPacks(core);
    let mut sources: Vec<(Origin, &dyn ChunkSource)> =
        vec![(Origin::Memory, &memory), (Origin::Cache, &cache), (Origin::OtherPack, &packs)];
    sources.extend(also.iter().map(|&source| (Origin::Elsewhere, source)));

    // What is stored stays for as long as this is alive; then it is reached by what needed it.
    let active = core.registry.begin_commit(None);
    let mut packer = Packer::new().map_err(|error| Error::io("making a compressor", error))?;
    thread::scope(|scope| {
        let mut writer = PackWriter::new(core, scope, Publish::New(active.number));
        let mut rest = wanted.clone();
        for (copy, source) in sources {
            if rest.is_empty() {
                break;
            }
            let mut take = |id: ChunkId, plain: &[u8]| {
                let right = wanted.get(&id) == Some(&plain.len()) && ChunkId::of(plain) == id;
                if !right || stored.contains_key(&id) {
                    return Ok(());
                }
                writer.append(id, plain.len(), &packer.pack(id, plain))?;
                stored.insert(id, copy);
                if writer.is_full() { writer.roll(|_| Ok(())) } else { Ok(()) }
            };
            source.copies(&rest, &mut take)?;
            rest.retain(|id, _| !stored.contains_key(id));
        }
        writer.finish()
    })
}

/// Puts a sound file of a manifest in the place of a damaged one.
pub(super) fn manifest(core: &Core, id: ManifestId, also: &[&dyn ChunkSource]) -> Result<()> {
    let root = sound_manifest(also, id)
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no copy of manifest {id}")))?;
    let mut upload = core.backend.create(Key::Manifest(id))?;
    upload.append(&root)?;
    upload.finish()?;
    core.root(id).map(drop)
}
