//! The reader's side: the process that parses a file it cannot open.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calotype_disk::oci_archive::OciArchive;
use calotype_disk::{Disk, FormatName, OpenLimits, Source};
use zerocopy::IntoBytes as _;
use zerocopy::byteorder::little_endian::{U32, U64};

use crate::channel::{Channel, Message, unexpected};
use crate::confinement::{Confinement, confine};
use crate::disk::Expected;
use crate::limits::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, BLOCKS_MAX, EXTENTS_MAX, MESSAGE_BYTES_MAX, PIECE_BYTES_MAX,
    READER_BYTES_PER_CPU_SECOND, READER_CPU_SECONDS,
};
use crate::protocol::{EXTENT_KINDS, Failure, Opened, Order, RawExtent, Word};

/// Reads one file for the service at the other end of standard input, which must be a socket, until it
/// is closed. The process is confined for good before it looks at anything: it can do nothing else
/// afterwards.
pub fn run() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let channel = Arc::new(Mutex::new(Channel(socket)));
    let order = receive_order(&channel)?;
    let cpu_seconds_max = READER_CPU_SECONDS + order.file_bytes / READER_BYTES_PER_CPU_SECOND;
    let confinement = confine(cpu_seconds_max)?;
    let file = Served {
        channel: Arc::clone(&channel),
        length_bytes: order.file_bytes,
        blocks: Mutex::default(),
    };
    let disk = match open(Box::new(file), &order, confinement) {
        Ok((opened, disk)) => {
            let opened = serde_json::to_vec(&opened)?;
            lock(&channel).say(Word::Done, &opened)?;
            disk
        }
        Err(error) => return fail(&channel, &error),
    };
    serve(&channel, &*disk)
}

fn receive_order(channel: &Mutex<Channel>) -> io::Result<Order> {
    let mut channel = lock(channel);
    let message = channel.receive()?;
    if message.word != Word::Open {
        return Err(unexpected("no order to open a file"));
    }
    let order = channel.read_all(message, MESSAGE_BYTES_MAX)?;
    Ok(serde_json::from_slice(&order)?)
}

fn open(
    file: Box<dyn Source>,
    order: &Order,
    confinement: Confinement,
) -> calotype_disk::Result<(Opened, Box<dyn Disk>)> {
    let limits = OpenLimits {
        virtual_size_bytes_max: order.virtual_size_bytes_max,
        file_size_bytes_max: order.file_size_bytes_max,
    };
    let (format, disk, metadata) = match order.expected {
        Expected::Disk(format) => {
            let (format, disk) = calotype_disk::open(file, Some(format), &limits)?;
            (format, disk, None)
        }
        Expected::Archive => {
            let archive = OciArchive::open(file, &limits)?;
            (FormatName::Qcow2, archive.disk, Some(archive.metadata))
        }
    };
    let opened = Opened { format, size_bytes: disk.size_bytes(), metadata, confinement };
    Ok((opened, disk))
}

fn serve(channel: &Mutex<Channel>, disk: &dyn Disk) -> io::Result<()> {
    let mut room = Vec::new();
    loop {
        let message = match lock(channel).receive() {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        // Nothing is locked while the disk is read: reading it asks for bytes of the file.
        let answer = match message {
            Message { word: Word::Read, length, offset } if length <= PIECE_BYTES_MAX => {
                room.resize(length, 0);
                disk.read_at(offset, &mut room)
            }
            Message { word: Word::Extents, offset, .. } => {
                extents(disk, offset).map(|runs| room = runs.as_bytes().to_vec())
            }
            _ => return Err(unexpected("an order that cannot be")),
        };
        match answer {
            Ok(()) => lock(channel).say(Word::Done, &room)?,
            Err(error) => fail(channel, &error)?,
        }
    }
}

/// The runs from `offset` on, as many as one answer holds. One that cannot be found out is told when it
/// is the first.
fn extents(disk: &dyn Disk, mut offset: u64) -> calotype_disk::Result<Vec<RawExtent>> {
    let mut runs = Vec::new();
    while offset < disk.size_bytes() && runs.len() < EXTENTS_MAX {
        let extent = match disk.extent_at(offset) {
            Ok(extent) => extent,
            Err(_) if !runs.is_empty() => break,
            Err(error) => return Err(error),
        };
        let kind = EXTENT_KINDS.iter().position(|kind| *kind == extent.kind).unwrap_or(0);
        runs.push(RawExtent {
            length_bytes: U64::new(extent.length_bytes),
            kind: U32::new(kind as u32),
        });
        offset = offset.saturating_add(extent.length_bytes);
    }
    Ok(runs)
}

fn fail(channel: &Mutex<Channel>, error: &calotype_disk::Error) -> io::Result<()> {
    let failure = serde_json::to_vec(&Failure::of(error))?;
    lock(channel).say(Word::Failed, &failure)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file, as the service brings it: in blocks, so that a table read entry by entry or clusters that
/// follow each other cost few questions, and small ones at first, so that a file that is refused
/// was hardly read.
struct Served {
    channel: Arc<Mutex<Channel>>,
    length_bytes: u64,
    blocks: Mutex<Blocks>,
}

/// The blocks brought last, the oldest first.
#[derive(Default)]
struct Blocks {
    kept: VecDeque<(u64, Arc<[u8]>)>,
    /// Where the block that was brought last ends, and how long it was.
    end: u64,
    length: usize,
}

impl Blocks {
    fn find(&self, offset: u64) -> Option<(u64, Arc<[u8]>)> {
        let holds = |(start, block): &&(u64, Arc<[u8]>)| {
            (*start..*start + block.len() as u64).contains(&offset)
        };
        self.kept.iter().rev().find(holds).cloned()
    }

    /// How long the block at `offset` should be: longer and longer while the file is read in order.
    fn next_length(&self, offset: u64) -> usize {
        match self.length {
            length if length > 0 && offset == self.end => (2 * length).min(BLOCK_BYTES_MAX),
            _ => BLOCK_BYTES_MIN,
        }
    }

    fn insert(&mut self, offset: u64, block: Arc<[u8]>) {
        if self.kept.len() == BLOCKS_MAX {
            self.kept.pop_front();
        }
        (self.end, self.length) = (offset + block.len() as u64, block.len());
        self.kept.push_back((offset, block));
    }
}

impl Served {
    /// The block with the byte at `offset`, and where it begins.
    fn block(&self, offset: u64) -> io::Result<(u64, Arc<[u8]>)> {
        let length = {
            let blocks = lock(&self.blocks);
            match blocks.find(offset) {
                Some(found) => return Ok(found),
                None => blocks.next_length(offset),
            }
        };
        let rest = self.length_bytes.saturating_sub(offset);
        let length = usize::try_from(rest).unwrap_or(length).min(length);
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        self.bring(offset, &mut bytes)?;
        let block: Arc<[u8]> = bytes.into();
        lock(&self.blocks).insert(offset, Arc::clone(&block));
        Ok((offset, block))
    }

    fn bring(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut channel = lock(&self.channel);
        channel.ask(Word::Bring, offset, buf.len())?;
        let message = channel.receive()?;
        match message.word {
            Word::Done if message.length == buf.len() => channel.read(buf),
            Word::Failed => {
                let why = channel.read_all(message, MESSAGE_BYTES_MAX)?;
                Err(io::Error::other(String::from_utf8_lossy(&why).into_owned()))
            }
            _ => Err(unexpected("not what was asked for")),
        }
    }
}

impl Source for Served {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        if buf.len() as u64 > self.length_bytes.saturating_sub(offset) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while !buf.is_empty() {
            if buf.len() >= BLOCK_BYTES_MAX {
                let (piece, rest) = buf.split_at_mut(BLOCK_BYTES_MAX);
                self.bring(offset, piece)?;
                offset += piece.len() as u64;
                buf = rest;
                continue;
            }
            let (start, block) = self.block(offset)?;
            let known = block.get((offset - start) as usize..).unwrap_or_default();
            let length = known.len().min(buf.len());
            let (piece, rest) = buf.split_at_mut(length);
            piece.copy_from_slice(known.get(..length).unwrap_or_default());
            offset += length as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> io::Result<(u64, bool)> {
        let mut channel = lock(&self.channel);
        channel.ask(Word::Hole, offset, 0)?;
        let message = channel.receive()?;
        if message.word != Word::Done {
            return Err(unexpected("not what was asked for"));
        }
        let bytes = channel.read_all(message, 9)?;
        let run = bytes.split_first_chunk::<8>().and_then(|(length, rest)| match rest {
            [is_data] => Some((u64::from_le_bytes(*length), *is_data != 0)),
            _ => None,
        });
        run.ok_or_else(|| unexpected("not what was asked for"))
    }
}
