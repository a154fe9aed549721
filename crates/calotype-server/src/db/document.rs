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
    /// Which writing of it this is; never the same for two writings of one id.
    pub version: i64,
}

impl<T: Document> Versioned<T> {
    /// The etag of this version: 64 hexadecimal digits.
    pub fn etag(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        // Lengths first, so that no two (kind, id) run into each other.
        for part in [T::KIND.as_bytes(), self.value.id().as_bytes(), &self.version.to_be_bytes()] {
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
