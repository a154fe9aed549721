//! `calotype catalog`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use calotype_api::app_catalog::AppCatalogListingSummary;
use serde_json::Value;

use super::image;
use crate::client::Client;
use crate::render;

/// Largest file that describes a listing.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The app catalog: images that are published with terms, and launched only by who has agreed to them.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Publish a version of a listing, as each file says.
    #[command(
        after_help = "A file (JSON):\n  {\"displayName\": \"Golden DB\", \"publisherName\": \"ACME\", \"version\": \"1.0\", \"image\": \"golden\",\n   \"oracleTermsOfUseLink\": \"https://example.com/terms\", \"eulaLink\": \"https://example.com/eula\",\n   \"allowedActions\": [\"SNAPSHOT\"], \"summary\": \"…\", \"description\": \"…\"}\n`image` is a name or an OCID. Without SNAPSHOT no image is made of its instances."
    )]
    Add {
        /// What describes the listing.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List what is published.
    List,
    /// Take a listing out of the catalog, if nobody is subscribed to it.
    Remove {
        /// OCID of the listing.
        listing: String,
    },
}

/// Runs a command.
pub async fn run(directory: &Path, command: Command) -> anyhow::Result<()> {
    let client = Client::open(directory)?;
    match command {
        Command::Add { files } => {
            for file in files {
                add(&client, &file).await?;
            }
        }
        Command::List => {
            let listings = "/20160918/appCatalogListings?limit=1000";
            let mut table = render::table(&["NAME", "PUBLISHER", "ID"]);
            for listing in client.list::<AppCatalogListingSummary>(listings).await? {
                let id = listing.listing_id.to_string();
                table.add_row([listing.display_name, listing.publisher_name, id]);
            }
            println!("{table}");
        }
        Command::Remove { listing } => {
            client.delete(&format!("/calotype/appCatalogListings/{listing}")).await?;
        }
    }
    Ok(())
}

async fn add(client: &Client, file: &Path) -> anyhow::Result<()> {
    let cannot = || format!("cannot read {}", file.display());
    if std::fs::metadata(file).with_context(cannot)?.len() > FILE_BYTES_MAX {
        bail!("{} is larger than {FILE_BYTES_MAX} bytes", file.display());
    }
    let text = std::fs::read_to_string(file).with_context(cannot)?;
    let mut details: serde_json::Map<String, Value> = serde_json::from_str(&text)
        .with_context(|| format!("{} is no JSON object", file.display()))?;
    let image = details.remove("image");
    let Some(Value::String(image)) = image else {
        bail!("{} does not name an image", file.display());
    };
    let image = image::find(client, &image).await?;
    details.insert("imageId".to_owned(), Value::String(image.id.to_string()));
    let answer =
        client.post::<Value>("/calotype/appCatalogListings", &Value::Object(details)).await?;
    println!("{}", answer.body["resource"]["listingId"].as_str().unwrap_or_default());
    Ok(())
}
