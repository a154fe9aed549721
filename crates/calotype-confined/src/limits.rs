//! Every limit of this crate.

use std::time::Duration;

/// Bytes that are asked for or answered at once.
pub(crate) const PIECE_BYTES_MAX: usize = 4 << 20;

/// Runs that one answer describes.
pub(crate) const EXTENTS_MAX: usize = 4096;

/// The request to open, and its answer: the longest is the metadata of an archive.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Of an error, what is repeated.
pub(crate) const ERROR_BYTES_MAX: usize = 4 << 10;

/// How long the reader may compute without a word.
pub(crate) const SILENCE_MAX: Duration = Duration::from_mins(2);

/// How long it takes at most to see how a reader ended whose socket is closed.
pub(crate) const STOPPED_WAIT_MAX: Duration = Duration::from_millis(200);

/// What the reader may have in memory, and in its address space, where much is only reserved.
pub(crate) const READER_DATA_BYTES_MAX: u64 = 256 << 20;
pub(crate) const READER_ADDRESS_BYTES_MAX: u64 = 4 << 30;

/// Processor time of the reader: this, and a second for each so many bytes of the file, from which all that
/// it unpacks must come.
pub(crate) const READER_CPU_SECONDS: u64 = 60;
pub(crate) const READER_BYTES_PER_CPU_SECOND: u64 = 64 << 10;

/// Guests have no smaller pieces, so no disk has shorter runs but at its end.
pub(crate) const SECTOR_BYTES: u64 = calotype_disk::SECTOR_BYTES;

/// Files that the reader may have open: standard input, output and error, and its socket.
pub(crate) const READER_FILES_MAX: u64 = 8;

/// The reader asks for the file in blocks: the first of this size, the next ones of a run twice as
/// large each, up to the largest.
pub(crate) const BLOCK_BYTES_MIN: usize = 16 << 10;
pub(crate) const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Blocks that the reader keeps.
pub(crate) const BLOCKS_MAX: usize = 8;
