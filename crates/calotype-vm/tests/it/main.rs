//! Real QEMU processes with a guest of one boot sector, and real NBD clients.

mod chain;
mod guest;
mod lifecycle;
mod nbd;
mod network;
