//! Whole paths through the network, with real sockets on both sides.

mod hostile;
mod inbound;
mod outbound;
mod services;
mod subnet;
mod throughput;
