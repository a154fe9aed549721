//! The pass over all packs: everything in them is read in large pieces and hashed on all cores.
//!
//! ```text
//! this thread ──pieces──> workers: wait for the rate, read, hash
//!   footers               each with one buffer, so memory is bounded whatever the store's size
//! ```
//!
//! What is remembered of a sound chunk are eight bytes, see [`fingerprint`].

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
    /// Their fingerprints: a cache may hide that what is stored is damaged.
    lost: HashSet<u64>,
    /// Packs of which any byte is not as it was written, and that can be written anew.
    pub(super) worn: BTreeSet<u32>,
    /// Packs that are longer or shorter than they were, or whose footer cannot be read.
    pub(super) odd: BTreeSet<u32>,
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

    /// Whether the pass found that this is not the chunk.
    pub(super) fn is_lost(&self, id: ChunkId, location: Location) -> bool {
        self.lost.contains(&fingerprint(id, location))
    }

    fn add(&mut self, other: Self) {
        self.lost.extend(other.lost);
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
    deep: bool,
) -> Result<Passed> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
    let (sender, pieces) = sync_channel(2 * workers);
    let stop = AtomicBool::new(false);
    let work = Work { core, rate, watch, deep, pieces: Mutex::new(pieces), stop };
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
        let Some(contents) = Contents::read(work.core, number, info, work.deep)? else { continue };
        passed.packs += 1;
        if contents.odd {
            tracing::error!(pack = %info.id, "a pack cannot be read as it should");
            passed.odd.insert(number);
        } else if contents.worn {
            tracing::error!(pack = %info.id, "a pack is not as it was written");
            passed.worn.insert(number);
        }
        let mut rest_bytes = info.length_bytes;
        for piece in pieces::cut(info.id, contents.places) {
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

/// What a pack holds.
#[derive(Default)]
struct Contents {
    /// In their order.
    places: Vec<Place>,
    /// Its header, records or trailer are not as they were written.
    worn: bool,
    /// It has another length than it had, or its footer cannot be read.
    odd: bool,
}

impl Contents {
    /// None if the pack is gone.
    fn read(core: &Core, number: u32, info: PackInfo, deep: bool) -> Result<Option<Self>> {
        let backend = Afresh(core.backend.as_ref());
        let (opened, sound) = match pack::examine_pack(&backend, info.id, info.length_bytes) {
            Ok(examined) => examined,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // Its chunks are looked at where something needs them.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => {
                tracing::error!(%error, pack = %info.id, "the footer of a pack cannot be read");
                return Ok(Some(Self { odd: true, ..Self::default() }));
            }
            Err(error) => return Err(error),
        };
        let place = |(record, position): (&pack::Record, u16)| Place {
            id: record.id,
            location: Location::new(Slot { pack: number, record: position }, record),
            checksum: (!deep).then_some(record.checksum),
        };
        let mut places: Vec<_> = opened.records.iter().zip(0..).map(place).collect();
        places.sort_unstable_by_key(|place| place.location.offset);
        let known = core.index.pack(number);
        let odd = known.is_some_and(|known| known.length_bytes != info.length_bytes);
        Ok(Some(Self { places, worn: !sound, odd }))
    }
}

struct Work<'a> {
    core: &'a Core,
    rate: &'a Rate<'a>,
    watch: &'a Watch<'a>,
    /// Unpack everything.
    deep: bool,
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
                // It may pass: whatever needs the chunk tries again.
                Found::Unreadable(error) => {
                    tracing::error!(chunk = %place.id, pack = %piece.pack, %error, "cannot be read");
                    passed.damaged += 1;
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
        passed.lost.insert(fingerprint(place.id, place.location));
        passed.worn.insert(place.location.slot.pack);
        // From now on nobody who brings the same bytes relies on these.
        self.core.index.set_damaged(place.id, place.location, true);
    }
}
