//! The crate through its public API, beside QEMU's own tools.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod absence;
mod corpus;
mod export;
mod formats;
mod hostile;
mod hostile_qcow2;
mod layered;
mod oci_archive;
mod oci_archive_written;
mod qcow2;
mod samples;
mod spots;
mod strangers_qcow2;
mod support;
mod unpacked;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;
