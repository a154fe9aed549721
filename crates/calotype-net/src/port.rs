//! One plugged-in VNIC: its configuration, its stack, and the tasks that live as long as it does.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, watch};

use crate::config::VnicConfig;
use crate::host::Host;
use crate::limits::DNS_QUERIES_MAX;
use crate::metadata::MetadataSource;
use crate::stack::Stack;
use crate::switch::Subnet;

/// What every task of a VNIC shares.
pub(crate) struct Port {
    pub(crate) vnic: VnicConfig,
    pub(crate) subnet: Arc<Subnet>,
    pub(crate) metadata: Arc<dyn MetadataSource>,
    pub(crate) host: Arc<dyn Host>,
    /// One permit per DNS query under way.
    pub(crate) dns_queries: Arc<Semaphore>,
    stack: Mutex<Stack>,
    wake: Notify,
    /// Changes when the attachment is dropped.
    unplugged: watch::Receiver<()>,
}

impl Port {
    pub(crate) fn new(
        vnic: VnicConfig,
        subnet: Arc<Subnet>,
        metadata: Arc<dyn MetadataSource>,
        host: Arc<dyn Host>,
        unplugged: watch::Receiver<()>,
    ) -> Self {
        let stack = Mutex::new(Stack::new(&vnic));
        let dns_queries = Arc::new(Semaphore::new(DNS_QUERIES_MAX));
        let wake = Notify::new();
        Self { vnic, subnet, metadata, host, dns_queries, stack, wake, unplugged }
    }

    /// The stack, for a moment: no caller may wait while holding it.
    pub(crate) fn stack(&self) -> MutexGuard<'_, Stack> {
        // A panic elsewhere leaves a stack that at worst misbehaves for this one guest.
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the link task look at the stack again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for [`Self::wake`].
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Runs a task that ends, at the latest, when the VNIC is unplugged.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let mut unplugged = self.unplugged.clone();
        tokio::spawn(async move {
            // The task and all it holds is gone before `unplugged`, which others wait for.
            tokio::select! {
                _ = unplugged.changed() => {}
                () = task => {}
            }
        });
    }
}
