//! A store on a failing file system, and what must be in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use calotype_disk::Disk;

use super::files::{End, Faults, Kind, SimulatedFiles};
use super::image::{Image, Layer};
use super::random::Random;
use crate::backend::Local;
use crate::backend::files::Files;
use crate::core::Core;
use crate::index::IndexFile;
use crate::limits::CHUNK_BYTES;
use crate::{Committed, Error, ErrorKind, ManifestId, Options, PartialId, Progress, Result, Store};

/// What goes wrong at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Nothing: whatever is asked for is done.
    Calm,
    /// The process will end within so many events at the latest.
    CrashAhead(u64),
    /// Single operations fail.
    Faults(u64),
}

/// A commit that was begun and may be gone on with.
#[derive(Debug, Clone)]
struct Work {
    layer: Layer,
    base: Option<ManifestId>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) files: SimulatedFiles,
    store: Option<Store>,
    /// What was acknowledged and is recorded: nothing of it may be lost.
    pub(super) catalog: BTreeMap<ManifestId, Image>,
    /// Committed, not recorded, still held.
    held: Vec<(Committed, Image)>,
    works: BTreeMap<u64, Work>,
    weather: Weather,
    pub(super) history: String,
}

/// Small packs; a cache too small to hide what is stored.
pub(super) fn options() -> Options {
    Options { pack_bytes: 2 * CHUNK_BYTES as u64, cache_bytes: 64 << 10, ..Options::default() }
}

pub(super) fn directory() -> &'static Path {
    Path::new("/store")
}

/// Cancels when so many bytes are done.
struct StopAt(u64, AtomicBool);

impl Progress for StopAt {
    fn advance(&self, done_bytes: u64, _total_bytes: u64) {
        self.1.fetch_or(done_bytes >= self.0, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random::apart(seed, 1),
            files: SimulatedFiles::new(seed),
            store: None,
            catalog: BTreeMap::new(),
            held: Vec::new(),
            works: BTreeMap::new(),
            weather: Weather::Calm,
            history: String::new(),
        };
        // The first start may be cut short as well.
        if world.random.once_in(4) {
            world.arm_crash();
            let opened = world.try_open();
            assert!(opened.is_ok() || world.files.has_crashed(), "{opened:?}");
            drop(opened);
            world.restart(None);
        } else {
            world.store = Some(world.try_open().unwrap());
        }
        world
    }

    pub(super) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.history, "{what}");
    }

    pub(super) fn try_open(&self) -> Result<Store> {
        let files: Arc<dyn Files> = Arc::new(self.files.clone());
        let backend = Local::open_on(files.clone(), directory())?;
        let index = IndexFile { files, path: directory().join("index") };
        Store::over(Box::new(backend), &index, &options(), Box::new(()))
    }

    pub(super) fn core(&self) -> Arc<Core> {
        self.store().core()
    }

    pub(super) fn store(&self) -> Store {
        self.store.clone().unwrap()
    }

    pub(super) fn close(&mut self) {
        self.held.clear();
        self.store = None;
    }

    pub(super) fn open(&mut self) {
        self.store = Some(self.try_open().unwrap());
    }

    /// One thing happens.
    pub(super) fn happen(&mut self) {
        match self.random.below(20) {
            0..7 => self.commit(),
            7..9 => self.begin_work(),
            9 => self.go_on_with_work(),
            10..13 => self.collect(),
            13 => self.held.clear(),
            14 if self.weather == Weather::Calm => {
                self.note(format_args!("reopen"));
                self.close();
                self.open();
                self.check_all();
            }
            15 if self.weather == Weather::Calm => self.restart(None),
            16..18 if self.weather == Weather::Calm => self.arm_crash(),
            18 if self.weather == Weather::Calm => self.begin_faults(),
            19 if self.weather == Weather::Calm => self.damage(),
            _ => self.read_some(),
        }
        if self.files.has_crashed() {
            self.restart(None);
        }
        match &mut self.weather {
            Weather::Calm => {}
            Weather::CrashAhead(0) => self.restart(None),
            Weather::Faults(0) => self.end_faults(),
            Weather::CrashAhead(left) | Weather::Faults(left) => *left -= 1,
        }
    }

    fn arm_crash(&mut self) {
        let kind = *self.random.pick(&Kind::CHANGES).unwrap();
        let nth = 1 + self.random.below(1 << self.random.clone().below(6));
        self.files.crash_at(kind, nth);
        let events = self.random.below(3);
        self.weather = Weather::CrashAhead(events);
        self.note(format_args!("crash at {kind:?} {nth}, or after {events} events"));
    }

    fn begin_faults(&mut self) {
        let rate = 1 << (2 + self.random.below(5));
        let mut some = || if self.random.coin() { rate } else { 0 };
        let faults =
            Faults { sync: some(), read: some(), full: some(), change: some(), index: some() };
        self.files.set_faults(faults);
        let events = self.random.below(5);
        self.weather = Weather::Faults(events);
        self.note(format_args!("{faults:?} for {events} events"));
    }

    fn end_faults(&mut self) {
        self.note(format_args!("no more faults"));
        self.files.set_faults(Faults::default());
        self.weather = Weather::Calm;
        // Without a restart everything must work again.
        self.check_all();
        self.commit();
    }

    /// The process ends, and another begins.
    pub(super) fn restart(&mut self, end: Option<End>) {
        let end = end
            .unwrap_or_else(|| if self.random.once_in(4) { End::Killed } else { End::PowerFailed });
        self.note(format_args!("{end:?}"));
        // What the old process still does has no effect.
        let old = (std::mem::take(&mut self.held), self.store.take());
        self.files.restart(end);
        drop(old);
        self.weather = Weather::Calm;
        self.open();
        let tmp: Vec<_> = self.files.list(&directory().join("tmp")).unwrap();
        assert!(tmp.is_empty(), "half-written files stay: {tmp:?}");
        self.check_all();
        let packs = self.files.list(&directory().join("packs")).unwrap();
        assert_eq!(self.store().usage().packs, packs.len() as u64, "packs and index differ");
    }

    /// Whether an error may occur now.
    fn permits(&self, error: &Error) -> bool {
        let kind = error.kind();
        match self.weather {
            Weather::Calm => false,
            Weather::CrashAhead(_) => self.files.has_crashed() && kind == ErrorKind::Io,
            Weather::Faults(_) => {
                kind == ErrorKind::Io
                    || kind == ErrorKind::NoSpace
                    || kind == ErrorKind::Disk && std::error::Error::source(error).is_some()
            }
        }
    }

    pub(super) fn failed(&mut self, error: &Error) {
        let permitted = self.permits(error);
        let mut causes = format!("{:?}: {error}", error.kind());
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            let _ = write!(causes, ": {next}");
            cause = next;
        }
        self.note(format_args!("  failed: {causes}"));
        assert!(permitted, "failed without a reason: {causes}");
    }

    fn any_recorded(&mut self) -> Option<ManifestId> {
        let ids: Vec<_> = self.catalog.keys().copied().collect();
        self.random.pick(&ids).copied()
    }

    fn commit(&mut self) {
        let base = if self.random.coin() { self.any_recorded() } else { None };
        let layer = Layer::any(&mut self.random);
        let image = layer.over(base.map(|id| &self.catalog[&id]));
        let chunks = image.chunks.len();
        self.note(format_args!("commit {chunks} chunks over {base:?}"));
        let result = self.store().commit(&layer, base, &());
        self.committed(result, image);
    }

    fn committed(&mut self, result: Result<Committed>, image: Image) -> bool {
        match result {
            Ok(committed) => {
                self.note(format_args!("  is {:?}", committed.manifest));
                match self.random.below(8) {
                    0 => self.held.push((committed, image)),
                    1 => drop(committed),
                    _ => drop(self.catalog.insert(committed.manifest, image)),
                }
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn begin_work(&mut self) {
        let number = self.random.below(3);
        let work = match self.works.get(&number) {
            Some(work) => work.clone(),
            None => Work {
                base: if self.random.coin() { self.any_recorded() } else { None },
                layer: Layer::any(&mut self.random),
            },
        };
        self.works.insert(number, work);
        let stop = 1 + self.random.below(8);
        self.work(number, &StopAt(stop * CHUNK_BYTES as u64, AtomicBool::new(false)));
    }

    fn go_on_with_work(&mut self) {
        let numbers: Vec<_> = self.works.keys().copied().collect();
        if let Some(&number) = self.random.pick(&numbers) {
            self.work(number, &());
        }
    }

    fn work(&mut self, number: u64, progress: &dyn Progress) {
        let work = self.works[&number].clone();
        let below = work.base.and_then(|base| self.catalog.get(&base));
        if work.base.is_some() && below.is_none() {
            // Nobody can go on with it.
            self.forget_work(number);
            return;
        }
        let image = work.layer.over(below);
        let chunks = image.chunks.len();
        self.note(format_args!("work {number}, {chunks} chunks over {:?}", work.base));
        let id = PartialId::of(&number.to_le_bytes());
        let result = self.store().commit_resumable(&work.layer, work.base, id, progress);
        if let Err(error) = &result
            && error.kind() == ErrorKind::Cancelled
        {
            self.note(format_args!("  cancelled"));
            return;
        }
        if self.committed(result, image) {
            // The name may be used again only for the same work, or when it was forgotten.
            self.forget_work(number);
        }
    }

    fn forget_work(&mut self, number: u64) {
        self.note(format_args!("forget work {number}"));
        match self.store().forget_partial(PartialId::of(&number.to_le_bytes())) {
            Ok(()) => drop(self.works.remove(&number)),
            Err(error) => self.failed(&error),
        }
    }

    fn collect(&mut self) {
        let forgotten: Vec<_> = {
            let ids: Vec<_> = self.catalog.keys().copied().collect();
            ids.into_iter().filter(|_| self.random.once_in(4)).collect()
        };
        for id in &forgotten {
            self.catalog.remove(id);
        }
        let roots: BTreeSet<_> = self.catalog.keys().copied().collect();
        self.note(format_args!("collect with {} roots, without {forgotten:?}", roots.len()));
        match self.store().collect(&roots) {
            Ok(collected) => self.note(format_args!("  {collected:?}")),
            Err(error) => self.failed(&error),
        }
    }

    /// Compares some of what is held and recorded.
    fn read_some(&mut self) {
        let held = self.held.iter().map(|(committed, image)| (committed.manifest, image.clone()));
        let recorded = self.catalog.iter().map(|(id, image)| (*id, image.clone()));
        let all: Vec<_> = held.chain(recorded).collect();
        if let Some((id, image)) = self.random.pick(&all).cloned() {
            self.note(format_args!("read {id:?}"));
            for _ in 0..4 {
                if let Err(error) = self.read(id, &image) {
                    self.failed(&error);
                }
            }
        }
    }

    /// Reads any range of a disk.
    fn read(&mut self, id: ManifestId, image: &Image) -> Result<()> {
        let offset = self.random.below(image.size_bytes);
        let longest = (image.size_bytes - offset).min(3 * CHUNK_BYTES as u64);
        let length = 1 + self.random.below(longest) as usize;
        self.read_range(id, image, offset, length)
    }

    /// Reads a range of a disk: the right bytes, or an error.
    pub(super) fn read_range(
        &self,
        id: ManifestId,
        image: &Image,
        offset: u64,
        length: usize,
    ) -> Result<()> {
        let disk = self.store().disk(id)?;
        assert_eq!(disk.size_bytes(), image.size_bytes);
        let mut bytes = vec![0; length];
        disk.read_at(offset, &mut bytes).map_err(|error| {
            let kind = match error.kind() {
                calotype_disk::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            };
            Error::new(kind, "reading a disk").with_source(error)
        })?;
        assert!(bytes == image.bytes(offset, length), "wrong bytes of {id} at {offset}");
        Ok(())
    }

    /// Everything acknowledged is there, whole and right; and what is there is whole.
    pub(super) fn check_all(&mut self) {
        let store = self.store();
        let manifests = store.manifests();
        for id in self.catalog.keys() {
            assert!(manifests.contains(id), "{id} is lost");
        }
        for &id in &manifests {
            if let Err(error) = store.verify(id) {
                self.note(format_args!("verifying {id:?}"));
                self.failed(&error);
            }
        }
        let held = self.held.iter().map(|(committed, image)| (committed.manifest, image.clone()));
        let recorded = self.catalog.iter().map(|(id, image)| (*id, image.clone()));
        for (id, image) in held.chain(recorded).collect::<Vec<_>>() {
            if let Err(error) = self.read(id, &image) {
                self.failed(&error);
            }
        }
    }

    /// In the end a collection leaves what is recorded and nothing else.
    pub(super) fn finish(&mut self) {
        if self.weather != Weather::Calm {
            self.restart(None);
        }
        self.note(format_args!("the end"));
        self.held.clear();
        for number in std::mem::take(&mut self.works).into_keys() {
            self.store().forget_partial(PartialId::of(&number.to_le_bytes())).unwrap();
        }
        self.commit();
        self.held.clear();
        let roots: BTreeSet<_> = self.catalog.keys().copied().collect();
        self.store().collect(&roots).unwrap();
        assert_eq!(self.store().manifests(), roots);
        self.restart(Some(End::PowerFailed));
        let needed: BTreeSet<_> = self
            .catalog
            .values()
            .flat_map(|image| (0..image.chunks.len()).map(|chunk| image.chunk_id(chunk)))
            .filter(|id| !id.is_hole())
            .collect();
        let chunks = self.store().usage().chunks as usize;
        assert!(chunks >= needed.len(), "{chunks} chunks, {} needed", needed.len());
    }
}
