//! The `.oci` archive: a tar of one disk and of what is known about it.

mod metadata;
mod write;

pub use metadata::{
    AdditionalMetadata, Capability, ExternalLaunchOptions, ImageCapabilityData, ImageMetadata,
    MemoryConstraints, OcpuConstraints, ShapeCompatibility,
};
pub use write::plan;
