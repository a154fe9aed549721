//! The service: a region, and the port on which it is reached.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, Paths};
use crate::dispatch::Operations;
use crate::error::{Error, Result};
use crate::http::{self, tls};
use crate::region::Region;

/// A region that is being served.
pub struct Server {
    region: Arc<Region>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Opens the region in a directory and serves it on loopback. Requests are taken from the moment
    /// the region is whole: guests taken over, workflows going on.
    pub async fn start(paths: Paths) -> Result<Self> {
        let config = Config::load(&paths)?;
        Self::start_with(paths, config).await
    }

    /// [`Self::start`] with settings that the caller has read.
    pub async fn start_with(paths: Paths, config: Config) -> Result<Self> {
        paths.check_length()?;
        // The port first: a second service must not get as far as touching the first one's guests.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Port { address, source })?;
        let address = listener.local_addr().map_err(|source| Error::Port { address, source })?;
        let tls = tls::server_config(&paths.tls(), &config.region, &config.domain)?;
        let region = Region::open(paths, config).await?;
        let (stop, mut stopped) = watch::channel(false);
        let operations = Arc::new(Operations::new(Arc::clone(&region)));
        let serving = tokio::spawn(http::serve(listener, tls, operations, async move {
            // An error means that the server was dropped: stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        Ok(Self { region, address, stop, serving })
    }

    /// The region's settings.
    pub fn config(&self) -> &Config {
        &self.region.config
    }

    /// The region.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Answers what is under way, stops workflows between steps, and returns. Guests run on.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "serving ended badly");
        }
        self.region.close().await;
    }
}
