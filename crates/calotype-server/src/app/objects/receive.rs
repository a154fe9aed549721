//! From a body that arrives to a disk in the store: in one pass, in bounded memory, with its MD5 on the way.
//!
//! The bytes travel through a channel of a few places to a thread that commits them as if they were a disk. A
//! body that ends early, or that a client stops sending, fails the commit, and a commit that fails leaves
//! nothing but room that the next collection frees.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::object_head;
use calotype_disk::Source;
use calotype_disk::raw::Raw;
use calotype_store::{Committed, ErrorKind, Store};
use data_encoding::BASE64;
use md5::{Digest as _, Md5};
use tokio::sync::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::record::Segment;
use crate::http::{Request, Upload};
use crate::region::Region;

/// Uploads at the same time, each of which takes a commit's threads and buffers.
pub const UPLOADS_MAX: usize = 32;
/// And how many more by those who have a URL: who they are nobody knows, and they cannot keep the others waiting.
pub const UPLOADS_BY_URL_MAX: usize = 8;
/// How long an upload waits for its turn before its client is told to try again.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);
/// Pieces of a body on their way to the commit.
const PIECES_MAX: usize = 4;

/// An MD5.
pub type Md5Bytes = [u8; 16];
type Sha256Bytes = [u8; 32];

/// A body that is stored. It is not collected as long as this lives.
pub struct Received {
    /// Name of the disk whose bytes it is.
    committed: Committed,
    /// Digest of its bytes; none of what the region made itself, which nobody compares.
    pub md5: Option<Md5Bytes>,
}

impl Received {
    /// As a part of an object.
    pub fn segment(&self) -> Segment {
        Segment { manifest: self.committed.manifest, size_bytes: self.committed.size_bytes }
    }
}

/// Turns in which uploads are received.
#[derive(Debug)]
pub struct Turns {
    signed: Arc<Semaphore>,
    by_url: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let signed = Arc::new(Semaphore::new(UPLOADS_MAX));
        Self { signed, by_url: Arc::new(Semaphore::new(UPLOADS_BY_URL_MAX)) }
    }
}

impl Turns {
    async fn take(&self, request: &Request) -> Result<OwnedSemaphorePermit, ApiError> {
        let turns = if request.token().is_some() { &self.by_url } else { &self.signed };
        let turn = Arc::clone(turns).acquire_owned();
        match tokio::time::timeout(TURN_WAIT_MAX, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(ApiError::unavailable("Too many uploads at the same time, try again later")),
        }
    }
}

/// Stores the body of `request`, which must have the digests that its head says.
pub async fn receive(
    region: &Region,
    request: &Request,
    size_bytes_max: u64,
) -> Result<Received, ApiError> {
    let received = receive_unnoted(region, request, size_bytes_max).await;
    received.inspect_err(|_| region.litter.note())
}

async fn receive_unnoted(
    region: &Region,
    request: &Request,
    size_bytes_max: u64,
) -> Result<Received, ApiError> {
    let expected = Expected::of(request)?;
    let upload = request.upload()?;
    let size_bytes = upload.length_bytes()?;
    if size_bytes > size_bytes_max {
        return Err(ApiError::too_large(size_bytes_max));
    }
    let _turn = region.uploads.take(request).await?;
    let (pieces, arriving) = mpsc::channel(PIECES_MAX);
    let store = region.store.clone();
    let sha256 = expected.sha256.is_some().then(|| digest::Context::new(&digest::SHA256));
    let storing = tokio::task::spawn_blocking(move || {
        let source = Arriving::new(size_bytes, arriving, sha256);
        store_source(&store, source)
    });
    let feeding = feed(upload, size_bytes, pieces).await;
    let stored = storing.await;
    // The store fails because the body did, or alone.
    feeding?;
    let (received, sha256) = match stored {
        Ok(Ok(received)) => received,
        Ok(Err(error)) => return Err(store_error(&error)),
        Err(error) => {
            tracing::error!(%error, "an upload was not stored");
            return Err(ApiError::internal());
        }
    };
    match (expected.md5, received.md5) {
        (Some(expected), Some(md5)) if expected != md5 => return Err(unmatched(expected, md5)),
        _ => {}
    }
    if expected.sha256.is_some() && expected.sha256 != sha256 {
        let differs = "is not the Base64 of the SHA-256 of the request body";
        return Err(ApiError::invalid_parameter("x-content-sha256", differs));
    }
    Ok(received)
}

/// The digests that a body must have because its head says so.
struct Expected {
    md5: Option<Md5Bytes>,
    sha256: Option<Sha256Bytes>,
}

impl Expected {
    fn of(request: &Request) -> Result<Self, ApiError> {
        let md5 = digest_of(request, "content-md5")?;
        Ok(Self { md5, sha256: digest_of(request, "x-content-sha256")? })
    }
}

fn digest_of<const N: usize>(
    request: &Request,
    name: &'static str,
) -> Result<Option<[u8; N]>, ApiError> {
    request.header(name)?.map(|header| object_head::digest(name, &header)).transpose()
}

/// Passes a body on, to its end. If nobody takes it any more, the store knows why.
async fn feed(
    upload: &Upload,
    size_bytes: u64,
    pieces: mpsc::Sender<Bytes>,
) -> Result<(), ApiError> {
    let mut left = size_bytes;
    while let Some(piece) = upload.next().await? {
        left = left
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| ApiError::cannot_parse("the body is longer than its Content-Length"))?;
        if pieces.send(piece).await.is_err() {
            return Ok(());
        }
    }
    if left > 0 {
        return Err(ApiError::cannot_parse("the body ended early"));
    }
    Ok(())
}

/// Stores what the region made itself, on the calling thread, which may wait.
pub fn store_own(store: &Store, source: Box<dyn Source>) -> calotype_store::Result<Received> {
    Ok(Received { committed: commit(store, source)?, md5: None })
}

/// With the SHA-256, if it is taken.
fn store_source(
    store: &Store,
    source: Arriving,
) -> calotype_store::Result<(Received, Option<Sha256Bytes>)> {
    let reading = Arc::clone(&source.reading);
    let committed = commit(store, Box::new(source))?;
    let reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
    let md5 = Some(reading.md5.clone().finalize().into());
    let sha256 = reading.sha256.clone().and_then(|sha256| sha256.finish().as_ref().try_into().ok());
    Ok((Received { committed, md5 }, sha256))
}

fn commit(store: &Store, source: Box<dyn Source>) -> calotype_store::Result<Committed> {
    let disk = Raw::open(source).map_err(|error| {
        calotype_store::Error::new(ErrorKind::Disk, "opening an upload").with_source(error)
    })?;
    store.commit(&disk, None, &())
}

/// What a failure of the store means to who uploads.
pub fn store_error(error: &calotype_store::Error) -> ApiError {
    tracing::error!(%error, source = ?std::error::Error::source(error), "an upload was not stored");
    if error.kind() == ErrorKind::NoSpace {
        let message = "The store's disk is full: free space or delete objects, then try again";
        return ApiError::new(ErrorCode::LimitExceeded, message);
    }
    ApiError::internal()
}

fn unmatched(expected: Md5Bytes, computed: Md5Bytes) -> ApiError {
    let (expected, computed) = (BASE64.encode(&expected), BASE64.encode(&computed));
    let message = format!(
        "The computed MD5 of the request body ({computed}) does not match the Content-MD5 header ({expected})"
    );
    ApiError::new(ErrorCode::UnmatchedContentMD5, message)
}

/// A body as a source that is read once, in its order, by one thread: how a commit reads a disk.
struct Arriving {
    size_bytes: u64,
    reading: Arc<Mutex<Reading>>,
}

struct Reading {
    pieces: mpsc::Receiver<Bytes>,
    /// What of the last piece was not taken yet.
    rest: Bytes,
    position: u64,
    md5: Md5,
    /// Only if it is compared: it takes as long as all the rest.
    sha256: Option<digest::Context>,
}

impl Arriving {
    fn new(
        size_bytes: u64,
        pieces: mpsc::Receiver<Bytes>,
        sha256: Option<digest::Context>,
    ) -> Self {
        let reading = Reading { pieces, rest: Bytes::new(), position: 0, md5: Md5::new(), sha256 };
        Self { size_bytes, reading: Arc::new(Mutex::new(reading)) }
    }
}

impl Source for Arriving {
    fn length_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if offset != reading.position {
            return Err(io::Error::other("a body can be read once, in its order"));
        }
        reading.position += buf.len() as u64;
        while !buf.is_empty() {
            if reading.rest.is_empty() {
                let next = reading.pieces.blocking_recv();
                reading.rest = next.ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            let length = buf.len().min(reading.rest.len());
            let piece = reading.rest.split_to(length);
            let (part, after) = buf.split_at_mut(length);
            part.copy_from_slice(&piece);
            reading.md5.update(&piece);
            if let Some(sha256) = &mut reading.sha256 {
                sha256.update(&piece);
            }
            buf = after;
        }
        Ok(())
    }
}
