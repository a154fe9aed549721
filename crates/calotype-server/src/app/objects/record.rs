//! What the catalog holds of an object: what lists show, and where its bytes are.
//!
//! The bytes of an object are disks of the store, one behind the other: one for an object that was put whole,
//! one for each part of one that was not. So no byte is copied when parts become an object, when an object is
//! copied or renamed, or when an image becomes one.

use calotype_api::error::ApiError;
use calotype_store::{Kept, ManifestId, Store};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::attributes::Attributes;
use crate::db::{Batch, Db, Document, Versioned};

/// So many parts stand in the object's own document; more in one beside it, so that lists stay small.
const SEGMENTS_INLINE_MAX: usize = 4;

/// The first bytes of a disk of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The disk. A root of collection.
    pub manifest: ManifestId,
    /// Bytes of it; at most its size.
    pub size_bytes: u64,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Name of its bucket.
    pub bucket: String,
    /// Its name.
    pub name: String,
    /// Bytes of the whole.
    pub size_bytes: u64,
    /// Base64 of its MD5, or the MD5 of those of its parts with their number; an exported image has none.
    pub md5: Option<String>,
    /// What it says about itself.
    pub attributes: Attributes,
    /// When it was written.
    pub time_created: Timestamp,
    /// Its bytes, if they are in few parts.
    segments: Vec<Segment>,
    /// The [`ContentRecord`] with its bytes, if they are in many.
    content: Option<String>,
}

/// The parts of an object that has many. Written once, and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRecord {
    id: String,
    /// In their order.
    pub segments: Vec<Segment>,
    time_created: Timestamp,
}

impl Document for ObjectRecord {
    const KIND: &'static str = "object";

    fn id(&self) -> String {
        object_id(&self.bucket, &self.name)
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.bucket.clone())
    }

    fn name(&self) -> Option<String> {
        Some(self.name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

impl Document for ContentRecord {
    const KIND: &'static str = "object_content";

    fn id(&self) -> String {
        self.id.clone()
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

/// No bucket's name has a slash.
pub fn object_id(bucket: &str, name: &str) -> String {
    format!("{bucket}/{name}")
}

/// An object that is to be written: everything but when.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Name of its bucket.
    pub bucket: String,
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub segments: Vec<Segment>,
    /// See [`ObjectRecord::md5`].
    pub md5: Option<String>,
    /// What it says about itself.
    pub attributes: Attributes,
}

impl NewObject {
    /// The documents of the object.
    pub fn records(&self, now: Timestamp) -> (ObjectRecord, Option<ContentRecord>) {
        let segments = self.segments.clone();
        let content = (segments.len() > SEGMENTS_INLINE_MAX).then(|| ContentRecord {
            id: Uuid::new_v4().to_string(),
            segments: segments.clone(),
            time_created: now,
        });
        let object = ObjectRecord {
            bucket: self.bucket.clone(),
            name: self.name.clone(),
            size_bytes: segments.iter().map(|segment| segment.size_bytes).sum(),
            md5: self.md5.clone(),
            attributes: self.attributes.clone(),
            time_created: now,
            segments: if content.is_some() { Vec::new() } else { segments },
            content: content.as_ref().map(|content| content.id.clone()),
        };
        (object, content)
    }
}

impl ObjectRecord {
    /// The same object under another name.
    #[must_use]
    pub fn renamed(&self, name: &str, now: Timestamp) -> Self {
        Self { name: name.to_owned(), time_created: now, ..self.clone() }
    }

    /// The parts that stand here; all of them, or none.
    pub fn inline_segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The id of the [`ContentRecord`], if the parts do not stand here.
    pub fn content_id(&self) -> Option<&str> {
        self.content.as_deref()
    }

    async fn content(&self, db: &Db) -> Result<Option<Versioned<ContentRecord>>, ApiError> {
        match &self.content {
            Some(id) => Ok(db.get(id).await?),
            None => Ok(None),
        }
    }

    /// The object's bytes; none if it was deleted or replaced since it was read.
    pub async fn segments(&self, db: &Db) -> Result<Option<Vec<Segment>>, ApiError> {
        if self.content.is_none() {
            return Ok(Some(self.segments.clone()));
        }
        Ok(self.content(db).await?.map(|content| content.value.segments))
    }

    /// Adds to `batch` that the parts beside the object's document go.
    pub async fn drop_content(&self, db: &Db, batch: Batch) -> Result<Batch, ApiError> {
        Ok(match self.content(db).await? {
            Some(content) => batch.delete(&content),
            None => batch,
        })
    }
}

/// Keeps the disks from being collected while they are written into another record; none if one of them is
/// gone already.
pub fn keep(store: &Store, segments: &[Segment]) -> Option<Vec<Kept>> {
    segments.iter().map(|segment| store.keep(segment.manifest).ok()).collect()
}
