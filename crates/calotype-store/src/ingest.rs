//! Commits: a disk goes in, a manifest comes out, and what was new is durable.
//!
//! ```text
//! reader ──batches──> workers ──batches──> assembler ──> packs, tree
//!   │ (this thread)    zero? hash, known?    in order        │
//!   │                  pack what is new                      │
//!   └──────────── holes, parts to keep ──────^               v
//!                                                      manifest, last
//! ```
//!
//! Batches travel in buffers of a fixed number, which go back to the reader: memory is bounded
//! whatever the disk, and a slow part slows the others down. Steps are numbered by the reader and
//! taken by the assembler in that order.

mod plan;
mod tree;
mod workers;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use calotype_disk::Disk;

use self::plan::{Step, Steps};
use self::tree::{NodeSink, TreeBuilder};
use self::workers::{Batch, Found, WorkDone};
use crate::backend::Key;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::{BATCH_CHUNKS, CHUNK_BYTES, NODE_BYTES, VIRTUAL_SIZE_BYTES_MAX, WORKERS_MAX};
use crate::liveness::CommitNumber;
use crate::manifest::{ROOT_BYTES, Root};
use crate::pack::codec::Packer;
use crate::pack::{PackWriter, Publish};
use crate::partial::{Partial, PartialId};
use crate::progress::Progress;
use crate::registry::Pin;
use crate::stored_disk::StoredDisk;

/// A committed disk. While it is alive its manifest and chunks are not collected, so the caller
/// keeps it until the manifest is recorded where [`crate::Store::collect`] finds its roots.
#[derive(Debug)]
#[must_use = "dropping it leaves the manifest to the next collection"]
pub struct Committed {
    /// The name of the disk.
    pub manifest: ManifestId,
    /// The size of the virtual disk.
    pub size_bytes: u64,
    /// Bytes read from the disk that was committed, and from its base.
    pub bytes_read: u64,
    /// Bytes that the store grew by.
    pub bytes_stored: u64,
    /// Chunks (of data) that the store did not have.
    pub chunks_new: u64,
    /// Chunks that were read and turned out to be stored already.
    pub chunks_reused: u64,
    _pin: Pin,
}

/// What goes to the assembler, with the number of the step.
type Message = (u64, Content);

enum Content {
    Read(WorkDone),
    Keep {
        chunks: u64,
    },
    Hole {
        chunks: u64,
    },
    /// The disk ends here.
    End,
}

/// See [`crate::Store::commit`], and with `work` [`crate::Store::commit_resumable`].
pub(crate) fn commit(
    core: &Arc<Core>,
    disk: &dyn Disk,
    base: Option<ManifestId>,
    work: Option<PartialId>,
    progress: &dyn Progress,
) -> Result<Committed> {
    let size_bytes = disk.size_bytes();
    if size_bytes > VIRTUAL_SIZE_BYTES_MAX {
        let context = format!("disk of {size_bytes} bytes, over {VIRTUAL_SIZE_BYTES_MAX}");
        return Err(Error::new(ErrorKind::TooLarge, context));
    }
    // Before anything is looked up: from here on, what is found stays.
    let active = core.registry.begin_commit(work);
    let base_id = base;
    let base = base.map(|id| StoredDisk::open(core, id)).transpose()?;
    let base_disk = base.as_ref().map(|base| base as &dyn Disk);
    let begun = work.and_then(|work| begun(core, active.number, work, size_bytes, base_id));
    let position = begun.as_ref().map_or(0, |partial| partial.position);
    let steps = Steps::of(disk, base_disk, position, progress)?;
    let total_bytes = match position {
        0 => steps.total_bytes,
        _ => Steps::of(disk, base_disk, 0, progress)?.total_bytes,
    };
    let done_bytes = total_bytes.saturating_sub(steps.total_bytes);
    progress.advance(done_bytes, total_bytes);

    let read_bytes = AtomicU64::new(0);
    let built = build(&Commit {
        core,
        disk,
        base: base.as_ref(),
        number: active.number,
        work,
        begun,
        steps,
        progress,
        done_bytes,
        total_bytes,
        read_bytes: &read_bytes,
    })?;
    check_cancelled(progress)?;

    // Everything that the root reaches is durable and visible; now the root.
    let root = built.root.encode();
    let manifest = ManifestId::of(&root);
    let pin = core.registry.pin_unpublished(manifest);
    let grown = publish_root(core, manifest, &root)?;
    active.publish(manifest);
    if let Some(work) = work
        && let Err(error) = Partial::remove(core, work)
    {
        // It is forgotten when it is old.
        tracing::warn!(%error, %work, "the partial of a commit that has ended stays");
    }
    progress.advance(total_bytes, total_bytes);
    Ok(Committed {
        manifest,
        size_bytes,
        bytes_read: read_bytes.into_inner(),
        bytes_stored: built.stored_bytes + grown,
        chunks_new: built.chunks_new,
        chunks_reused: built.chunks_reused,
        _pin: pin,
    })
}

/// What an earlier commit of the same work left, if it is sound.
fn begun(
    core: &Core,
    commit: CommitNumber,
    work: PartialId,
    size_bytes: u64,
    base: Option<ManifestId>,
) -> Option<Partial> {
    if !core.registry.lock().partials.contains_key(&work) {
        return None;
    }
    let read = || {
        let partial = Partial::read(core, work)?;
        let usable = partial.fits(size_bytes, base) && partial.is_whole(core, commit)?;
        Ok::<_, Error>(usable.then_some(partial))
    };
    match read() {
        Ok(Some(partial)) => Some(partial),
        Ok(None) => {
            tracing::warn!(%work, "a partial is of other work or not whole, beginning anew");
            None
        }
        Err(error) => {
            tracing::warn!(%work, %error, "a partial cannot be used, beginning anew");
            None
        }
    }
}

/// Makes a manifest visible; answers what the store grew by.
fn publish_root(core: &Core, manifest: ManifestId, root: &[u8]) -> Result<u64> {
    // The pin is older than this look: a manifest that is there now is not collected any more.
    if core.registry.lock().manifests.contains(&manifest) && core.root(manifest).is_ok() {
        return Ok(0);
    }
    core.registry.begin_publishing(manifest);
    let mut upload = core.backend.create(Key::Manifest(manifest))?;
    upload.append(root)?;
    upload.finish()?;
    Ok(ROOT_BYTES as u64)
}

/// One commit, as its threads share it.
struct Commit<'a> {
    core: &'a Arc<Core>,
    disk: &'a dyn Disk,
    base: Option<&'a StoredDisk>,
    number: CommitNumber,
    work: Option<PartialId>,
    begun: Option<Partial>,
    steps: Steps,
    progress: &'a dyn Progress,
    /// Of the total, done before this commit.
    done_bytes: u64,
    total_bytes: u64,
    read_bytes: &'a AtomicU64,
}

/// What the assembler leaves.
struct Built {
    root: Root,
    stored_bytes: u64,
    chunks_new: u64,
    chunks_reused: u64,
}

fn build(commit: &Commit<'_>) -> Result<Built> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
    let buffers = 2 * workers + 2;
    let (free_sender, free) = sync_channel(buffers);
    for _ in 0..buffers {
        // There is room for all of them.
        let _ = free_sender.send(Vec::with_capacity(BATCH_CHUNKS * CHUNK_BYTES));
    }
    // Not bounded by themselves: batches are by their buffers, and the rest is small and rare.
    let (message_sender, messages) = channel();
    let (work_sender, work) = channel();
    let work = std::sync::Mutex::new(work);
    let work = &work;
    let core: &Core = commit.core;
    let number = commit.number;

    thread::scope(|scope| {
        for _ in 0..workers {
            let messages = message_sender.clone();
            scope.spawn(move || {
                workers::run(core, number, work, |number, done| {
                    messages.send((number, Content::Read(done))).is_ok()
                });
            });
        }
        let assembling = scope.spawn(|| {
            let writer = PackWriter::new(core, scope, Publish::New(number));
            Assembler::new(commit, writer, messages, free_sender)?.run()
        });
        let read = Reader { commit, free, work: work_sender, messages: message_sender }.run();
        let built = match assembling.join() {
            Ok(built) => built,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        match (read, built) {
            // The reader fails alone, or because the assembler did.
            (Err(Some(error)), _) | (_, Err(error)) => Err(error),
            (_, Ok(built)) => Ok(built),
        }
    })
}

fn check_cancelled(progress: &dyn Progress) -> Result<()> {
    if progress.cancelled() { Err(aborted()) } else { Ok(()) }
}

fn aborted() -> Error {
    Error::new(ErrorKind::Cancelled, "commit cancelled")
}

/// Follows the plan and reads.
struct Reader<'a> {
    commit: &'a Commit<'a>,
    free: Receiver<Vec<u8>>,
    work: Sender<Batch>,
    messages: Sender<Message>,
}

impl Reader<'_> {
    /// Fails with none if nobody listens any more.
    fn run(self) -> std::result::Result<(), Option<Error>> {
        let commit = self.commit;
        let base = commit.base.map(|base| base as &dyn Disk);
        let mut walk = commit.steps.walk(commit.disk, base);
        let mut number = 0;
        while let Some(step) = walk.next()? {
            check_cancelled(commit.progress)?;
            let content = match step {
                Step::Keep { chunks } => Content::Keep { chunks },
                Step::Hole { chunks } => Content::Hole { chunks },
                Step::Read { first, chunks } => {
                    let mut bytes = self.free.recv().map_err(|_| None)?;
                    let disk_bytes = plan::read(commit.disk, base, first, chunks, &mut bytes)?;
                    commit.read_bytes.fetch_add(disk_bytes, Ordering::Relaxed);
                    let batch = Batch { number, bytes, disk_bytes };
                    self.work.send(batch).map_err(|_| None)?;
                    number += 1;
                    continue;
                }
            };
            self.messages.send((number, content)).map_err(|_| None)?;
            number += 1;
        }
        self.messages.send((number, Content::End)).map_err(|_| None)
    }
}

/// Takes the steps in their order: builds the tree, writes what is new. Its channels end with it,
/// which is how the others learn that it failed.
struct Assembler<'scope, 'env> {
    commit: &'env Commit<'env>,
    messages: Receiver<Message>,
    free: SyncSender<Vec<u8>>,
    tree: TreeBuilder<'env>,
    out: Output<'scope, 'env>,
    done_bytes: u64,
}

/// The part of the assembler that stores chunks, so that the tree can use it.
struct Output<'scope, 'env> {
    core: &'env Core,
    number: CommitNumber,
    writer: PackWriter<'scope, 'env>,
    packer: Packer,
    chunks_new: u64,
    chunks_reused: u64,
}

impl NodeSink for Output<'_, '_> {
    fn node(&mut self, node: Vec<u8>) -> Result<ChunkId> {
        let id = ChunkId::of(&node);
        if !self.writer.holds(id) && !self.core.touch(self.number, id)? {
            let packed = self.packer.pack(id, &node);
            self.writer.append(id, NODE_BYTES, &packed)?;
        }
        Ok(id)
    }
}

impl<'scope, 'env> Assembler<'scope, 'env> {
    fn new(
        commit: &'env Commit<'env>,
        writer: PackWriter<'scope, 'env>,
        messages: Receiver<Message>,
        free: SyncSender<Vec<u8>>,
    ) -> Result<Self> {
        let base = commit.base.map(StoredDisk::root);
        let mut tree = TreeBuilder::new(commit.core, commit.disk.size_bytes(), base);
        if let Some(begun) = &commit.begun {
            tree.resume(begun);
        }
        Ok(Self {
            commit,
            messages,
            free,
            tree,
            out: Output {
                core: commit.core,
                number: commit.number,
                writer,
                packer: Packer::new().map_err(|error| Error::io("preparing zstd", error))?,
                chunks_new: 0,
                chunks_reused: 0,
            },
            done_bytes: commit.done_bytes,
        })
    }

    fn run(mut self) -> Result<Built> {
        let mut waiting = BTreeMap::new();
        'disk: for next in 0.. {
            let content = loop {
                if let Some(content) = waiting.remove(&next) {
                    break content;
                }
                // Without an end the reader failed, and knows why.
                let (number, content) = self.messages.recv().map_err(|_| aborted())?;
                waiting.insert(number, content);
            };
            match content {
                Content::End => break 'disk,
                Content::Keep { chunks } => self.tree.keep(chunks, &mut self.out)?,
                Content::Hole { chunks } => self.tree.hole(chunks, &mut self.out)?,
                Content::Read(done) => self.take(done)?,
            }
        }
        let root = self.tree.finish(&mut self.out)?;
        check_cancelled(self.commit.progress)?;
        self.out.writer.finish()?;
        Ok(Built {
            root,
            stored_bytes: self.out.writer.stored_bytes(),
            chunks_new: self.out.chunks_new,
            chunks_reused: self.out.chunks_reused,
        })
    }

    /// Ends a pack. When it is durable, so is all of the tree so far.
    fn roll(&mut self) -> Result<()> {
        let Some(work) = self.commit.work else { return self.out.writer.roll(|_| Ok(())) };
        let partial = self.tree.partial(self.commit.base.map(StoredDisk::manifest));
        self.out.writer.roll(move |core| partial.write(core, work))
    }

    fn take(&mut self, done: WorkDone) -> Result<()> {
        for found in done.chunks? {
            let id = self.out.store(found)?;
            self.tree.chunk(id, &mut self.out)?;
            if self.out.writer.is_full() {
                self.roll()?;
            }
        }
        // The reader may have finished; then nobody needs the buffer.
        let _ = self.free.send(done.buffer);
        self.done_bytes += done.disk_bytes;
        // All of it is done only when it is durable.
        if self.done_bytes < self.commit.total_bytes {
            self.commit.progress.advance(self.done_bytes, self.commit.total_bytes);
        }
        Ok(())
    }
}

impl Output<'_, '_> {
    fn store(&mut self, found: Found) -> Result<ChunkId> {
        match found {
            Found::Hole => Ok(ChunkId::HOLE),
            Found::Known(id) => {
                self.chunks_reused += 1;
                Ok(id)
            }
            // New to the worker; another batch or commit may have brought it since.
            Found::New(id, _) if self.writer.holds(id) || self.core.touch(self.number, id)? => {
                self.chunks_reused += 1;
                Ok(id)
            }
            Found::New(id, packed) => {
                self.chunks_new += 1;
                self.writer.append(id, CHUNK_BYTES, &packed)?;
                Ok(id)
            }
        }
    }
}
