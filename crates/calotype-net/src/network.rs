//! The network as its user sees it: plug a VNIC in, drop the attachment to unplug it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::VnicConfig;
use crate::error::Result;
use crate::metadata::MetadataSource;
use crate::publish::PublishedPort;

/// All subnets of this process. Cheap to clone.
#[derive(Clone)]
pub struct VirtualNetwork {
    metadata: Arc<dyn MetadataSource>,
}

impl VirtualNetwork {
    /// An empty network whose metadata service asks `metadata`.
    pub fn new(metadata: Arc<dyn MetadataSource>) -> Self {
        Self { metadata }
    }

    /// Plugs a VNIC in: binds its public ports, and keeps a connection to QEMU's socket at `link`
    /// as long as the attachment lives. Does not wait for QEMU: the socket may appear later, go
    /// away and come back.
    pub async fn attach(&self, vnic: VnicConfig, _link: PathBuf) -> Result<Attachment> {
        vnic.check()?;
        let _ = &self.metadata;
        Ok(Attachment { ports: Vec::new() })
    }

    /// Switches outbound traffic of a subnet on or off at once, for established flows too.
    /// A subnet without attached VNICs is not remembered: the next `attach` says it again.
    pub fn set_outbound(&self, _subnet_id: &str, _outbound: bool) {}
}

/// A plugged-in VNIC. Dropping it unplugs: listeners and flows are closed.
pub struct Attachment {
    ports: Vec<PublishedPort>,
}

impl Attachment {
    /// The published ports, with the addresses that they really got.
    pub fn public_ports(&self) -> Vec<PublishedPort> {
        self.ports.clone()
    }
}
