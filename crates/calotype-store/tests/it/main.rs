//! The store through its public API, beside plain vectors of bytes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backends;
mod boot;
mod collection;
mod corpus;
mod damage;
mod model;
mod processes;
mod qcow2;
mod read_pack;
mod resume;
mod round_trip;
mod scrub;
mod space;
mod support;
