//! Garbage collection: mark, scan, decide, sweep; safe while others commit and read.
//!
//! 1. *Mark*: the names of everything that the roots and whatever is in use reach are gathered and sorted.
//! 2. *Scan*: one pass over the index beside the marks finds the chunks that nothing marked, and how much
//!    of every pack is needed.
//! 3. *Decide*, in one moment under the registry's lock: manifests that are neither roots nor in use
//!    end; chunks that were not marked, and that no running commit relies on, are doomed (see
//!    [`crate::liveness`]). If something came into use that was not marked, it is marked and the decision
//!    made anew.
//! 4. *Sweep*: files of manifests go first, and durably, so that a manifest that is there after a
//!    crash is always whole; then what is doomed, from the index; then packs of which nothing is left;
//!    then packs with little left are moved into new ones.
//!
//! The cost is that of the manifests' nodes, of one pass over the index, and of what died. Chunks that
//! live are read only if their pack is moved.

mod mark;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::thread;

use crate::backend::Key;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ManifestId;
use crate::index::{Candidate, Location, PackInfo, Scan, Slot};
use crate::limits::{PACK_LIVE_EIGHTHS_MIN, PARTIAL_AGE_SECONDS_MAX, SMALL_PACKS_MAX};
use crate::manifest::ROOT_BYTES;
use crate::pack::{self, PackWriter, Publish};
use crate::partial::Partial;
use mark::Mark;

/// Packs that are moved together: the old ones go when the new ones are durable.
const MOVED_TOGETHER: usize = 8;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests that were neither roots nor in use.
    pub manifests_removed: u64,
    /// Chunks that no manifest needs.
    pub chunks_removed: u64,
    /// Packs of which nothing was left.
    pub packs_deleted: u64,
    /// Packs whose rest was moved to a new pack.
    pub packs_rewritten: u64,
    /// Bytes that were read and written again with those packs.
    pub bytes_moved: u64,
    /// Bytes of all files deleted, those of new packs not counted against them.
    pub bytes_freed: u64,
}

/// A collection that has begun: everything committed or in use from now on is safe from it.
pub struct Collection<'store> {
    core: &'store Core,
    _only: MutexGuard<'store, ()>,
}

/// What is to be swept.
struct Decision {
    manifests: Vec<ManifestId>,
    strays: Vec<ManifestId>,
    doomed: Vec<Candidate>,
}

impl<'store> Collection<'store> {
    pub(crate) fn begin(core: &'store Core) -> Self {
        let only = core.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        core.registry.begin_collection();
        Self { core, _only: only }
    }

    /// Removes what is reachable neither from `roots` nor from anything in use.
    ///
    /// A root that the store does not have ([`ErrorKind::NotFound`]) or whose manifest is damaged
    /// ([`ErrorKind::Corrupt`]) ends the collection before anything is removed: what it
    /// reaches is not known.
    pub fn run(self, roots: &BTreeSet<ManifestId>) -> Result<Collected> {
        let core = self.core;
        let mut mark = Mark::new(core);
        for &root in roots {
            if !core.registry.lock().manifests.contains(&root) {
                return Err(Error::no_manifest(root));
            }
            mark.manifest(root)?;
        }
        forget_old_partials(core)?;
        // What is in use already, before the scan: what comes into use later is little.
        while self.mark_in_use(&mut mark)? {}
        let scan = core.index.scan(mark.sorted())?;
        if scan.marks_missing > 0 {
            tracing::error!(missing = scan.marks_missing, "chunks of manifests are missing");
        }
        let decision = self.decide(&mut mark, &scan)?;
        drop(mark);
        let collected = sweep(core, scan, &decision);
        // Whether it went well or not: what is still in the index may be used again.
        core.registry.liveness.doomed_are_gone();
        collected
    }

    /// Marks one thing in use that is not marked; answers whether there was one.
    fn mark_in_use(&self, mark: &mut Mark<'_>) -> Result<bool> {
        let (manifest, partial) = {
            let state = self.core.registry.lock();
            (mark.unmarked_manifest(&state), mark.unmarked_partial(&state))
        };
        if let Some(id) = manifest {
            mark.manifest(id)?;
        } else if let Some((id, number)) = partial {
            mark.partial(id, number)?;
        }
        Ok(manifest.is_some() || partial.is_some())
    }

    /// Marks until nothing is in use that is not marked, and decides in the same moment.
    fn decide(&self, mark: &mut Mark<'_>, scan: &Scan) -> Result<Decision> {
        loop {
            let mut state = self.core.registry.lock();
            if mark.unmarked_manifest(&state).is_some() || mark.unmarked_partial(&state).is_some() {
                drop(state);
                self.mark_in_use(mark)?;
                continue;
            }
            let protected = state.protected();
            let manifests: Vec<_> = state
                .manifests
                .iter()
                .filter(|id| !mark.has_manifest(id) && !protected.contains(id))
                .copied()
                .collect();
            let strays = state.strays();
            state.remove(&manifests);
            state.remove(&strays);
            let candidates = scan.candidates.iter().copied();
            let unmarked = candidates.filter(|chunk| !mark.has_late(chunk.id));
            let doomed = self.core.registry.liveness.doom(unmarked);
            return Ok(Decision { manifests, strays, doomed });
        }
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        self.core.registry.end_collection();
    }
}

fn forget_old_partials(core: &Core) -> Result<()> {
    let unused: Vec<_> = {
        let state = core.registry.lock();
        let ids = state.partials.keys().copied();
        ids.filter(|id| !state.partials_in_use.contains(id)).collect()
    };
    for id in unused {
        let old = match Partial::read(core, id) {
            Ok(partial) => partial.age_seconds() > PARTIAL_AGE_SECONDS_MAX,
            Err(error) => matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound),
        };
        if old {
            tracing::info!(partial = %id, "forgetting a commit that nobody goes on with");
            Partial::remove(core, id)?;
        }
    }
    Ok(())
}

fn sweep(core: &Core, scan: Scan, decision: &Decision) -> Result<Collected> {
    let manifests = decision.manifests.iter().chain(&decision.strays);
    let keys: Vec<_> = manifests.copied().map(Key::Manifest).collect();
    core.backend.delete(&keys)?;
    core.registry.removed();

    let opening = scan.opening;
    let packs = PackUses::new(&scan, &decision.doomed);
    drop(scan);
    let dead: Vec<_> = packs.dead(core).collect();
    let numbers: Vec<_> = dead.iter().map(|(number, _)| *number).collect();
    let doomed = decision.doomed.iter().map(|chunk| (chunk.id, chunk.location));
    let mut collected = Collected {
        manifests_removed: decision.manifests.len() as u64,
        chunks_removed: core.index.remove(opening, doomed, &numbers)?,
        bytes_freed: (decision.manifests.len() * ROOT_BYTES) as u64,
        ..Collected::default()
    };
    let keys: Vec<_> = dead.iter().map(|(_, info)| Key::Pack(info.id)).collect();
    core.backend.delete(&keys)?;
    collected.packs_deleted = dead.len() as u64;
    collected.bytes_freed += dead.iter().map(|(_, info)| info.length_bytes).sum::<u64>();

    match rewrite(core, opening, &packs.sparse(core), &mut collected) {
        // What could be freed without room has been freed; the next collection goes on.
        Err(error) if error.kind() == ErrorKind::NoSpace => {
            tracing::warn!(%error, "no room to move the rest of sparse packs");
        }
        result => result?,
    }
    Ok(collected)
}

/// How much of each pack is in use.
struct PackUses {
    packs: BTreeMap<u32, PackUse>,
}

struct PackUse {
    info: PackInfo,
    live_bytes: u64,
}

impl PackUses {
    fn new(scan: &Scan, doomed: &[Candidate]) -> Self {
        let mut packs: BTreeMap<_, _> = scan
            .packs
            .iter()
            .map(|(&number, &info)| {
                let live_bytes = scan.live_bytes.get(&number).copied().unwrap_or(0);
                (number, PackUse { info, live_bytes })
            })
            .collect();
        // What was not marked counts as in use unless it is doomed.
        let mut count = |location: Location, change: fn(u64, u64) -> u64| {
            if let Some(pack) = packs.get_mut(&location.slot.pack) {
                pack.live_bytes = change(pack.live_bytes, u64::from(location.stored_bytes));
            }
        };
        for chunk in &scan.candidates {
            count(chunk.location, u64::saturating_add);
        }
        for chunk in doomed {
            count(chunk.location, u64::saturating_sub);
        }
        Self { packs }
    }

    /// Packs of which nothing is in use.
    fn dead<'a>(&'a self, core: &'a Core) -> impl Iterator<Item = (u32, PackInfo)> + 'a {
        self.packs
            .iter()
            .filter(|(number, pack)| {
                pack.live_bytes == 0 && !core.registry.liveness.is_owned(**number)
            })
            .map(|(&number, pack)| (number, pack.info))
    }

    /// Packs worth moving: little of them is in use, their footer is damaged, or they are small and many.
    fn sparse(&self, core: &Core) -> Vec<(u32, PackInfo)> {
        let small = |pack: &PackUse| pack.info.length_bytes < core.options.pack_bytes / 8;
        let living = || self.packs.iter().filter(|(_, pack)| pack.live_bytes > 0);
        let many_small = living().filter(|(_, pack)| small(pack)).count() >= SMALL_PACKS_MAX;
        let worth = |pack: &PackUse| {
            pack.live_bytes * 8 < pack.info.length_bytes * PACK_LIVE_EIGHTHS_MIN
                || pack.info.scanned
                || (many_small && small(pack))
        };
        living()
            .filter(|(_, pack)| worth(pack))
            .map(|(&number, pack)| (number, pack.info))
            .collect()
    }
}

fn rewrite(
    core: &Core,
    opening: u64,
    packs: &[(u32, PackInfo)],
    collected: &mut Collected,
) -> Result<()> {
    for packs in packs.chunks(MOVED_TOGETHER) {
        let mut empty = Vec::new();
        collected.bytes_moved += move_chunks(core, packs, &mut empty)?;
        let numbers: Vec<_> = empty.iter().map(|(number, _)| *number).collect();
        core.index.remove(opening, std::iter::empty(), &numbers)?;
        let keys: Vec<_> = empty.iter().map(|(_, info)| Key::Pack(info.id)).collect();
        core.backend.delete(&keys)?;
        collected.packs_rewritten += empty.len() as u64;
        collected.bytes_freed += empty.iter().map(|(_, info)| info.length_bytes).sum::<u64>();
    }
    Ok(())
}

/// Copies what is read from `packs` to new ones, and has it read from there. Those of which nothing
/// is read any more are added to `empty`.
fn move_chunks(
    core: &Core,
    packs: &[(u32, PackInfo)],
    empty: &mut Vec<(u32, PackInfo)>,
) -> Result<u64> {
    thread::scope(|scope| {
        let mut writer = PackWriter::new(core, scope, Publish::Moved);
        for &(number, info) in packs {
            let mut whole = true;
            let backend = core.backend.as_ref();
            let opened = match pack::open_pack(backend, info.id, info.length_bytes) {
                // It is shorter than it was: what is read from it is read one by one.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(pack = %info.id, %error, "a damaged pack stays");
                    continue;
                }
                opened => opened?,
            };
            for (record, position) in opened.records.iter().zip(0..) {
                let location = Location::new(Slot { pack: number, record: position }, record);
                // Read from elsewhere, or not needed.
                if core.index.get(record.id)? != Some(location) {
                    continue;
                }
                match core.load_packed(record.id, location) {
                    Ok((packed, plain_bytes)) => {
                        writer.append(record.id, plain_bytes, &packed)?;
                    }
                    // A pack with such a chunk stays: it is evidence.
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        tracing::error!(pack = %info.id, %error, "a damaged chunk stays");
                        whole = false;
                    }
                    Err(error) => return Err(error),
                }
                if writer.is_full() {
                    writer.roll(|_| Ok(()))?;
                }
            }
            if whole {
                empty.push((number, info));
            }
        }
        writer.finish()?;
        Ok(writer.stored_bytes())
    })
}
