//! A document is a resource as the catalog keeps it: JSON, and the few columns it is found by.

use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the catalog can keep. `KIND` and `id` name it, the rest is what lists filter and sort by.
pub trait Document: Serialize + DeserializeOwned + Send + Sync {
    /// Names the type in the catalog; never changes once released.
    const KIND: &'static str;

    /// Unique within the kind.
    fn id(&self) -> String;

    /// The document this one belongs to, for example the VCN of a subnet.
    fn parent_id(&self) -> Option<String> {
        None
    }

    /// The compartment it lies in; `None` for what belongs to the region, as platform images do.
    fn compartment_id(&self) -> Option<String> {
        None
    }

    /// Its lifecycle state as on the wire.
    fn state(&self) -> Option<String> {
        None
    }

    /// Its display name.
    fn name(&self) -> Option<String> {
        None
    }

    /// When it was created; microseconds are kept.
    fn time_created(&self) -> Timestamp;
}

/// A document as it was read: change `value` and hand the whole back to a [`Batch`](super::Batch),
/// which then writes only if nobody else has meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The document.
    pub value: T,
    /// Which writing of it this is. One id never has the same version with two contents.
    pub version: i64,
}

impl<T: Document> Versioned<T> {
    /// A new document as it will be once it is inserted.
    pub fn first(value: T) -> Self {
        // What cannot be written has no version: inserting it fails.
        let version = serde_json::to_vec(&value).map_or(0, |body| first_version(&body));
        Self { value, version }
    }

    /// The etag of this version: 64 hexadecimal digits.
    pub fn etag(&self) -> String {
        self.etag_of(self.version)
    }

    /// The etag that the document has once a batch has replaced this version.
    pub fn next_etag(&self) -> String {
        self.etag_of(self.version.wrapping_add(1))
    }

    fn etag_of(&self, version: i64) -> String {
        let mut hasher = blake3::Hasher::new();
        // Lengths first, so that no two (kind, id) run into each other.
        for part in [T::KIND.as_bytes(), self.value.id().as_bytes(), &version.to_be_bytes()] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize().to_hex().to_string()
    }
}

impl<T> Deref for Versioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Versioned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// The version a document starts with: taken from its content, so that one deleted and inserted
/// again with another content has a version that nobody who saw the first can hold; 61 bits, so
/// that counting up from it never overflows.
pub(super) fn first_version(body: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    (u64::from_be_bytes(bytes) >> 3).cast_signed()
}
