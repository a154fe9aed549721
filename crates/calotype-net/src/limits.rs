//! Every bound of the virtual network in one place. What exceeds one is dropped or refused.

/// Smallest IP MTU of a subnet in bytes (what every IPv4 host must accept).
pub(crate) const MTU_MIN: u16 = 576;
/// Largest IP MTU of a subnet in bytes.
pub(crate) const MTU_MAX: u16 = 9_216;
