//! A file system in memory that fails as real ones do, by chance and on demand.
//!
//! It promises what POSIX does and no more: bytes are durable when their file has been synced, a name
//! when its folder has. Until then a power failure keeps, drops or tears every write by itself, in sectors,
//! and leaves every name as any of what it was. A process that is killed loses nothing of that sort.
//!
//! Every kind of operation has its own chance and its own count, so that what fails does not depend on
//! how the threads of the store take turns.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::content::Content;
use super::folder::{Names, Number};
use super::random::Random;
use crate::backend::files::{Files, Space, StoreFile};

/// What can fail. Those of the index are apart: it is written by threads of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    SyncFolder,
    IndexWrite,
    IndexLength,
    IndexSync,
    Read,
    IndexRead,
    Open,
    List,
    Space,
}

impl Kind {
    /// Those before which a crash is interesting.
    pub(super) const CHANGES: [Self; 9] = [
        Self::Create,
        Self::Write,
        Self::Sync,
        Self::Rename,
        Self::Remove,
        Self::SyncFolder,
        Self::IndexWrite,
        Self::IndexLength,
        Self::IndexSync,
    ];
    const COUNT: usize = 14;
}

/// How often what fails: once in so many times, or never (0).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// Syncs of files and folders.
    pub(super) sync: u64,
    pub(super) read: u64,
    /// Writes, and whatever else needs room: the file system is full.
    pub(super) full: u64,
    /// Every other change: the medium fails.
    pub(super) change: u64,
    /// The same four, for the file of the index.
    pub(super) index: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Killed,
    PowerFailed,
}

#[derive(Clone)]
pub(super) struct SimulatedFiles(Arc<Mutex<State>>);

struct State {
    random: Random,
    by_kind: Vec<(Random, u64)>,
    /// Files opened before the last restart are nobody's.
    starts: u64,
    crashed: bool,
    /// The crash comes at the operation of this kind that has this number.
    crash_at: Option<(Kind, u64)>,
    faults: Faults,
    files: BTreeMap<Number, Content>,
    folders: BTreeMap<PathBuf, Names>,
    next_file: Number,
    log: Vec<String>,
}

/// What shall become of an operation.
enum Fate {
    Done,
    /// Not done, or perhaps not: the process ends here.
    Crashed,
    Failed(io::Error),
}

impl SimulatedFiles {
    pub(super) fn new(seed: u64) -> Self {
        let by_kind = (0..Kind::COUNT).map(|kind| (Random::apart(seed, 100 + kind as u64), 0));
        let mut root = Names::default();
        root.is_durable = true;
        Self(Arc::new(Mutex::new(State {
            random: Random::apart(seed, 99),
            by_kind: by_kind.collect(),
            starts: 0,
            crashed: false,
            crash_at: None,
            faults: Faults::default(),
            files: BTreeMap::new(),
            folders: [(PathBuf::from("/"), root)].into(),
            next_file: 0,
            log: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Has the process end at the `nth` operation of a kind from now on.
    pub(super) fn crash_at(&self, kind: Kind, nth: u64) {
        let mut state = self.state();
        let count = state.by_kind[kind as usize].1;
        state.crash_at = Some((kind, count + nth));
    }

    /// Whether the process has ended.
    pub(super) fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// What failed so far.
    pub(super) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// What the next process finds.
    pub(super) fn restart(&self, end: End) {
        let mut state = self.state();
        let state = &mut *state;
        state.starts += 1;
        state.crashed = false;
        state.crash_at = None;
        state.faults = Faults::default();
        if end == End::PowerFailed {
            let random = &mut state.random;
            let lost = |names: &Names, random: &mut Random| !names.is_durable && random.coin();
            let gone: Vec<_> = state
                .folders
                .iter()
                .filter(|(_, names)| lost(names, random))
                .map(|(path, _)| path.clone())
                .collect();
            state.folders.retain(|path, _| !gone.iter().any(|gone| path.starts_with(gone)));
            for names in state.folders.values_mut() {
                names.lose_power(random);
                names.is_durable = true;
            }
            for content in state.files.values_mut() {
                content.lose_power(random);
            }
        }
        let named: BTreeSet<_> = state.folders.values().flat_map(Names::files).collect();
        state.files.retain(|number, _| named.contains(number));
    }

    /// All files there are, and their lengths.
    pub(super) fn all(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let mut all = Vec::new();
        for (folder, names) in &state.folders {
            for (name, number) in &names.seen {
                all.push((folder.join(name), state.files[number].seen.len() as u64));
            }
        }
        all
    }

    /// The file that has a name now.
    pub(super) fn number(&self, path: &Path) -> Option<Number> {
        self.state().number(path).ok()
    }

    /// Changes one bit of a file, also on the medium, if the file is still there.
    pub(super) fn flip(&self, file: Number, offset: u64, bit: u8) {
        if let Some(content) = self.state().files.get_mut(&file)
            && offset < content.seen.len() as u64
        {
            content.flip(offset as usize, bit);
        }
    }

    fn handle(&self, state: &State, number: Number, path: &Path) -> Arc<dyn StoreFile> {
        Arc::new(Handle {
            files: self.clone(),
            number,
            start: state.starts,
            is_index: path.ends_with("index"),
        })
    }
}

fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent().zip(name).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn names(&mut self, folder: &Path) -> io::Result<&mut Names> {
        self.folders.get_mut(folder).ok_or_else(not_found)
    }

    fn number(&mut self, path: &Path) -> io::Result<Number> {
        let (folder, name) = split(path)?;
        self.names(folder)?.seen.get(name).copied().ok_or_else(not_found)
    }

    fn make(&mut self, path: &Path) -> io::Result<Number> {
        let (folder, name) = split(path)?;
        self.next_file += 1;
        let number = self.next_file;
        self.names(folder)?.set(name, Some(number));
        self.files.insert(number, Content::default());
        Ok(number)
    }

    fn fate(&mut self, kind: Kind) -> Fate {
        if self.crashed {
            return Fate::Failed(io::Error::other("the process has ended"));
        }
        let (random, count) = &mut self.by_kind[kind as usize];
        *count += 1;
        if self.crash_at == Some((kind, *count)) {
            self.crashed = true;
            self.log.push(format!("crash at {kind:?} {count}"));
            return Fate::Crashed;
        }
        let faults = self.faults;
        let (eio, full) = match kind {
            Kind::Sync | Kind::SyncFolder => (faults.sync, 0),
            Kind::Read | Kind::Open | Kind::List => (faults.read, 0),
            Kind::Create | Kind::Write => (faults.change, faults.full),
            Kind::Rename | Kind::Remove => (faults.change, 0),
            Kind::Space => (0, 0),
            Kind::IndexWrite | Kind::IndexLength => (faults.index, faults.index),
            Kind::IndexSync | Kind::IndexRead => (faults.index, 0),
        };
        let error = if random.once_in(eio) {
            io::Error::other("the medium fails")
        } else if random.once_in(full) {
            io::ErrorKind::StorageFull.into()
        } else {
            return Fate::Done;
        };
        self.log.push(format!("{kind:?} {count}: {error}"));
        Fate::Failed(error)
    }

    /// For operations that either are done or are not.
    fn pass(&mut self, kind: Kind) -> io::Result<()> {
        match self.fate(kind) {
            Fate::Done => Ok(()),
            Fate::Crashed if self.random.coin() => Ok(()),
            Fate::Crashed => Err(io::Error::other("the process ends here")),
            Fate::Failed(error) => Err(error),
        }
    }
}

impl Files for SimulatedFiles {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.pass(Kind::Create)?;
        for path in path.ancestors() {
            state.folders.entry(path.to_owned()).or_default();
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        let mut state = self.state();
        state.pass(Kind::Create)?;
        if state.number(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = state.make(path)?;
        Ok(self.handle(&state, number, path))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        let mut state = self.state();
        state.pass(Kind::Open)?;
        let number = state.number(path)?;
        Ok(self.handle(&state, number, path))
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Arc<dyn StoreFile>> {
        let mut state = self.state();
        state.pass(Kind::Create)?;
        let number = state.number(path).or_else(|_| state.make(path))?;
        Ok(self.handle(&state, number, path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        state.pass(Kind::List)?;
        let names = state.names(folder)?.seen.clone();
        let length = |number| state.files[number].seen.len() as u64;
        Ok(names.iter().map(|(name, number)| (name.clone(), length(number))).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.pass(Kind::Rename)?;
        let number = state.number(from)?;
        let ((from, old), (to, new)) = (split(from)?, split(to)?);
        state.names(to)?.set(new, Some(number));
        state.names(from)?.set(old, None);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.pass(Kind::Remove)?;
        state.number(path)?;
        let (folder, name) = split(path)?;
        state.names(folder)?.set(name, None);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.pass(Kind::SyncFolder)?;
        state.names(path)?.sync();
        for (child, names) in &mut state.folders {
            names.is_durable |= child.parent() == Some(path);
        }
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        self.state().pass(Kind::Space)?;
        Ok(Space { total_bytes: 1 << 40, free_bytes: 1 << 39 })
    }
}

/// An open file, which outlives its name but not its process.
struct Handle {
    files: SimulatedFiles,
    number: Number,
    start: u64,
    is_index: bool,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.files.state();
        if state.starts == self.start {
            Ok(state)
        } else {
            Err(io::Error::other("the process that opened this has ended"))
        }
    }

    fn kind(&self, kind: Kind, of_index: Kind) -> Kind {
        if self.is_index { of_index } else { kind }
    }
}

impl State {
    fn content(&mut self, handle: &Handle) -> io::Result<&mut Content> {
        self.files.get_mut(&handle.number).ok_or_else(not_found)
    }
}

impl StoreFile for Handle {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.state()?.content(self)?.seen.len() as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.pass(self.kind(Kind::Read, Kind::IndexRead))?;
        let seen = &state.content(self)?.seen;
        let end = offset.checked_add(buf.len() as u64).filter(|&end| end <= seen.len() as u64);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(&seen[offset as usize..end as usize]);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let fate = state.fate(self.kind(Kind::Write, Kind::IndexWrite));
        let (written, result) = match fate {
            Fate::Done => (bytes.len() as u64, Ok(())),
            // Some of it.
            Fate::Crashed => {
                (state.random.below(bytes.len() as u64 + 1), Err(io::Error::other("crashed")))
            }
            Fate::Failed(error) if state.crashed => (0, Err(error)),
            Fate::Failed(error) => (state.random.below(bytes.len() as u64 + 1), Err(error)),
        };
        state.content(self)?.write(&bytes[..written as usize], offset as usize);
        result
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.pass(self.kind(Kind::Write, Kind::IndexLength))?;
        state.content(self)?.set_length(length_bytes as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        match state.fate(self.kind(Kind::Sync, Kind::IndexSync)) {
            Fate::Done => {
                state.content(self)?.sync();
                Ok(())
            }
            Fate::Crashed => Err(io::Error::other("crashed")),
            Fate::Failed(error) => {
                if !state.crashed {
                    let state = &mut *state;
                    let content = state.files.get_mut(&self.number).ok_or_else(not_found)?;
                    content.fail_sync(&mut state.random);
                }
                Err(error)
            }
        }
    }
}
