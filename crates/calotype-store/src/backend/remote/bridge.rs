//! From the blocking world of the store to the asynchronous one of its clients for object stores.

use std::future::Future;
use std::io;
use std::sync::mpsc::sync_channel;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::REMOTE_THREADS;

/// A small runtime of its own, whose work any thread can wait for: also one that belongs to another
/// runtime, in blocking code or not.
pub(super) struct Bridge {
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Bridge {
    pub(super) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(REMOTE_THREADS)
            .thread_name("store-remote")
            .enable_all()
            .build()
            .map_err(|error| Error::io("starting threads for the object store", error))?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where work goes that nobody waits for yet.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits, without a runtime's help: that refuses to where blocking is not allowed.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = sync_channel(1);
        // Nobody is gone: we wait below.
        self.handle.spawn(async move { sender.send(work.await).ok() });
        receiver.recv().map_err(|_| {
            Error::new(ErrorKind::Io, "the work for the object store ended without a result")
                .with_source(io::Error::from(io::ErrorKind::Interrupted))
        })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // To wait for its threads is not allowed everywhere, and not needed: nothing runs any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
