//! What a commit has to do for which chunks of a disk, from its extents alone.

use calotype_disk::{Disk, ExtentKind};

use super::check_cancelled;
use crate::Progress;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BATCH_CHUNKS, CHUNK_BYTES, STEPS_REMEMBERED_MAX};
use crate::manifest;

const CHUNK: u64 = CHUNK_BYTES as u64;

/// What to do for the next chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Take them from the base's tree.
    Keep { chunks: u64 },
    /// They are holes.
    Hole { chunks: u64 },
    /// Read them: at most [`BATCH_CHUNKS`] from the chunk `first`.
    Read { first: u64, chunks: u64 },
}

/// Walks a disk from its start to its end, in whole chunks.
pub(super) struct Plan<'a> {
    disk: &'a dyn Disk,
    base: Option<&'a dyn Disk>,
    position: u64,
    /// What was found already.
    found: Option<Step>,
}

impl<'a> Plan<'a> {
    /// From chunk number `position` on.
    fn new(disk: &'a dyn Disk, base: Option<&'a dyn Disk>, position: u64) -> Self {
        Self { disk, base, position, found: None }
    }

    /// The next step, or none at the end of the disk.
    fn next(&mut self) -> Result<Option<Step>> {
        let batch = BATCH_CHUNKS as u64;
        let Some(step) = self.take()? else { return Ok(None) };
        let Step::Read { first, mut chunks } = step else { return Ok(Some(step)) };
        // Gather small runs that follow each other, and cut long ones.
        while chunks < batch {
            match self.take()? {
                Some(Step::Read { chunks: more, .. }) => chunks += more,
                other => {
                    self.found = other;
                    break;
                }
            }
        }
        if chunks > batch {
            let rest = chunks - batch;
            self.found = Some(Step::Read { first: first + batch, chunks: rest });
            chunks = batch;
        }
        Ok(Some(Step::Read { first, chunks }))
    }

    fn take(&mut self) -> Result<Option<Step>> {
        if let Some(step) = self.found.take() {
            return Ok(Some(step));
        }
        let chunk = self.position;
        if chunk >= manifest::chunk_count(self.disk.size_bytes()) {
            return Ok(None);
        }
        let (step, chunks) = self.run_at(chunk)?;
        self.position += chunks;
        Ok(Some(step))
    }

    /// The run of whole chunks of one kind at `chunk`, and its length.
    fn run_at(&self, chunk: u64) -> Result<(Step, u64)> {
        let size_bytes = self.disk.size_bytes();
        let start = chunk * CHUNK;
        let extent = extent_at(self.disk, start)?;
        let end = start + extent.0;
        let whole =
            if end >= size_bytes { (end - start).div_ceil(CHUNK) } else { extent.0 / CHUNK };
        if whole == 0 {
            return Ok((self.mixed(chunk, end, extent.1)?, 1));
        }
        let step = match extent.1 {
            ExtentKind::Data => Step::Read { first: chunk, chunks: whole },
            ExtentKind::Parent if self.base.is_some() => return Ok(self.keep(chunk, whole)),
            ExtentKind::Zero | ExtentKind::Parent => Step::Hole { chunks: whole },
        };
        Ok((step, whole))
    }

    /// Chunks of the base. If the base is larger, its part of the last chunk may hold bytes
    /// beyond the end of this disk, so that one is read.
    fn keep(&self, chunk: u64, whole: u64) -> (Step, u64) {
        let size_bytes = self.disk.size_bytes();
        let cut = !size_bytes.is_multiple_of(CHUNK)
            && self.base.is_some_and(|base| base.size_bytes() > size_bytes)
            && chunk + whole == manifest::chunk_count(size_bytes);
        match whole - u64::from(cut) {
            0 => (Step::Read { first: chunk, chunks: 1 }, 1),
            chunks => (Step::Keep { chunks }, chunks),
        }
    }

    /// A chunk of several runs, the first of which ends at `end`: read, unless all are the same.
    fn mixed(&self, chunk: u64, mut end: u64, first: ExtentKind) -> Result<Step> {
        let chunk_end = ((chunk + 1) * CHUNK).min(self.disk.size_bytes());
        let mut same = true;
        while end < chunk_end && same {
            let (length, kind) = extent_at(self.disk, end)?;
            same = kind == first;
            end += length;
        }
        Ok(match first {
            ExtentKind::Zero if same => Step::Hole { chunks: 1 },
            ExtentKind::Parent if same && self.base.is_none() => Step::Hole { chunks: 1 },
            ExtentKind::Parent if same => self.keep(chunk, 1).0,
            _ => Step::Read { first: chunk, chunks: 1 },
        })
    }
}

/// All steps from some chunk on. Those of most disks are remembered from the walk that adds them up.
pub(super) struct Steps {
    /// Bytes that have to be read.
    pub(super) total_bytes: u64,
    position: u64,
    remembered: Option<Vec<Step>>,
}

impl Steps {
    pub(super) fn of(
        disk: &dyn Disk,
        base: Option<&dyn Disk>,
        position: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut plan = Plan::new(disk, base, position);
        let mut total_bytes = 0;
        let mut remembered = Some(Vec::new());
        while let Some(step) = plan.next()? {
            check_cancelled(progress)?;
            if let Step::Read { first, chunks } = step {
                total_bytes += read_range(disk, first, chunks).1;
            }
            remembered = remembered.filter(|steps| steps.len() < STEPS_REMEMBERED_MAX);
            if let Some(steps) = &mut remembered {
                steps.push(step);
            }
        }
        Ok(Self { total_bytes, position, remembered })
    }

    /// Walks them; the disk and its base must be the same.
    pub(super) fn walk<'a>(&'a self, disk: &'a dyn Disk, base: Option<&'a dyn Disk>) -> Walk<'a> {
        match &self.remembered {
            Some(steps) => Walk::Remembered(steps.iter()),
            None => Walk::Again(Plan::new(disk, base, self.position)),
        }
    }
}

/// See [`Steps::walk`].
pub(super) enum Walk<'a> {
    Remembered(std::slice::Iter<'a, Step>),
    Again(Plan<'a>),
}

impl Walk<'_> {
    /// The next step, or none at the end of the disk.
    pub(super) fn next(&mut self) -> Result<Option<Step>> {
        match self {
            Self::Remembered(steps) => Ok(steps.next().copied()),
            Self::Again(plan) => plan.next(),
        }
    }
}

/// The offset and the number of bytes of some chunks of a disk; the last chunk may be short.
fn read_range(disk: &dyn Disk, first: u64, chunks: u64) -> (u64, u64) {
    let start = first * CHUNK;
    (start, (start + chunks * CHUNK).min(disk.size_bytes()) - start)
}

/// Reads some chunks of a disk over its base, the last one padded with zeros; answers how many
/// bytes were read.
pub(super) fn read(
    disk: &dyn Disk,
    base: Option<&dyn Disk>,
    first: u64,
    chunks: u64,
    bytes: &mut Vec<u8>,
) -> Result<u64> {
    let (mut offset, length) = read_range(disk, first, chunks);
    // A buffer comes back with what it held before: it is overwritten, not cleared first.
    bytes.resize((chunks * CHUNK) as usize, 0);
    let (mut rest, padding) = bytes.split_at_mut(length as usize);
    padding.fill(0);
    while !rest.is_empty() {
        let (run, kind) = extent_at(disk, offset)?;
        let run = usize::try_from(run).unwrap_or(rest.len()).min(rest.len());
        let (part, after) = rest.split_at_mut(run);
        match (kind, base) {
            (ExtentKind::Data, _) => {
                disk.read_at(offset, part).map_err(|error| disk_error(offset, error))?;
            }
            (ExtentKind::Parent, Some(base)) => read_below(base, offset, part)?,
            (ExtentKind::Zero | ExtentKind::Parent, _) => part.fill(0),
        }
        offset += run as u64;
        rest = after;
    }
    Ok(length)
}

/// Reads from a base that may be shorter.
fn read_below(base: &dyn Disk, offset: u64, part: &mut [u8]) -> Result<()> {
    let available = base.size_bytes().saturating_sub(offset);
    let available = usize::try_from(available).unwrap_or(part.len()).min(part.len());
    let (part, beyond) = part.split_at_mut(available);
    beyond.fill(0);
    if part.is_empty() {
        return Ok(());
    }
    base.read_at(offset, part).map_err(|error| disk_error(offset, error))
}

/// A run of the disk, never empty: an empty one would never end the walk.
fn extent_at(disk: &dyn Disk, offset: u64) -> Result<(u64, ExtentKind)> {
    let extent = disk.extent_at(offset).map_err(|error| disk_error(offset, error))?;
    let length_bytes = extent.length_bytes.min(disk.size_bytes() - offset);
    if length_bytes == 0 {
        return Err(Error::new(ErrorKind::Disk, format!("empty run at offset {offset}")));
    }
    Ok((length_bytes, extent.kind))
}

fn disk_error(offset: u64, error: calotype_disk::Error) -> Error {
    Error::new(ErrorKind::Disk, format!("reading the disk at offset {offset}")).with_source(error)
}
