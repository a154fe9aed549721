//! The network as its user sees it: plug a VNIC in, drop the attachment to unplug it.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;

use crate::config::{SubnetConfig, VnicConfig};
use crate::error::Result;
use crate::host::{Host, ThisHost};
use crate::link;
use crate::metadata::MetadataSource;
use crate::port::Port;
use crate::publish::{self, PublishedPort};
use crate::switch::Subnet;

/// All subnets of this process. Cheap to clone.
#[derive(Clone)]
pub struct VirtualNetwork {
    metadata: Arc<dyn MetadataSource>,
    host: Arc<dyn Host>,
    /// A subnet lives as long as something is plugged in.
    subnets: Arc<Mutex<HashMap<String, Weak<Subnet>>>>,
    leaving: Arc<Leaving>,
}

/// Attachments that were dropped and whose tasks may not all have ended yet. The next `attach` waits
/// for them: until then a published port is still taken, and would be given another number.
#[derive(Default)]
struct Leaving(Mutex<Vec<Arc<watch::Sender<()>>>>);

impl Leaving {
    fn add(&self, plug: Arc<watch::Sender<()>>) {
        let mut plugs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plugs.retain(|plug| !plug.is_closed());
        plugs.push(plug);
    }

    async fn wait(&self) {
        let plugs = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for plug in plugs {
            plug.closed().await;
        }
    }
}

impl VirtualNetwork {
    /// An empty network whose metadata service asks `metadata`.
    pub fn new(metadata: Arc<dyn MetadataSource>) -> Self {
        Self::with_host(metadata, Arc::new(ThisHost))
    }

    pub(crate) fn with_host(metadata: Arc<dyn MetadataSource>, host: Arc<dyn Host>) -> Self {
        Self { metadata, host, subnets: Arc::default(), leaving: Arc::default() }
    }

    /// Plugs a VNIC in: binds its public ports, and keeps a connection to QEMU's socket at `link`
    /// as long as the attachment lives. Does not wait for QEMU: the socket may appear later, go
    /// away and come back.
    ///
    /// The subnet's `outbound` of this call holds if the subnet has no other VNIC: after that only
    /// [`Self::set_outbound`] changes it. Fails on a
    /// configuration that cannot work, on a MAC or IP address that is taken in the subnet, and
    /// when the public address cannot be listened on at all. Must be called inside a Tokio runtime.
    pub async fn attach(&self, vnic: VnicConfig, link: PathBuf) -> Result<Attachment> {
        vnic.check()?;
        self.leaving.wait().await;
        let publications = match &vnic.public {
            Some(public) => publish::bind(public).await?,
            None => Vec::new(),
        };
        let subnet = self.subnet(&vnic.subnet);
        let neighbours = subnet.join(&vnic)?;
        let (plug, unplugged) = watch::channel(());
        let private_ip = vnic.private_ip;
        let published = publications.iter().map(publish::Publication::port).collect();
        let (metadata, host) = (Arc::clone(&self.metadata), Arc::clone(&self.host));
        let port = Port::new(vnic, Arc::clone(&subnet), metadata, host, unplugged);
        let port = Arc::new(port);
        port.spawn(link::run(Arc::clone(&port), link, neighbours));
        for publication in publications {
            publication.serve(&port);
        }
        let (plug, leaving) = (Arc::new(plug), Arc::clone(&self.leaving));
        Ok(Attachment { published, subnet, private_ip, plug, leaving })
    }

    /// Switches outbound traffic of a subnet on or off at once, for established flows too.
    /// A subnet without attached VNICs is not remembered: the next `attach` says it again.
    pub fn set_outbound(&self, subnet_id: &str, outbound: bool) {
        if let Some(subnet) = self.subnets().get(subnet_id).and_then(Weak::upgrade) {
            subnet.outbound.send_replace(outbound);
        }
    }

    fn subnets(&self) -> MutexGuard<'_, HashMap<String, Weak<Subnet>>> {
        self.subnets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subnet(&self, config: &SubnetConfig) -> Arc<Subnet> {
        let mut subnets = self.subnets();
        if let Some(subnet) = subnets.get(&config.id).and_then(Weak::upgrade) {
            return subnet;
        }
        subnets.retain(|_, subnet| subnet.strong_count() > 0);
        let subnet = Arc::new(Subnet::new(config.outbound));
        subnets.insert(config.id.clone(), Arc::downgrade(&subnet));
        subnet
    }
}

/// A plugged-in VNIC. Dropping it unplugs: listeners and flows are closed.
#[must_use = "dropping an attachment unplugs the VNIC"]
pub struct Attachment {
    published: Vec<PublishedPort>,
    subnet: Arc<Subnet>,
    private_ip: Ipv4Addr,
    /// Every task of the VNIC ends when this says so, and holds a receiver until it has ended.
    plug: Arc<watch::Sender<()>>,
    leaving: Arc<Leaving>,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("private_ip", &self.private_ip)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

impl Attachment {
    /// The published ports, with the addresses that they really got.
    pub fn public_ports(&self) -> Vec<PublishedPort> {
        self.published.clone()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.subnet.leave(self.private_ip);
        self.plug.send_replace(());
        self.leaving.add(Arc::clone(&self.plug));
    }
}
