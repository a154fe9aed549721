//! The service's side: a disk whose file another process reads.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use calotype_disk::limits::VIRTUAL_SIZE_BYTES_MAX;
use calotype_disk::{Disk, ErrorKind, Extent, ExtentKind, FormatName, Source};
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes as _;

use crate::channel::{Channel, Message, unexpected};
use crate::error::{Error, Result};
use crate::limits::{
    EXTENTS_MAX, MESSAGE_BYTES_MAX, PIECE_BYTES_MAX, SECTOR_BYTES, SILENCE_MAX, STOPPED_WAIT_MAX,
};
use crate::protocol::{EXTENT_KINDS, Failure, Opened, Order, RawExtent, Word};

/// The status of a program that panicked.
const PANICKED: i32 = 101;

/// What a file is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    /// A disk of this format; compressed as a whole or not.
    Disk(FormatName),
    /// An `.oci` archive.
    Archive,
}

/// A file to be opened.
pub struct Request {
    /// The command line of a process that calls [`crate::run`] and nothing else.
    pub reader: Vec<OsString>,
    /// The file.
    pub source: Box<dyn Source>,
    /// What it is said to be; anything else is refused.
    pub expected: Expected,
    /// The largest virtual disk.
    pub virtual_size_bytes_max: u64,
    /// The largest file, and the most that a compressed one unpacks to.
    pub file_size_bytes_max: u64,
    /// Whether nobody wants the disk any more; asked again and again.
    pub cancelled: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A disk in a foreign file. The process that reads it ends with it.
pub struct ConfinedDisk {
    opened: Opened,
    reader: Mutex<Reader>,
    /// What the last question about runs was answered with: where they begin, and the runs.
    extents: Mutex<Arc<Vec<(u64, Extent)>>>,
}

struct Reader {
    process: Child,
    channel: Channel,
    source: Box<dyn Source>,
    cancelled: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether the source failed, so that the file is not blamed.
    source_failed: bool,
    room: Vec<u8>,
}

/// What a call ends with.
enum Answer {
    Done(Message),
    Failed(calotype_disk::Error),
}

impl ConfinedDisk {
    /// Starts a process that opens the file, and waits for its verdict.
    pub fn open(request: Request) -> Result<Self> {
        let order = Order {
            file_bytes: request.source.length_bytes(),
            expected: request.expected,
            virtual_size_bytes_max: request.virtual_size_bytes_max,
            file_size_bytes_max: request.file_size_bytes_max,
        };
        let size_bytes_max = order.virtual_size_bytes_max.min(VIRTUAL_SIZE_BYTES_MAX);
        let expected = request.expected;
        let mut reader = Reader::start(request)?;
        let order = serde_json::to_vec(&order).map_err(io::Error::other).map_err(Error::Reader)?;
        let answer = reader.call(|channel| channel.say(Word::Open, &order));
        let message = match answer.map_err(|error| reader.failed(error))? {
            Answer::Done(message) => message,
            Answer::Failed(error) if reader.source_failed => return Err(Error::Source(error)),
            Answer::Failed(error) => return Err(Error::Refused(error)),
        };
        let opened = reader.channel.read_all(message, MESSAGE_BYTES_MAX);
        let opened: Opened = opened
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other))
            .map_err(Error::Reader)?;
        let format = match expected {
            Expected::Disk(format) => format,
            Expected::Archive => FormatName::Qcow2,
        };
        if opened.size_bytes > size_bytes_max || opened.format != format {
            return Err(Error::Reader(unexpected("not what was asked for was opened")));
        }
        Ok(Self { opened, reader: Mutex::new(reader), extents: Mutex::default() })
    }

    /// What was found out about the file.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_extents(&self) -> MutexGuard<'_, Arc<Vec<(u64, Extent)>>> {
        self.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Short runs are refused: a walk over them would take for ever.
    fn may_be(&self, position: u64, length_bytes: u64) -> bool {
        let left = self.opened.size_bytes - position;
        (1..=left).contains(&length_bytes)
            && (length_bytes == left || (position + length_bytes).is_multiple_of(SECTOR_BYTES))
    }

    fn ask_extents(&self, offset: u64) -> calotype_disk::Result<Vec<(u64, Extent)>> {
        let mut reader = self.reader();
        let asked = reader.call(|channel| channel.ask(Word::Extents, offset, 0));
        let answer = match asked.map_err(|error| reader.ended(error))? {
            Answer::Done(message) => message,
            Answer::Failed(error) => return Err(reader.blame(error)),
        };
        let bytes = reader.channel.read_all(answer, EXTENTS_MAX * size_of::<RawExtent>());
        let bytes = bytes.map_err(ended)?;
        drop(reader);
        let runs = <[RawExtent]>::ref_from_bytes(&bytes).unwrap_or_default();
        let mut extents = Vec::with_capacity(runs.len());
        let mut position = offset;
        for run in runs {
            let kind = EXTENT_KINDS.get(run.kind.get() as usize).copied();
            let length_bytes = run.length_bytes.get();
            match kind {
                Some(kind) if self.may_be(position, length_bytes) => {
                    extents.push((position, Extent { length_bytes, kind }));
                    position += length_bytes;
                }
                _ => return Err(ended(unexpected("a run that cannot be"))),
            }
            if position == self.opened.size_bytes {
                break;
            }
        }
        Ok(extents)
    }
}

impl Disk for ConfinedDisk {
    fn size_bytes(&self) -> u64 {
        self.opened.size_bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> calotype_disk::Result<()> {
        calotype_disk::check_range(self.opened.size_bytes, offset, buf.len())?;
        let mut reader = self.reader();
        let mut offset = offset;
        for piece in buf.chunks_mut(PIECE_BYTES_MAX) {
            let length = piece.len();
            let asked = reader.call(|channel| channel.ask(Word::Read, offset, length));
            match asked.map_err(|error| reader.ended(error))? {
                Answer::Done(message) if message.length == length => {
                    let read = reader.channel.read(piece);
                    read.map_err(|error| reader.ended(error))?;
                }
                Answer::Done(_) => return Err(ended(unexpected("an answer of a wrong length"))),
                Answer::Failed(error) => return Err(reader.blame(error)),
            }
            offset += length as u64;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        calotype_disk::check_offset(self.opened.size_bytes, offset)?;
        let known = Arc::clone(&self.last_extents());
        if let Some(extent) = find(&known, offset) {
            return Ok(extent);
        }
        let asked = Arc::new(self.ask_extents(offset)?);
        let extent = find(&asked, offset);
        *self.last_extents() = asked;
        extent.ok_or_else(|| ended(unexpected("no run was answered")))
    }
}

/// The run that holds `offset`, from there on.
fn find(extents: &[(u64, Extent)], offset: u64) -> Option<Extent> {
    let after = extents.partition_point(|(start, _)| *start <= offset);
    let (start, extent) = *extents.get(after.checked_sub(1)?)?;
    let passed = offset - start;
    let kind = match extent.kind {
        // A file that stands alone has nothing below it.
        ExtentKind::Parent => ExtentKind::Zero,
        kind => kind,
    };
    (passed < extent.length_bytes)
        .then(|| Extent { length_bytes: extent.length_bytes - passed, kind })
}

fn over_the_limits() -> calotype_disk::Error {
    let why = "it cannot be read within the limits of memory and processor time";
    calotype_disk::Error::new(ErrorKind::Corrupt, why)
}

fn ended(error: io::Error) -> calotype_disk::Error {
    calotype_disk::Error::new(ErrorKind::Io, "the process that reads the file failed")
        .with_source(error)
}

impl Reader {
    fn start(request: Request) -> Result<Self> {
        let Request { reader, source, cancelled, .. } = request;
        let start = || {
            let (program, words) =
                reader.split_first().ok_or_else(|| unexpected("no command line for the reader"))?;
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_read_timeout(Some(SILENCE_MAX))?;
            ours.set_write_timeout(Some(SILENCE_MAX))?;
            let process = Command::new(program)
                .args(words)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            Ok(Self {
                process,
                channel: Channel(ours),
                source,
                cancelled,
                source_failed: false,
                room: Vec::new(),
            })
        };
        start().map_err(Error::Reader)
    }

    /// Asks, and brings what the reader needs until it answers.
    fn call(&mut self, ask: impl FnOnce(&mut Channel) -> io::Result<()>) -> io::Result<Answer> {
        ask(&mut self.channel)?;
        loop {
            if (self.cancelled)() {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            let message = self.channel.receive()?;
            match message.word {
                Word::Done => return Ok(Answer::Done(message)),
                Word::Failed => {
                    let bytes = self.channel.read_all(message, MESSAGE_BYTES_MAX)?;
                    let failure: Failure = serde_json::from_slice(&bytes)?;
                    return Ok(Answer::Failed(failure.error()));
                }
                Word::Bring => self.bring(message)?,
                Word::Hole => self.hole(message)?,
                Word::Open | Word::Read | Word::Extents => {
                    return Err(unexpected("the reader gave an order"));
                }
            }
        }
    }

    fn bring(&mut self, message: Message) -> io::Result<()> {
        let Message { length, offset, .. } = message;
        let inside = length as u64 <= self.source.length_bytes().saturating_sub(offset);
        if length > PIECE_BYTES_MAX || !inside {
            return Err(unexpected("the reader wants more than there is"));
        }
        self.room.resize(length, 0);
        match self.source.read_at(offset, &mut self.room) {
            Ok(()) => self.channel.say(Word::Done, &self.room),
            Err(error) => {
                self.source_failed = true;
                tracing::warn!(%error, offset, "a file that is being read failed");
                self.channel.say(Word::Failed, error.to_string().as_bytes())
            }
        }
    }

    fn hole(&mut self, message: Message) -> io::Result<()> {
        let (length, is_data) = match self.source.extent_at(message.offset) {
            Ok(run) => run,
            Err(_) => (self.source.length_bytes().saturating_sub(message.offset), true),
        };
        let mut bytes = [0; 9];
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        bytes[8] = u8::from(is_data);
        self.channel.say(Word::Done, &bytes)
    }

    /// Why the file was not opened.
    fn failed(&mut self, error: io::Error) -> Error {
        if (self.cancelled)() {
            Error::Cancelled
        } else if self.was_stopped() {
            Error::Refused(over_the_limits())
        } else {
            Error::Reader(error)
        }
    }

    /// Why a disk that was opened could not be read any more.
    fn ended(&mut self, error: io::Error) -> calotype_disk::Error {
        if self.was_stopped() { over_the_limits() } else { ended(error) }
    }

    /// A failure that the storage of the file has no part in is the file's, and is so next time.
    fn blame(&self, error: calotype_disk::Error) -> calotype_disk::Error {
        if error.kind() == ErrorKind::Io && !self.source_failed {
            return calotype_disk::Error::new(ErrorKind::Corrupt, error.to_string());
        }
        error
    }

    /// Whether a limit ended the reader, or a mistake of its own that the file brought about.
    fn was_stopped(&mut self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < STOPPED_WAIT_MAX {
            match self.process.try_wait() {
                Ok(Some(status)) => {
                    return status.signal().is_some() || status.code() == Some(PANICKED);
                }
                // Its socket is closed before it is seen to have ended.
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Either may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
