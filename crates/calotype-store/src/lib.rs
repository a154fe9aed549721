//! The image store: chunks, packs, manifests, collection and verification.
//!
//! A disk is committed to the store and from then on known by its [`ManifestId`], the digest of
//! everything it holds. What two disks have in common is stored once. Nothing is acknowledged
//! before it is durable, and nothing is handed out that does not hash to its name.
//!
//! The API blocks; callers on an async runtime move the work to a blocking thread. The format on
//! disk is described in `docs/store-format.md`.

pub mod backend;
mod boot_order;
mod cache;
mod collect;
mod core;
#[cfg(test)]
mod crash_tests;
mod error;
mod file_source;
mod id;
mod index;
mod ingest;
mod limits;
mod liveness;
mod location;
mod manifest;
mod pack;
mod partial;
mod prefetch;
mod progress;
mod registry;
mod scrub;
#[cfg(test)]
mod simulation;
mod space;
mod state;
mod store;
mod stored_disk;
mod verify;

pub use collect::{Collected, Collection};
pub use error::{Error, ErrorKind, Result};
pub use file_source::FileSource;
pub use id::{ChunkId, InvalidManifestId, ManifestId};
pub use ingest::Committed;
pub use location::{Location, S3Credentials, S3Location};
pub use pack::PackId;
pub use partial::PartialId;
pub use prefetch::{BootDisk, BootDisks, BootStatistics};
pub use progress::Progress;
pub use scrub::{
    Affected, ChunkSource, Damage, Origin, ScrubOptions, Scrubbed, StoreCopy, TakeCopy,
};
pub use space::{Space, SpaceOfAll};
pub use store::{Kept, Options, Store, Usage};
pub use stored_disk::{DiskStatistics, StoredDisk};
pub use verify::Verified;
