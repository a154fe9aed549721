//! The part of a commit that uses all cores: is a chunk zero, what is its name, is it known, and if
//! not, how does it look packed.

use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

use crate::core::Core;
use crate::error::Result;
use crate::id::ChunkId;
use crate::limits::CHUNK_BYTES;
use crate::liveness::CommitNumber;
use crate::pack::codec::{Packed, Packer};

static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// Chunks that follow each other.
pub(super) struct Batch {
    pub(super) number: u64,
    /// Whole chunks.
    pub(super) bytes: Vec<u8>,
    /// How many of the bytes are of the disk, i.e. no padding.
    pub(super) disk_bytes: u64,
}

/// A batch that a worker has looked through.
pub(super) struct WorkDone {
    pub(super) chunks: Result<Vec<Found>>,
    /// To be used again.
    pub(super) buffer: Vec<u8>,
    pub(super) disk_bytes: u64,
}

/// What a chunk turned out to be.
pub(super) enum Found {
    Hole,
    Known(ChunkId),
    New(ChunkId, Packed),
}

/// Works until there is no more, or until `send` answers that nobody listens.
pub(super) fn run(
    core: &Core,
    commit: CommitNumber,
    work: &Mutex<Receiver<Batch>>,
    send: impl Fn(u64, WorkDone) -> bool,
) {
    // Without a packer the batches are not answered, which the assembler notices.
    let Ok(mut packer) = Packer::new() else { return };
    loop {
        // Only one worker waits for work, the others for their turn.
        let batch = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Batch { number, bytes, disk_bytes }) = batch else { return };
        let chunks = bytes
            .chunks_exact(CHUNK_BYTES)
            .map(|chunk| look(core, commit, &mut packer, chunk))
            .collect();
        if !send(number, WorkDone { chunks, buffer: bytes, disk_bytes }) {
            return;
        }
    }
}

fn look(core: &Core, commit: CommitNumber, packer: &mut Packer, chunk: &[u8]) -> Result<Found> {
    if chunk == ZEROS {
        return Ok(Found::Hole);
    }
    let id = ChunkId::of(chunk);
    if core.touch(commit, id)? {
        return Ok(Found::Known(id));
    }
    Ok(Found::New(id, packer.pack(id, chunk)))
}
