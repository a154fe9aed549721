//! `calotype serve`

use std::io::IsTerminal as _;
use std::path::Path;

use calotype_server::Server;
use calotype_server::config::{Config, Paths};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Arguments of `calotype serve`.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to log, as `info` or `calotype_server=debug,info`.
    #[arg(long, env = "CALOTYPE_LOG", default_value = "info")]
    pub log: String,
    /// Open the store in an object store though another process seems to have it open. Only if that
    /// process has ended for good: two that change one store destroy images.
    #[arg(long)]
    pub take_over: bool,
}

/// Serves the region until SIGINT or SIGTERM.
pub async fn run(directory: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let paths = Paths::new(directory);
    let mut config = Config::load(&paths)?;
    config.store.take_over = arguments.take_over;
    let server = Server::start_with(paths, config).await?;
    println!("serving {} on {}", server.config().region, server.url());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    println!("stopping; guests run on");
    server.stop().await;
    Ok(())
}
