//! Writing packs: chunks go into one pack until it is full; a full one becomes durable and
//! visible on a thread of its own while the next is filled.

use std::collections::HashSet;
use std::thread::{Scope, ScopedJoinHandle};

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U32, U64};

use super::codec::Packed;
use super::format::{
    ENTRY_BYTES, HEADER_BYTES, HEADER_MAGIC, RECORD_BYTES, RawHeader, RawTrailer, TRAILER_BYTES,
    TRAILER_MAGIC, VERSION, footer_checksum,
};
use super::{PackId, Record};
use crate::backend::{Key, Upload};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::index::{Adding, PackInfo};
use crate::limits::{PACK_BYTES_MAX, PACK_CHUNKS_MAX, PACK_CHUNKS_SPARED};
use crate::liveness::CommitNumber;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// How the chunks of a finished pack enter the index.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Publish {
    /// As new, and relied on by this commit.
    New(CommitNumber),
    /// As copies that replace the originals, where those are still wanted.
    Moved,
}

/// Writes packs for one commit or one collection. Every chunk is in the index as soon as its pack
/// is visible, and no earlier.
pub(crate) struct PackWriter<'scope, 'env> {
    core: &'env Core,
    scope: &'scope Scope<'scope, 'env>,
    publish: Publish,
    current: Option<OpenPack>,
    sealing: Option<Sealing<'scope>>,
    stored_bytes: u64,
}

struct Sealing<'scope> {
    ids: HashSet<ChunkId>,
    thread: ScopedJoinHandle<'scope, Result<()>>,
}

impl<'scope, 'env> PackWriter<'scope, 'env> {
    pub(crate) fn new(
        core: &'env Core,
        scope: &'scope Scope<'scope, 'env>,
        publish: Publish,
    ) -> Self {
        Self { core, scope, publish, current: None, sealing: None, stored_bytes: 0 }
    }

    /// Whether the chunk is in a pack of this writer that is not in the index yet.
    pub(crate) fn holds(&self, id: ChunkId) -> bool {
        self.current.as_ref().is_some_and(|pack| pack.ids.contains(&id))
            || self.sealing.as_ref().is_some_and(|pack| pack.ids.contains(&id))
    }

    /// Bytes of all packs so far, those of the unfinished one included.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Appends a chunk of `plain_bytes` plain bytes.
    pub(crate) fn append(
        &mut self,
        id: ChunkId,
        plain_bytes: usize,
        packed: &Packed,
    ) -> Result<()> {
        if self.current.is_none() {
            self.stored_bytes += HEADER_BYTES + TRAILER_BYTES;
            self.current = Some(OpenPack::create(self.core)?);
        }
        if let Some(pack) = &mut self.current {
            pack.append(id, plain_bytes, packed)?;
            self.stored_bytes += ENTRY_BYTES + packed.payload.len() as u64 + RECORD_BYTES;
        }
        Ok(())
    }

    /// Whether it is time to [`PackWriter::roll`]. Between two looks at this no more than
    /// [`PACK_CHUNKS_SPARED`] chunks may be appended.
    pub(crate) fn is_full(&self) -> bool {
        let bytes_max = self.core.options.pack_bytes.min(PACK_BYTES_MAX);
        self.current.as_ref().is_some_and(|pack| {
            pack.length_bytes() >= bytes_max
                || pack.records.len() >= PACK_CHUNKS_MAX - PACK_CHUNKS_SPARED
        })
    }

    /// Makes everything that was appended durable and visible.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.roll(|_| Ok(()))?;
        self.wait()
    }

    /// Ends the pack that is being filled; it becomes durable on a thread of its own, which then
    /// does `afterwards`.
    pub(crate) fn roll(
        &mut self,
        afterwards: impl FnOnce(&Core) -> Result<()> + Send + 'scope,
    ) -> Result<()> {
        // One at a time: bounds what is in memory, and packs become visible in their order.
        self.wait()?;
        if let Some(mut pack) = self.current.take() {
            let (core, publish) = (self.core, self.publish);
            let ids = std::mem::take(&mut pack.ids);
            let thread = self.scope.spawn(move || {
                pack.seal(core, publish)?;
                afterwards(core)
            });
            self.sealing = Some(Sealing { ids, thread });
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        match self.sealing.take() {
            None => Ok(()),
            Some(sealing) => match sealing.thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }
}

/// A pack that is being filled. Dropped, it leaves nothing behind.
struct OpenPack {
    pack: PackId,
    upload: Box<dyn Upload>,
    buffer: Vec<u8>,
    written_bytes: u64,
    records: Vec<Record>,
    ids: HashSet<ChunkId>,
}

impl OpenPack {
    fn create(core: &Core) -> Result<Self> {
        let pack = PackId::fresh();
        let upload = core.backend.create(Key::Pack(pack))?;
        let header =
            RawHeader { magic: HEADER_MAGIC, version: U32::new(VERSION), reserved: U32::ZERO };
        Ok(Self {
            pack,
            upload,
            buffer: header.as_bytes().to_vec(),
            written_bytes: 0,
            records: Vec::new(),
            ids: HashSet::new(),
        })
    }

    fn length_bytes(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    fn append(&mut self, id: ChunkId, plain_bytes: usize, packed: &Packed) -> Result<()> {
        let Packed { codec, payload, checksum } = packed;
        let offset = u32::try_from(self.length_bytes() + ENTRY_BYTES)
            .map_err(|_| Error::corrupt(format!("pack {} too long", self.pack)))?;
        let record = Record {
            id,
            offset,
            stored_bytes: payload.len() as u32,
            plain_bytes: plain_bytes as u32,
            codec: *codec,
            checksum: *checksum,
        };
        self.buffer.extend_from_slice(record.to_entry().as_bytes());
        self.buffer.extend_from_slice(payload);
        self.records.push(record);
        self.ids.insert(id);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.upload.append(&self.buffer)?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn seal(mut self, core: &Core, publish: Publish) -> Result<()> {
        let records_offset = self.length_bytes();
        let mut records = Vec::with_capacity(self.records.len() * RECORD_BYTES as usize);
        for record in &self.records {
            records.extend_from_slice(record.to_raw().as_bytes());
        }
        let mut trailer = RawTrailer {
            records_offset: U64::new(records_offset),
            records: U32::new(self.records.len() as u32),
            version: U32::new(VERSION),
            checksum: [0; 32],
            reserved: U64::ZERO,
            magic: TRAILER_MAGIC,
        };
        trailer.checksum = footer_checksum(&records, &trailer);
        self.buffer.extend_from_slice(&records);
        self.buffer.extend_from_slice(trailer.as_bytes());
        self.flush()?;
        let info = PackInfo { id: self.pack, length_bytes: self.written_bytes, scanned: false };
        let records = &self.records;
        let result = self.upload.finish().and_then(|()| enter(core, publish, info, records));
        if result.is_err()
            // Nobody would know of it before the next start.
            && let Err(error) = core.backend.delete(&[Key::Pack(info.id)])
        {
            tracing::warn!(pack = %info.id, %error, "a pack that is of no use stays");
        }
        result
    }
}

/// Lets the chunks of a pack be read.
fn enter(core: &Core, publish: Publish, info: PackInfo, records: &[Record]) -> Result<()> {
    let number = core.index.number_pack();
    match publish {
        Publish::New(commit) => {
            core.registry.liveness.own(commit, number);
            let again = core.index.add_pack(number, info, records, Adding::New)?;
            if !again.is_empty() {
                core.registry.liveness.moved(&again);
            }
        }
        Publish::Moved => {
            let moved = core.index.add_pack(number, info, records, Adding::Moved)?;
            core.registry.liveness.moved(&moved);
        }
    }
    Ok(())
}
