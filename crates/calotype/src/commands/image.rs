//! `calotype image`

use std::path::Path;

use crate::client::Client;
use crate::render;

/// What can be done with images here; everything else is the `oci` client's.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List platform and custom images.
    List,
}

/// Runs a command.
pub async fn run(directory: &Path, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => list(&Client::open(directory)?).await,
    }
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let mut table = render::table(&["NAME", "STATE", "SYSTEM", "DISK", "BILLED", "ID"]);
    for image in client.images().await? {
        let size = image.size_in_mbs.map_or_else(String::new, |mib| render::bytes(mib << 20));
        let stored =
            image.billable_size_in_gbs.map_or_else(String::new, |gib| format!("{gib} GiB"));
        table.add_row([
            image.display_name,
            image.lifecycle_state.to_string(),
            format!("{} {}", image.operating_system, image.operating_system_version),
            size,
            stored,
            image.id.to_string(),
        ]);
    }
    println!("{table}");
    Ok(())
}
