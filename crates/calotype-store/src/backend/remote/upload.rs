//! A file on its way into an object store: in one request if it is small, else in parts, of which a
//! few travel at the same time.

use std::collections::VecDeque;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt as _};
use tokio::task::JoinHandle;

use super::Place;
use crate::backend::{Key, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{ABORT_WAIT_MAX, PART_BYTES, PARTS_IN_FLIGHT_MAX};

pub(super) struct RemoteUpload {
    place: Arc<Place>,
    key: Key,
    path: Path,
    length_bytes: u64,
    part: Vec<u8>,
    /// Once there is more than one part.
    parts: Option<Parts>,
}

struct Parts {
    upload: Box<dyn MultipartUpload>,
    in_flight: VecDeque<JoinHandle<object_store::Result<()>>>,
}

impl RemoteUpload {
    pub(super) fn new(place: Arc<Place>, key: Key) -> Self {
        let path = place.path(&key.to_string());
        Self { place, key, path, length_bytes: 0, part: Vec::new(), parts: None }
    }

    fn failed(&self, error: &object_store::Error) -> Error {
        self.place.failures.writing(self.path.as_ref(), error)
    }

    /// Sends what was gathered on its way.
    fn send_part(&mut self) -> Result<()> {
        let part = std::mem::take(&mut self.part);
        if self.parts.is_none() {
            self.parts = Some(Parts { upload: self.begin()?, in_flight: VecDeque::new() });
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        let sending = parts.upload.put_part(part.into());
        parts.in_flight.push_back(self.place.bridge.handle().spawn(sending));
        self.wait_until_in_flight(PARTS_IN_FLIGHT_MAX)
    }

    fn begin(&self) -> Result<Box<dyn MultipartUpload>> {
        let (objects, path) = (self.place.objects.clone(), self.path.clone());
        let begun = self.place.wait(async move { objects.put_multipart(&path).await })?;
        begun.map_err(|error| self.failed(&error))
    }

    /// Waits for the first parts until no more than `count` are on their way.
    fn wait_until_in_flight(&mut self, count: usize) -> Result<()> {
        let Some(parts) = &mut self.parts else { return Ok(()) };
        while parts.in_flight.len() > count
            && let Some(first) = parts.in_flight.pop_front()
        {
            match self.place.bridge.wait(first)? {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(self.place.failures.writing(self.path.as_ref(), &error));
                }
                Err(gone) => {
                    let context = format!("writing {}: its task ended", self.path);
                    return Err(Error::new(ErrorKind::Io, context).with_source(gone));
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        if self.parts.is_none() {
            return self.put_whole();
        }
        if !self.part.is_empty() {
            self.send_part()?;
        }
        self.wait_until_in_flight(0)?;
        let Some(parts) = self.parts.take() else { return Ok(()) };
        let mut upload = parts.upload;
        let completing = async move {
            let completed = upload.complete().await;
            (completed, upload)
        };
        match self.place.wait(completing)? {
            (Ok(_), _) => Ok(()),
            (Err(error), upload) => {
                // The server may have done it, and only its answer was lost: then it does not know the
                // upload when it is asked again. Names of packs are unique: what is there is ours.
                let done = matches!(self.key, Key::Pack(_))
                    && self.place.size(&self.path).is_ok_and(|size| size == self.length_bytes);
                if done {
                    return Ok(());
                }
                let in_flight = VecDeque::new();
                self.parts = Some(Parts { upload, in_flight });
                Err(self.failed(&error))
            }
        }
    }

    fn put_whole(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.part);
        let (objects, path) = (self.place.objects.clone(), self.path.clone());
        let put = self.place.wait(async move { objects.put(&path, bytes.into()).await })?;
        put.map(drop).map_err(|error| self.failed(&error))
    }

    /// Looks whether the server has what it said it has.
    fn check_published(&self) -> Result<()> {
        let lost = |has: &str| {
            let context = format!(
                "{} acknowledged {} with {} bytes, but has {has}: its data is not safe there",
                self.place.failures.place(),
                self.path,
                self.length_bytes
            );
            Err(Error::new(ErrorKind::Io, context))
        };
        match self.place.size(&self.path) {
            Ok(size) if size == self.length_bytes => Ok(()),
            Ok(size) => lost(&format!("{size} bytes")),
            Err(error) if error.kind() == ErrorKind::NotFound => lost("nothing"),
            Err(error) => Err(error),
        }
    }
}

impl Upload for RemoteUpload {
    fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.length_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            // Only when there is more: the last part of a file may be shorter, not missing.
            if self.part.len() == PART_BYTES {
                self.send_part()?;
            }
            if self.part.capacity() == 0 && self.parts.is_some() {
                self.part.reserve_exact(PART_BYTES);
            }
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if let Key::Manifest(_) = self.key {
            // What it reaches may be deleted by whoever has the store now.
            self.place.check_owner(false)?;
        }
        self.publish()?;
        self.check_published()
    }
}

impl Drop for RemoteUpload {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        for sending in &parts.in_flight {
            sending.abort();
        }
        let mut upload = parts.upload;
        let aborting = async move { tokio::time::timeout(ABORT_WAIT_MAX, upload.abort()).await };
        if !matches!(self.place.wait(aborting), Ok(Ok(Ok(())))) {
            // A rule of the bucket removes them: see the documentation.
            tracing::warn!(object = %self.path, "parts of an upload that was given up may stay");
        }
    }
}
