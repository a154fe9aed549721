//! Reads everything again, tells what is damaged and whom it harms, and repairs what it can.
//!
//! 1. *Pass*: all packs are read from end to end and every payload is hashed.
//! 2. *Reach*: what manifests and unfinished commits reach must have been found sound where the index
//!    says it is, or be sound now. So what the index says is checked as well.
//! 3. *Repair*: what is not is looked for in memory, in other packs, and in whatever the caller
//!    offers; a copy is stored anew. A repaired node may show more that is lost below it: then 2. again.
//! 4. *Locate*: one walk over the manifests names the disks and ranges that damaged chunks belong to.
//!
//! It takes no lock: commits, collections and readers go on beside it. Memory: eight bytes for each chunk
//! of the store, and a piece of a pack for each core.

mod locate;
mod pass;
pub(crate) mod pieces;
mod rate;
mod reach;
mod repair;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use self::pass::Packs;
use self::rate::{Clock, MachineClock, Rate};
use self::reach::Reach;
pub use self::source::{ChunkSource, StoreCopy, TakeCopy};
use crate::backend::Folder;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::manifest::ROOT_BYTES;
use crate::pack::PackId;
use crate::partial::Partial;
use crate::progress::Progress;

/// How a scrub goes about it.
#[derive(Clone, Copy, Default)]
pub struct ScrubOptions<'a> {
    /// The most bytes per second that are read from packs; without, as fast as they can be read.
    pub rate_bytes_per_second: Option<u64>,
    /// Unpack every chunk and compare it with its name. Without, the stored bytes are compared with the
    /// checksum that was written with them: as good against whatever happens to them on the disk, and
    /// several times as fast.
    pub deep: bool,
    /// Where to look for copies of what is damaged, beside the store itself.
    pub also: &'a [&'a dyn ChunkSource],
}

/// What [`crate::Store::scrub`] found and did.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Packs that were read.
    pub packs: u64,
    /// Chunks in them that were read and hashed.
    pub chunks: u64,
    /// Manifests and unfinished commits that were walked.
    pub manifests: u64,
    /// Unfinished commits among those.
    pub partials: u64,
    /// Bytes of all that.
    pub bytes: u64,
    /// Packs of which any byte was not as it was written. The next collection writes them anew.
    pub packs_damaged: u64,
    /// Packs that the store should have and has not.
    pub packs_missing: u64,
    /// Places in packs where the bytes were not those of the chunk, those that nobody reads included.
    pub places_damaged: u64,
    /// Chunks that were needed and could not be read, repaired or not.
    pub damages: Vec<Damage>,
    /// More of those than are remembered: the next scrub goes on with them.
    pub damages_more: u64,
    /// Manifests whose own file was damaged, and whether it was repaired.
    pub manifests_damaged: BTreeMap<ManifestId, bool>,
    /// Unfinished commits whose file was damaged: they begin anew.
    pub partials_damaged: u64,
    /// Why not all was repaired of which there was a copy.
    pub repair_error: Option<Error>,
}

impl Scrubbed {
    /// Whether everything that is needed can be read now.
    pub fn is_whole(&self) -> bool {
        self.damages_more == 0
            && self.damages.iter().all(|damage| damage.repaired.is_some())
            && self.manifests_damaged.values().all(|repaired| *repaired)
    }

    /// The disks of which anything was damaged, repaired or not.
    pub fn affected(&self) -> BTreeSet<ManifestId> {
        let of_chunks = self.damages.iter().flat_map(|damage| &damage.manifests);
        of_chunks.chain(self.manifests_damaged.keys()).copied().collect()
    }
}

/// A chunk that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its name.
    pub chunk: ChunkId,
    /// Where it was to be: the pack and the offset of its payload. None if it was in no pack.
    pub place: Option<(PackId, u64)>,
    /// What of which disks it holds. Of a node, all that it covers.
    pub affected: Vec<Affected>,
    /// Ranges beside those.
    pub affected_more: u64,
    /// All disks that it belongs to.
    pub manifests: BTreeSet<ManifestId>,
    /// From where it was stored anew, if there was a copy.
    pub repaired: Option<Origin>,
}

/// A part of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// The disk.
    pub manifest: ManifestId,
    /// The bytes of it.
    pub range: Range<u64>,
}

/// Where a copy was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// In the memory of this process.
    Memory,
    /// On the local disk, which keeps pieces of what is stored remotely.
    Cache,
    /// In another pack of the store.
    OtherPack,
    /// With one of [`ScrubOptions::also`].
    Elsewhere,
}

/// Tells whoever watches how far it is, from whichever thread.
struct Watch<'a> {
    progress: &'a dyn Progress,
    done_bytes: Mutex<u64>,
    total_bytes: u64,
}

impl Watch<'_> {
    fn advance(&self, bytes: u64) {
        let mut done = self.done_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *done = (*done + bytes).min(self.total_bytes);
        self.progress.advance(*done, self.total_bytes);
    }

    fn cancelled(&self) -> bool {
        self.progress.cancelled()
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "scrub cancelled")
}

/// See [`crate::Store::scrub`].
pub(crate) fn scrub(
    core: &Core,
    options: &ScrubOptions<'_>,
    progress: &dyn Progress,
) -> Result<Scrubbed> {
    scrub_by(&MachineClock::new(), core, options, progress)
}

fn scrub_by(
    clock: &dyn Clock,
    core: &Core,
    options: &ScrubOptions<'_>,
    progress: &dyn Progress,
) -> Result<Scrubbed> {
    let packs = Packs::list(core)?;
    let manifest_bytes = core.registry.lock().manifests.len() as u64 * ROOT_BYTES as u64;
    let partials = core.backend.list(Folder::Partials)?;
    let partial_bytes = partials.iter().map(|(_, length_bytes)| length_bytes).sum::<u64>();
    let total_bytes = packs.length_bytes() + manifest_bytes + partial_bytes;
    let watch = Watch { progress, done_bytes: Mutex::new(0), total_bytes };
    watch.advance(0);

    let rate = Rate::new(clock, options.rate_bytes_per_second);
    let passed = pass::run(core, &packs, &rate, &watch, options.deep)?;
    for &number in &passed.worn {
        core.index.set_worn(number)?;
    }
    let mut scrubbed = Scrubbed {
        packs: passed.packs,
        chunks: passed.chunks,
        bytes: total_bytes,
        packs_damaged: passed.worn.union(&passed.odd).count() as u64,
        packs_missing: packs.missing.len() as u64,
        places_damaged: passed.damaged,
        ..Scrubbed::default()
    };
    let mut damages = BTreeMap::new();
    let mut reach = reach::walk(core, &passed, &watch)?;
    // Each round shows what a level of nodes had hidden.
    while repair(core, options, &reach, &mut damages, &mut scrubbed) {
        reach = reach::walk(core, &passed, &watch)?;
    }
    scrubbed.manifests = reach.manifests;
    scrubbed.partials = reach.partials;
    scrubbed.partials_damaged = reach.partials_damaged;
    scrubbed.damages_more = reach.wanted_more;
    forget_lacking_partials(core, &reach)?;
    scrubbed.damages = locate(core, damages, &watch)?;
    watch.advance(total_bytes);
    Ok(scrubbed)
}

/// What is known of a chunk before it is known whom it harms.
struct Lost {
    place: Option<(PackId, u64)>,
    repaired: Option<Origin>,
}

/// Repairs what can be; answers whether there may be more to find now.
fn repair(
    core: &Core,
    options: &ScrubOptions<'_>,
    reach: &Reach,
    damages: &mut BTreeMap<ChunkId, Lost>,
    scrubbed: &mut Scrubbed,
) -> bool {
    let mut more = false;
    for &id in &reach.manifests_damaged {
        // Tried once.
        if scrubbed.manifests_damaged.contains_key(&id) {
            continue;
        }
        let repaired = match repair::manifest(core, id, options.also) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, manifest = %id, "a manifest was not repaired");
                false
            }
        };
        more |= repaired;
        scrubbed.manifests_damaged.insert(id, repaired);
    }
    let untried = reach.wanted.iter().filter(|(id, _)| !damages.contains_key(*id));
    let untried: BTreeMap<_, _> = untried.map(|(&id, &bytes)| (id, bytes)).collect();
    if untried.is_empty() {
        return more;
    }
    for &id in untried.keys() {
        let place = core.index.get(id).ok().flatten().and_then(|location| {
            let pack = core.index.pack(location.slot.pack)?;
            Some((pack.id, u64::from(location.offset)))
        });
        damages.insert(id, Lost { place, repaired: None });
    }
    let (repaired, failure) = repair::chunks(core, &untried, options.also);
    if let Some(error) = failure {
        tracing::error!(%error, "not all was repaired");
        scrubbed.repair_error = Some(error);
    }
    more |= !repaired.is_empty();
    for (id, copy) in repaired {
        tracing::info!(chunk = %id, from = ?copy, "repaired");
        if let Some(lost) = damages.get_mut(&id) {
            lost.repaired = Some(copy);
        }
    }
    more
}

/// A commit that would go on from something that is lost must begin anew.
fn forget_lacking_partials(core: &Core, reach: &Reach) -> Result<()> {
    for &id in &reach.partials_lacking {
        let in_use = core.registry.lock().partials_in_use.contains(&id);
        if !in_use {
            tracing::warn!(partial = %id, "a commit that did not end has lost something");
            Partial::remove(core, id)?;
        }
    }
    Ok(())
}

fn locate(core: &Core, damages: BTreeMap<ChunkId, Lost>, watch: &Watch<'_>) -> Result<Vec<Damage>> {
    if damages.is_empty() {
        return Ok(Vec::new());
    }
    let mut needed = locate::locate(core, damages.keys().copied(), watch)?;
    let damages = damages.into_iter().filter_map(|(chunk, lost)| {
        let needed = needed.remove(&chunk).unwrap_or_default();
        // Was needed by something that ended meanwhile, and went away with it.
        let gone = needed.manifests.is_empty() && lost.place.is_none();
        (!gone).then_some(Damage {
            chunk,
            place: lost.place,
            affected: needed.affected,
            affected_more: needed.affected_more,
            manifests: needed.manifests,
            repaired: lost.repaired,
        })
    });
    Ok(damages.collect())
}
