//! The crate through its public API, beside QEMU's own tools.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod absence;
mod corpus;
mod formats;
mod hostile;
mod hostile_qcow2;
mod layered;
mod oci_archive;
mod qcow2;
mod strangers_qcow2;
mod support;
mod unpacked;
