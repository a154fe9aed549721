//! qcow2 layers as our own QEMU writes them: read one, or make an empty one.

mod create;
mod header;
mod layer;

pub use create::create_layer;
pub use layer::Qcow2;
