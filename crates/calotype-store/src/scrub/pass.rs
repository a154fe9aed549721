//! The pass over all packs: everything in them is read in large pieces and hashed on all cores.
//!
//! ```text
//! this thread ──pieces──> workers: wait for the rate, read, hash
//!   footers               each with one buffer, so memory is bounded whatever the store's size
//! ```
//!
//! What is remembered of a sound chunk are eight bytes, see [`fingerprint`].

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::pieces::{self, Found, Piece, Place, Room};
use super::rate::Rate;
use super::{Watch, cancelled};
use crate::backend::{Afresh, Folder, Key};
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::index::{Location, PackInfo, Slot};
use crate::limits::{UNREADABLE_MAX, WORKERS_MAX};
use crate::pack::{self, PackId};

/// What the pass found.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) packs: u64,
    /// Payloads that were hashed.
    pub(super) chunks: u64,
    /// Places where the bytes are not those of the chunk, or cannot be read.
    pub(super) damaged: u64,
    /// Packs of which any byte is not as it was written.
    pub(super) worn: BTreeSet<u32>,
    /// Packs that are not there. They may still be open, and can be read until they are not.
    pub(super) missing: BTreeSet<u32>,
    /// Fingerprints of the sound, sorted.
    sound: Vec<u64>,
    unreadable: u64,
}

impl Passed {
    /// Whether the pass found this chunk there, sound.
    pub(super) fn is_sound(&self, id: ChunkId, location: Location) -> bool {
        self.sound.binary_search(&fingerprint(id, location)).is_ok()
    }

    fn add(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.damaged += other.damaged;
        self.worn.extend(other.worn);
        self.sound.extend(other.sound);
        self.unreadable += other.unreadable;
    }
}

/// Tells a chunk at a place from every other: names are as good as random numbers.
fn fingerprint(id: ChunkId, location: Location) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let Location { slot, offset, stored_bytes, codec, node } = location;
    let place = u64::from(slot.pack) << 32 | u64::from(offset);
    let kind = u64::from(codec.to_byte()) << 1 | u64::from(node);
    let rest = u64::from(stored_bytes) << 16 | kind;
    id.mark() ^ place.wrapping_mul(ODD) ^ rest.wrapping_mul(ODD).rotate_left(32)
}

/// The packs to be read.
pub(super) struct Packs {
    /// With the lengths of their files, in the order of their names.
    present: Vec<(u32, PackInfo)>,
    /// Known, and not there.
    pub(super) missing: BTreeSet<u32>,
}

impl Packs {
    pub(super) fn list(core: &Core) -> Result<Self> {
        let known = core.index.packs();
        let listed: BTreeMap<_, _> = core.backend.list(Folder::Packs)?.into_iter().collect();
        let mut packs = Self { present: Vec::new(), missing: BTreeSet::new() };
        for (number, info) in known {
            match listed.get(&Key::Pack(info.id)) {
                Some(&length_bytes) => {
                    packs.present.push((number, PackInfo { length_bytes, ..info }));
                }
                // A collection forgets a pack before it deletes it.
                None if core.index.pack(number).is_none() => {}
                None => {
                    tracing::error!(pack = %info.id, "a pack is missing");
                    packs.missing.insert(number);
                }
            }
        }
        packs.present.sort_unstable_by_key(|(_, info)| info.id);
        Ok(packs)
    }

    pub(super) fn length_bytes(&self) -> u64 {
        self.present.iter().map(|(_, info)| info.length_bytes).sum()
    }
}

/// Reads `packs`. A pack that goes away meanwhile is left to whoever reads from it.
pub(super) fn run(
    core: &Core,
    packs: &Packs,
    rate: &Rate<'_>,
    watch: &Watch<'_>,
) -> Result<Passed> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
    let (sender, pieces) = sync_channel(2 * workers);
    let work = Work { core, rate, watch, pieces: Mutex::new(pieces), stop: AtomicBool::new(false) };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| work.run())).collect();
        let mut passed = Passed { missing: packs.missing.clone(), ..Passed::default() };
        let fed = feed(&work, &packs.present, &sender, &mut passed);
        // The workers end when there is nothing more to come.
        drop(sender);
        let mut failed = None;
        for thread in threads {
            match thread.join() {
                Ok(Ok(part)) => passed.add(part),
                Ok(Err(error)) => failed = Some(error),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failed.map_or(fed, Err)?;
        passed.sound.sort_unstable();
        Ok(passed)
    })
}

/// Reads the footers and hands out the pieces.
fn feed(
    work: &Work<'_>,
    packs: &[(u32, PackInfo)],
    sender: &SyncSender<Piece>,
    passed: &mut Passed,
) -> Result<()> {
    for &(number, info) in packs {
        let Some((places, sound)) = places(work.core, number, info)? else { continue };
        passed.packs += 1;
        if !sound {
            tracing::error!(pack = %info.id, "a pack is not as it was written");
            passed.worn.insert(number);
        }
        let mut rest_bytes = info.length_bytes;
        for piece in pieces::cut(info.id, places) {
            rest_bytes = rest_bytes.saturating_sub(piece.length_bytes as u64);
            // The workers are gone if one of them failed.
            if work.stop.load(Ordering::Relaxed) || sender.send(piece).is_err() {
                return Ok(());
            }
        }
        work.watch.advance(rest_bytes);
        if work.watch.cancelled() {
            return Err(cancelled());
        }
    }
    Ok(())
}

/// The chunks of a pack in their order, and whether the pack's own bytes are sound; none if it is gone.
fn places(core: &Core, number: u32, info: PackInfo) -> Result<Option<(Vec<Place>, bool)>> {
    let (opened, sound) =
        match pack::examine_pack(&Afresh(core.backend.as_ref()), info.id, info.length_bytes) {
            Ok(examined) => examined,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // What it holds cannot be learnt from it.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => {
                tracing::error!(%error, pack = %info.id, "the footer of a pack cannot be read");
                return Ok(Some((Vec::new(), false)));
            }
            Err(error) => return Err(error),
        };
    let known = core.index.pack(number);
    let same_length = known.is_none_or(|known| known.length_bytes == info.length_bytes);
    let place = |(record, position): (&pack::Record, u16)| Place {
        id: record.id,
        location: Location::new(Slot { pack: number, record: position }, record),
    };
    let mut places: Vec<_> = opened.records.iter().zip(0..).map(place).collect();
    places.sort_unstable_by_key(|place| place.location.offset);
    Ok(Some((places, sound && same_length)))
}

struct Work<'a> {
    core: &'a Core,
    rate: &'a Rate<'a>,
    watch: &'a Watch<'a>,
    pieces: Mutex<Receiver<Piece>>,
    /// One of the workers failed.
    stop: AtomicBool,
}

impl Work<'_> {
    fn next(&self) -> Option<Piece> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    fn run(&self) -> Result<Passed> {
        let mut passed = Passed::default();
        let mut room = Room::default();
        while let Some(piece) = self.next() {
            if self.stop.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(error) = self.piece(&piece, &mut room, &mut passed) {
                // The others go on taking pieces, or whoever hands them out would wait for ever.
                self.stop.store(true, Ordering::Relaxed);
                while self.next().is_some() {}
                return Err(error);
            }
        }
        Ok(passed)
    }

    fn piece(&self, piece: &Piece, room: &mut Room, passed: &mut Passed) -> Result<()> {
        if !self.rate.take(piece.length_bytes as u64, &|| self.watch.cancelled()) {
            return Err(cancelled());
        }
        let mut failure = None;
        let checked = pieces::check(self.core, piece, room, |place, found| {
            passed.chunks += 1;
            match found {
                Found::Sound => passed.sound.push(fingerprint(place.id, place.location)),
                Found::BesideDamage => {
                    passed.sound.push(fingerprint(place.id, place.location));
                    passed.worn.insert(place.location.slot.pack);
                }
                Found::Damaged => self.note_damage(piece.pack, place, passed),
                Found::Unreadable(error) => {
                    self.note_damage(piece.pack, place, passed);
                    passed.unreadable += 1;
                    failure = Some(error);
                }
            }
        });
        self.watch.advance(piece.length_bytes as u64);
        match (checked, failure) {
            (Err(error), _) if error.kind() == ErrorKind::NotFound => Ok(()),
            (Err(error), _) => Err(error),
            (Ok(()), Some(error)) if passed.unreadable > UNREADABLE_MAX => {
                Err(Error::new(error.kind(), "too much of the store cannot be read to go on")
                    .with_source(error))
            }
            (Ok(()), _) => Ok(()),
        }
    }

    fn note_damage(&self, pack: PackId, place: &Place, passed: &mut Passed) {
        let offset = place.location.offset;
        tracing::error!(chunk = %place.id, %pack, offset, "a chunk is damaged");
        passed.damaged += 1;
        passed.worn.insert(place.location.slot.pack);
        // From now on nobody who brings the same bytes relies on these.
        self.core.index.set_damaged(place.id, place.location, true);
    }
}
