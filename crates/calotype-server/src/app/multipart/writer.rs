//! Writing an object from inside the region, as an export does: parts in any order, and nothing to be seen of the
//! object before the last of them. The upload is one of the bucket like any other; whoever began it can go on
//! with it, or give it up, by its id.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use calotype_api::error::ApiError;
use calotype_disk::{Body, Head, Source};
use calotype_store::Kept;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{abort_upload, begin, commit_upload, record_part};
use crate::app::buckets;
use crate::app::multipart::UploadRecord;
use crate::app::objects::attributes::Attributes;
use crate::app::objects::receive;
use crate::app::objects::record::{self, ObjectRecord};
use crate::app::objects::write::{self, Conditions};
use crate::db::{Batch, Versioned};
use crate::region::Region;

/// Bytes of a part of a file that is written in its order: two of them are in memory.
const PART_BYTES: usize = 16 << 20;
/// Zeros that are a part of their own, of which nothing is in memory.
const HOLE_BYTES_MIN: u64 = 4 * PART_BYTES as u64;
/// Parts of such a file. Uploads over the wire have fewer.
const PARTS_MAX: u32 = 100_000;

/// An object that is being written.
#[derive(Clone)]
pub struct ObjectWriter {
    region: Arc<Region>,
    upload_id: String,
}

impl ObjectWriter {
    /// Begins to write an object, which will replace what is there.
    pub async fn begin(
        region: &Arc<Region>,
        bucket: &str,
        object: &str,
        attributes: Attributes,
    ) -> Result<Self, ApiError> {
        let (bucket, object) = (bucket.to_owned(), object.to_owned());
        let conditions = Conditions::default();
        let upload = begin(region, bucket, object, attributes, &conditions).await?;
        Ok(Self { region: Arc::clone(region), upload_id: upload.upload_id })
    }

    /// Begins as well, when the batch is written: for whoever writes down the upload's id together with that.
    pub async fn prepare(
        region: &Arc<Region>,
        bucket: &str,
        object: &str,
        attributes: Attributes,
    ) -> Result<(Self, Batch), ApiError> {
        let found = buckets::find(region, &buckets::namespace(region), bucket).await?;
        let upload = super::new_upload(bucket.to_owned(), object.to_owned(), attributes)?;
        let batch = Batch::new().require(&found).insert(&upload);
        Ok((Self::resume(region, &upload.upload_id), batch))
    }

    /// Goes on with one that was begun.
    pub fn resume(region: &Arc<Region>, upload_id: &str) -> Self {
        Self { region: Arc::clone(region), upload_id: upload_id.to_owned() }
    }

    /// By which it is found again.
    pub fn upload_id(&self) -> &str {
        &self.upload_id
    }

    /// Writes a part, in place of one with the same number. Parts follow each other by their numbers in the end,
    /// and may be written in any order, several at a time.
    pub async fn put_part(
        &self,
        number: u32,
        bytes: impl Source + 'static,
    ) -> Result<(), ApiError> {
        let store = self.region.store.clone();
        let storing =
            tokio::task::spawn_blocking(move || receive::store_own(&store, Box::new(bytes)));
        let received = match storing.await {
            Ok(Ok(received)) => received,
            Ok(Err(error)) => return Err(receive::store_error(&error)),
            Err(error) => {
                tracing::error!(%error, "a part was not stored");
                return Err(ApiError::internal());
            }
        };
        record_part(&self.region, &self.upload_id, number, &received, &Conditions::default())
            .await
            .map(|_| ())
    }

    /// The file that is written in its order, from a thread that may wait: parts from the second on. Its head is
    /// the first.
    pub fn body(&self) -> PartsInOrder {
        PartsInOrder {
            writer: self.clone(),
            runtime: Handle::current(),
            part: Vec::new(),
            next_number: 2,
            on_its_way: None,
            first_byte: None,
        }
    }

    /// Makes an object of all parts.
    pub async fn commit(&self) -> Result<Versioned<ObjectRecord>, ApiError> {
        let upload = self.upload().await?.ok_or_else(|| super::not_found(&self.upload_id))?;
        commit_upload(&self.region, &upload, None, &Conditions::default()).await
    }

    /// Everything that making an object of all parts writes, for whoever writes it together with more; the parts
    /// stay as long as what is answered beside it is kept. None if there is no such upload (any more).
    pub async fn prepare_commit(
        &self,
    ) -> Result<Option<(ObjectRecord, Batch, Vec<Kept>)>, ApiError> {
        let Some(upload) = self.upload().await? else { return Ok(None) };
        let parts = super::parts(&self.region, &self.upload_id).await?;
        let new = super::object_of(&upload, &parts.iter().collect::<Vec<_>>())?;
        let kept = record::keep(&self.region.store, &new.segments);
        let kept = kept.ok_or_else(|| super::not_found(&self.upload_id))?;
        let any = Conditions::default();
        let (object, batch) = write::prepare(&self.region, &new, &any, Timestamp::now()).await?;
        let batch = super::end_upload(batch, &upload, &parts);
        Ok(Some((object.value, batch, kept)))
    }

    /// Gives it up, as often as one likes.
    pub async fn abort(&self) -> Result<(), ApiError> {
        match self.upload().await? {
            None => Ok(()),
            Some(upload) => abort_upload(&self.region, upload).await,
        }
    }

    async fn upload(&self) -> Result<Option<Versioned<UploadRecord>>, ApiError> {
        Ok(self.region.db.get(&self.upload_id).await?)
    }
}

/// See [`ObjectWriter::body`].
pub struct PartsInOrder {
    writer: ObjectWriter,
    runtime: Handle,
    part: Vec<u8>,
    next_number: u32,
    on_its_way: Option<JoinHandle<Result<(), ApiError>>>,
    first_byte: Option<Instant>,
}

impl PartsInOrder {
    /// When it was begun to write, if it was.
    pub fn first_byte(&self) -> Option<Instant> {
        self.first_byte
    }

    /// Writes what is left, and the head. The object is there after [`ObjectWriter::commit`].
    pub fn finish(mut self, head: Head) -> io::Result<()> {
        self.send_rest()?;
        self.wait()?;
        if head.is_empty() {
            return Ok(());
        }
        self.runtime.block_on(self.writer.put_part(1, head)).map_err(io::Error::other)
    }

    /// Sends what there is of a part, whether it is full or not.
    fn send_rest(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.part);
        self.send(bytes)
    }

    /// Sends a part, once the one before has arrived.
    fn send(&mut self, bytes: impl Source + 'static) -> io::Result<()> {
        self.wait()?;
        if self.next_number > PARTS_MAX {
            let limit = u64::from(PARTS_MAX) * PART_BYTES as u64;
            return Err(io::Error::other(format!("the file has more than {limit} bytes")));
        }
        let (writer, number) = (self.writer.clone(), self.next_number);
        self.next_number += 1;
        self.on_its_way =
            Some(self.runtime.spawn(async move { writer.put_part(number, bytes).await }));
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let Some(sent) = self.on_its_way.take() else { return Ok(()) };
        let sent = self.runtime.block_on(sent).map_err(io::Error::other)?;
        sent.map_err(io::Error::other)
    }
}

impl Body for PartsInOrder {
    fn append(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.append_slice(&bytes)
    }

    fn append_slice(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.first_byte.get_or_insert_with(Instant::now);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = PART_BYTES - self.part.len();
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.part.extend_from_slice(now);
            rest = later;
            if self.part.len() == PART_BYTES {
                self.send_rest()?;
            }
        }
        Ok(())
    }

    fn append_zeros(&mut self, length_bytes: u64) -> io::Result<()> {
        self.first_byte.get_or_insert_with(Instant::now);
        if length_bytes >= HOLE_BYTES_MIN {
            self.send_rest()?;
            return self.send(Zeros(length_bytes));
        }
        let mut left = usize::try_from(length_bytes).map_err(io::Error::other)?;
        while left > 0 {
            let now = left.min(PART_BYTES - self.part.len());
            self.part.resize(self.part.len() + now, 0);
            left -= now;
            if self.part.len() == PART_BYTES {
                self.send_rest()?;
            }
        }
        Ok(())
    }
}

/// So many zeros, which the store knows without reading them.
struct Zeros(u64);

impl Source for Zeros {
    fn length_bytes(&self) -> u64 {
        self.0
    }

    fn read_at(&self, _: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(0);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> io::Result<(u64, bool)> {
        Ok((self.0 - offset, false))
    }
}
