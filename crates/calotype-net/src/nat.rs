//! Flows from guests to the world, through sockets of the host.

pub(crate) mod tcp;
pub(crate) mod udp;
