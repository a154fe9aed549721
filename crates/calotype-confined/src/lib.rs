//! Opens foreign disk files in a process of their own, which may do nothing but compute.
//!
//! ```text
//!   service                                    reader (this crate's `run`)
//!   ConfinedDisk ──── open, read, extents ───► calotype-disk parses the file
//!   Source       ◄─── bytes of the file ────── it has no other way to anything
//!                      one socket pair
//! ```
//!
//! Parsers of disk formats are where images have broken out of clouds before. Ours are safe Rust that
//! opens no path; should there be a bug in one all the same, it is in a process without files, network,
//! other processes or much memory: Landlock and seccomp deny them where the kernel has them, and limits
//! of processor time and memory end it. What comes back is believed no more than the file was: every
//! length is checked here again.

mod channel;
mod confinement;
mod disk;
mod error;
mod limits;
mod protocol;
mod reader;

pub use confinement::Confinement;
pub use disk::{ConfinedDisk, Expected, Request};
pub use error::{Error, Result};
pub use protocol::Opened;
pub use reader::run;
