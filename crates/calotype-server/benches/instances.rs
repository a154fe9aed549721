//! Launch, capture and downtime beside plain QEMU.
fn main() {}
