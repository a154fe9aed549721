//! `calotype init`

use std::path::Path;

use calotype_server::config::{Paths, StoreConfig};
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
    #[command(flatten)]
    pub store: StoreArguments,
}

/// Where images are kept.
#[derive(clap::Args)]
pub struct StoreArguments {
    /// Where images are kept: a directory, or s3://BUCKET/PREFIX [default: in the region's].
    #[arg(long, value_name = "LOCATION", default_value = "", hide_default_value = true)]
    pub store: String,
    /// URL of an S3-compatible server, for --store s3://… [default: Amazon's].
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub store_endpoint: String,
    /// Region of the S3 server [default: us-east-1].
    #[arg(long, value_name = "REGION", default_value = "", hide_default_value = true)]
    pub store_region: String,
    /// File with access_key_id and secret_access_key, mode 0600 [default: the variables
    /// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of `calotype serve`].
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    pub store_credentials: String,
}

impl StoreArguments {
    /// Settings say the same wherever the service is started.
    fn settings(self) -> anyhow::Result<StoreConfig> {
        let absolute = |path: String| -> anyhow::Result<String> {
            if path.is_empty() || path.contains("://") {
                return Ok(path);
            }
            let absolute = std::path::absolute(path)?.into_os_string().into_string();
            absolute.map_err(|path| anyhow::anyhow!("the path {} is no text", path.display()))
        };
        Ok(StoreConfig {
            location: absolute(self.store)?,
            endpoint: self.store_endpoint,
            region: self.store_region,
            credentials_file: absolute(self.store_credentials)?,
            ..StoreConfig::default()
        })
    }
}

/// Makes a region and says how to go on.
pub async fn run(directory: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let paths = Paths::new(directory);
    let options = Options {
        region: arguments.region,
        domain: arguments.domain,
        port: arguments.port,
        store: arguments.store.settings()?,
    };
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
