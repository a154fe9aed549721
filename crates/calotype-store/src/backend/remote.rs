//! Files in an object store.
//!
//! ```text
//! <prefix>/format      what this is, and of which version
//! <prefix>/owner       who has it open: see [`Owner`]
//! <prefix>/packs/<32 hex digits>.pack
//! <prefix>/manifests/<64 hex digits>
//! <prefix>/partials/<64 hex digits>
//! ```
//!
//! What is needed of the server: an object appears whole or not at all, and what was acknowledged is
//! seen by the next read and listing (Amazon's S3 has done both since 2020, and so do the servers
//! that are compatible with it). It is never asked to put an object only if there is none: some servers
//! accept that and do not do it. An object is looked at again after it was acknowledged.

mod bridge;
mod failure;
mod owner;
mod s3;
mod upload;

use std::fmt;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};

use self::bridge::Bridge;
use self::failure::Failures;
pub use self::owner::Owner;
use self::owner::Ownership;
use self::upload::RemoteUpload;
use super::local::FORMAT;
use super::{Backend, Folder, Key, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::REMOTE_MARK_BYTES_MAX;
use crate::location::{S3Credentials, S3Location};

/// A part of an object store. Its methods block, and can be called from any thread.
pub struct Remote {
    place: Arc<Place>,
}

/// What a remote backend and its uploads share.
struct Place {
    objects: Arc<dyn ObjectStore>,
    prefix: String,
    bridge: Bridge,
    failures: Failures,
    ownership: Option<Ownership>,
}

impl Remote {
    /// Opens the store below `prefix`, or makes an empty one there. `name` is what errors call it.
    pub fn open(objects: Arc<dyn ObjectStore>, prefix: &str, name: &str) -> Result<Self> {
        Self::open_with(objects, prefix, Failures::new(name, &[]))
    }

    /// Opens the store at `location`, or makes an empty one there. The bucket must exist.
    pub fn open_s3(location: &S3Location) -> Result<Self> {
        let credentials = match &location.credentials {
            Some(credentials) => credentials.clone(),
            None => S3Credentials::from_environment()?,
        };
        let mut secrets = vec![credentials.secret_access_key.clone()];
        secrets.extend(credentials.session_token.clone());
        let failures = Failures::new(&location.to_string(), &secrets);
        let client = s3::client(location, credentials, &failures)?;
        Self::open_with(client, &location.prefix, failures)
    }

    fn open_with(objects: Arc<dyn ObjectStore>, prefix: &str, failures: Failures) -> Result<Self> {
        let bridge = Bridge::new()?;
        let place = Place { objects, prefix: prefix.to_owned(), bridge, failures, ownership: None };
        place.check_format()?;
        Ok(Self { place: Arc::new(place) })
    }

    /// Makes `owner` the one who has the store open, and from now on looks whether that is still so before
    /// anything is published or deleted.
    ///
    /// [`ErrorKind::Locked`] if somebody else is, unless `take_over`.
    pub fn owned_by(self, owner: &Owner, take_over: bool) -> Result<Self> {
        let mut place = Arc::into_inner(self.place)
            .ok_or_else(|| Error::new(ErrorKind::Locked, "the store is in use already"))?;
        place.ownership = Some(Ownership::claim(&place, owner, take_over)?);
        Ok(Self { place: Arc::new(place) })
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("place", &self.place.failures.place()).finish()
    }
}

impl Backend for Remote {
    fn list(&self, folder: Folder) -> Result<Vec<(Key, u64)>> {
        let place = self.place.clone();
        let path = place.path(folder.name());
        let listed: Vec<ObjectMeta> = place
            .wait({
                let objects = place.objects.clone();
                let path = path.clone();
                async move { objects.list(Some(&path)).try_collect().await }
            })?
            .map_err(|error| place.failures.error("listing", path.as_ref(), &error))?;
        let known = |object: ObjectMeta| {
            let mut rest = object.location.prefix_match(&path)?;
            let (name, more) = (rest.next()?, rest.next());
            more.is_none().then(|| folder.key(name.as_ref()))?.map(|key| (key, object.size))
        };
        Ok(listed.into_iter().filter_map(known).collect())
    }

    fn create(&self, key: Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(RemoteUpload::new(self.place.clone(), key)))
    }

    fn read(&self, key: Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        let place = &self.place;
        let path = place.path(&key.to_string());
        let end = offset.saturating_add(buf.len() as u64);
        let short = |size: u64| {
            Error::corrupt(format!(
                "{path} in {} has {size} bytes, no {end}",
                place.failures.place()
            ))
        };
        if buf.is_empty() {
            let size = place.size(&path)?;
            return if offset <= size { Ok(()) } else { Err(short(size)) };
        }
        let work = {
            let (objects, path) = (place.objects.clone(), path.clone());
            async move { objects.get_range(&path, offset..end).await }
        };
        match place.wait(work)? {
            Ok(bytes) if bytes.len() == buf.len() => {
                buf.copy_from_slice(&bytes);
                Ok(())
            }
            Ok(bytes) => Err(short(offset.saturating_add(bytes.len() as u64))),
            Err(error) => {
                let failed = place.failures.error("reading", path.as_ref(), &error);
                // Servers say in many ways that an object is shorter; all of them say how long it is.
                match failed.kind() {
                    ErrorKind::NotFound => Err(failed),
                    _ if !failure::may_be_short(&error) => Err(failed),
                    _ => match place.size(&path) {
                        Ok(size) if size < end => Err(short(size)),
                        _ => Err(failed),
                    },
                }
            }
        }
    }

    fn delete(&self, keys: &[Key]) -> Result<()> {
        let place = &self.place;
        if keys.is_empty() {
            return Ok(());
        }
        // What another process wrote may rely on what this one wants to delete.
        let harmless = keys.iter().all(|key| key.folder() == Folder::Partials);
        place.check_owner(!harmless)?;
        let paths: Vec<_> = keys.iter().map(|key| Ok(place.path(&key.to_string()))).collect();
        let work = {
            let objects = place.objects.clone();
            async move {
                let mut deleted = objects.delete_stream(futures_util::stream::iter(paths).boxed());
                while let Some(outcome) = deleted.next().await {
                    match outcome {
                        Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        };
        place.wait(work)?.map_err(|error| {
            place.failures.error("deleting", &format!("{} objects", keys.len()), &error)
        })
    }
}

impl Place {
    fn path(&self, below: &str) -> Path {
        if self.prefix.is_empty() {
            Path::from(below)
        } else {
            Path::from(format!("{}/{below}", self.prefix))
        }
    }

    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        self.bridge.wait(work)
    }

    /// Refuses if the store is somebody else's by now.
    fn check_owner(&self, for_certain: bool) -> Result<()> {
        match &self.ownership {
            Some(ownership) => ownership.check(self, for_certain),
            None => Ok(()),
        }
    }

    /// The length of an object.
    fn size(&self, path: &Path) -> Result<u64> {
        let work = {
            let (objects, path) = (self.objects.clone(), path.clone());
            async move { objects.head(&path).await }
        };
        match self.wait(work)? {
            Ok(object) => Ok(object.size),
            Err(error) => Err(self.failures.error("looking at", path.as_ref(), &error)),
        }
    }

    /// A small object, if it is there.
    fn read_mark(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let work = {
            let (objects, path) = (self.objects.clone(), path.clone());
            async move {
                let got = objects.get(&path).await?;
                if got.meta.size > REMOTE_MARK_BYTES_MAX {
                    return Ok(vec![0; REMOTE_MARK_BYTES_MAX as usize]);
                }
                Ok(got.bytes().await?.to_vec())
            }
        };
        match self.wait(work)? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => {
                let failed = self.failures.error("reading", path.as_ref(), &error);
                if failed.kind() == ErrorKind::NotFound { Ok(None) } else { Err(failed) }
            }
        }
    }

    fn write_mark(&self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        let work = {
            let (objects, path) = (self.objects.clone(), path.clone());
            async move { objects.put(&path, bytes.into()).await }
        };
        let written = self.wait(work)?;
        written.map_err(|error| self.failures.writing(path.as_ref(), &error)).map(drop)
    }

    /// Accepts a store of this version, and makes a new one where there is nothing.
    fn check_format(&self) -> Result<()> {
        let path = self.path("format");
        match self.read_mark(&path)? {
            Some(format) if format == FORMAT.as_bytes() => Ok(()),
            Some(format) => Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "{path} in {} says {:?}, not {FORMAT:?}",
                    self.failures.place(),
                    String::from_utf8_lossy(&format[..format.len().min(40)])
                ),
            )),
            None => self.write_mark(&path, FORMAT.as_bytes().to_vec()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ownership) = &self.ownership {
            ownership.release(self);
        }
    }
}
