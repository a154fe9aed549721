//! `calotype init`

use std::path::Path;

use calotype_server::config::Paths;
use calotype_server::init::{self, Options};

/// Arguments of `calotype init`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Region identifier, as in host names and OCIDs.
    #[arg(long, default_value = "home-1")]
    pub region: String,
    /// Domain of the service host names: `iaas.REGION.DOMAIN`.
    #[arg(long, default_value = "calotype.localhost")]
    pub domain: String,
    /// Port of all services, on loopback.
    #[arg(long, default_value_t = 8443)]
    pub port: u16,
}

/// Makes a region and says how to go on.
pub async fn run(directory: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let paths = Paths::new(directory);
    let options =
        Options { region: arguments.region, domain: arguments.domain, port: arguments.port };
    let config = init::init(&paths, options).await?;
    println!("Region {} is ready in {}.", config.region, directory.display());
    println!("  tenancy        {}", config.tenancy);
    println!("  administrator  {}", config.administrator);
    println!("\nNext:\n  calotype serve &\n  calotype platform-image build tiny");
    println!(
        "  eval \"$(calotype env)\"\n  oci compute image list --compartment-id $CALOTYPE_TENANCY"
    );
    Ok(())
}
