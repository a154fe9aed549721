//! Real QEMU processes with a guest of one boot sector, and real NBD clients.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chain;
mod corpus;
mod guest;
mod lifecycle;
mod nbd;
mod network;
mod seal;
