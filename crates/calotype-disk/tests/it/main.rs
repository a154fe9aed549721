//! The crate through its public API, beside QEMU's own tools.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod absence;
mod corpus;
mod hostile;
mod layered;
mod qcow2;
mod support;
