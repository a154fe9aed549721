//! Every limit of this crate. Those of the format are part of it: changing one changes the names
//! of all disks and needs a new format version.

use std::time::Duration;

/// Format: the bytes of disk that one chunk holds. The last chunk of a disk is padded with zeros.
pub(crate) const CHUNK_BYTES: usize = 1 << CHUNK_BITS;
pub(crate) const CHUNK_BITS: u8 = 16;

/// Format: the children of a manifest node.
pub(crate) const FANOUT: usize = 1 << FANOUT_BITS;
pub(crate) const FANOUT_BITS: u8 = 8;

/// Format: the bytes of a manifest node.
pub(crate) const NODE_BYTES: usize = FANOUT * 32;

/// Format: no chunk is larger, so no more is ever reserved to unpack one.
pub(crate) const PLAIN_BYTES_MAX: usize = CHUNK_BYTES;

/// The largest disk.
pub(crate) const VIRTUAL_SIZE_BYTES_MAX: u64 = calotype_disk::limits::VIRTUAL_SIZE_BYTES_MAX;

/// A pack is closed when it has grown to this, unless the caller chose otherwise. Offsets in a pack
/// are 32 bits wide.
pub(crate) const PACK_BYTES: u64 = 128 << 20;
pub(crate) const PACK_BYTES_MAX: u64 = 2 << 30;

/// A pack is closed as well when it holds this many chunks: bounds what a footer costs to read.
pub(crate) const PACK_CHUNKS_MAX: usize = 1 << 16;

/// Room that is left when a pack is closed for its number of chunks: a chunk and the nodes that it
/// makes full are appended before anybody looks.
pub(crate) const PACK_CHUNKS_SPARED: usize = 16;

/// A commit that nobody went on with for so long is forgotten.
pub(crate) const PARTIAL_AGE_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// Chunks that travel together from the reader to a worker and on: 1 MiB of disk.
pub(crate) const BATCH_CHUNKS: usize = 16;

/// Steps of a commit that are remembered, 24 bytes each; a disk with more is looked through twice.
pub(crate) const STEPS_REMEMBERED_MAX: usize = 1 << 16;

/// More workers than this make a commit no faster.
pub(crate) const WORKERS_MAX: usize = 16;

/// Chosen by measurement: see `docs/store-format.md`.
pub(crate) const ZSTD_LEVEL: i32 = 2;

/// Space that the store leaves free on its disk, at most: a commit that used the last of it would stop
/// every guest whose overlay lies there, too.
pub(crate) const RESERVE_BYTES_MAX: u64 = 256 << 20;

/// Of a small disk no more than this share (one of so many parts) is left free.
pub(crate) const RESERVE_SHARE: u64 = 20;

/// How long opening waits for a lock that is only held for a moment longer.
pub(crate) const LOCK_WAIT_MAX: Duration = Duration::from_secs(3);

/// Between two looks at the lock.
pub(crate) const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Pack files kept open for reading.
pub(crate) const OPEN_FILES_MAX: usize = 128;

/// Memory for verified chunks, unless the caller chose otherwise.
pub(crate) const CACHE_BYTES: usize = 128 << 20;

/// Runs looked at to answer one question about extents: 64 MiB of data at most.
pub(crate) const EXTENT_STEPS_MAX: usize = 1024;

/// A pack is rewritten when less than this share of it (in 1/8) is in use.
pub(crate) const PACK_LIVE_EIGHTHS_MIN: u64 = 4;

/// Packs smaller than 1/8 of the usual are merged once there are this many of them.
pub(crate) const SMALL_PACKS_MAX: usize = 16;

/// Memory for pages of the index.
pub(crate) const INDEX_CACHE_BYTES: usize = 64 << 20;

/// The index is made durable at least whenever so many chunks were added: bounds what the next start
/// has to read again after a crash.
pub(crate) const INDEX_FLUSH_CHUNKS: u64 = 1 << 16;

/// Chunks that are gathered from footers before they are added to the index: 300 MiB at most.
pub(crate) const OPENING_CHUNKS: usize = 1 << 21;

/// Packs whose footers are read at the same time when a store is opened.
pub(crate) const OPENING_PACKS: usize = 8;

/// Bytes of the prefix of a store in a bucket: an object's name may have 1024.
pub(crate) const S3_PREFIX_BYTES_MAX: usize = 512;

/// More than a file of credentials has.
pub(crate) const CREDENTIALS_BYTES_MAX: u64 = 16 << 10;

/// What is uploaded to an object store in one request. All parts but the last are of this size, as some
/// servers want; the least that S3 takes is 5 MiB.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Parts of one file that are on their way at the same time: with the one being filled they bound
/// the memory of an upload.
pub(crate) const PARTS_IN_FLIGHT_MAX: usize = 3;

/// One request to an object store, its body included.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Connecting to an object store.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a request is made again, at most; and how long after the first no more.
pub(crate) const RETRIES_MAX: usize = 6;
pub(crate) const RETRY_TIME_MAX: Duration = Duration::from_mins(1);

/// The first wait before a request is made again, and the longest.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(100);
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Connections to an object store that are kept for the next request.
pub(crate) const IDLE_CONNECTIONS_MAX: usize = 16;

/// Threads that wait for an object store; what they do beside it is little.
pub(crate) const REMOTE_THREADS: usize = 2;

/// How long cleaning up waits for a server: for it to forget an upload, or who had a store open.
pub(crate) const ABORT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Of an object store's answer, what is repeated in an error.
pub(crate) const REMOTE_MESSAGE_BYTES_MAX: usize = 1024;

/// The longest mark of an owner of a remote store, and the longest `format`.
pub(crate) const REMOTE_MARK_BYTES_MAX: u64 = 4 << 10;

/// A remote store's owner is looked at again before anything is published, if the last look is
/// older; before packs are deleted, always.
pub(crate) const OWNER_CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// What is read from a remote pack, and kept on the local disk, in one piece.
pub(crate) const BLOCK_BYTES: u64 = 1 << 20;

/// Room on the local disk for pieces of remote packs, unless the caller chose otherwise.
pub(crate) const CACHE_DISK_BYTES: u64 = 8 << 30;

/// Marks of a collection that are gathered before they are sorted.
pub(crate) const MARKS_UNSORTED_MIN: usize = 1 << 16;

/// Neighbouring chunks are read together when everything is read again, up to so many bytes.
pub(crate) const PIECE_BYTES: u64 = 1 << 20;

/// What lies between two chunks that are read together is read along, if it is no more than this.
pub(crate) const PIECE_GAP_BYTES_MAX: u64 = 64 << 10;

/// Damaged chunks that a scrub remembers and repairs at a time; the next scrub goes on.
pub(crate) const DAMAGES_MAX: usize = 1 << 16;

/// Ranges of disks that a scrub names for one damaged chunk.
pub(crate) const AFFECTED_MAX: usize = 64;

/// Chunks that cannot be read for another reason than damage; after so many the whole place cannot.
pub(crate) const UNREADABLE_MAX: u64 = 1 << 10;

/// Chunks of a boot order: 1 GiB of what a guest reads until it is up.
pub(crate) const BOOT_ORDER_CHUNKS_MAX: usize = 1 << 14;

/// A boot is over when nothing new was read for so long, and at the latest after so long.
pub(crate) const BOOT_IDLE: Duration = Duration::from_secs(20);
pub(crate) const BOOT_TIME_MAX: Duration = Duration::from_mins(5);

/// What is prefetched and not yet read by a guest takes one part of so many of the cache at most.
pub(crate) const PREFETCH_CACHE_SHARE: usize = 2;

/// Chunks that are prefetched for one disk before it is another's turn.
pub(crate) const PREFETCH_TURN_CHUNKS: usize = 16;
