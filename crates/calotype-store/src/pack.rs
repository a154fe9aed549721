//! Packs: append-only files of many chunks that describe themselves.
//!
//! ```text
//! header | entry entry entry ... | record record record ... | trailer
//!          ^ 64 bytes + payload    ^ 64 bytes each            ^ 64 bytes
//! ```
//!
//! A pack is read through its footer (records and trailer). If that is damaged, the entries
//! say the same again, each in front of its payload.

pub(crate) mod codec;
mod format;
mod open;
mod writer;

pub use format::PackId;
pub(crate) use format::{Checksum, Codec, ENTRY_BYTES, Record};
pub(crate) use open::{OpenedPack, examine_pack, open_pack};
pub(crate) use writer::{PackWriter, Publish};
