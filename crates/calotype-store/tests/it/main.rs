//! The store through its public API, beside plain vectors of bytes.

mod collection;
mod damage;
mod model;
mod qcow2;
mod read_pack;
mod round_trip;
mod support;
