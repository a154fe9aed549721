//! `calotype image`

use std::path::Path;

use anyhow::bail;
use calotype_api::images::Image;
use calotype_api::ocid::Ocid;
use calotype_server::app::store::ImageUsage;
use calotype_server::jobs::capture_image::CAPTURE_TAG;
use serde_json::json;

use super::instance;
use crate::client::Client;
use crate::render;

mod lifecycle;
mod transfer;

/// What can be done with images here; everything else is the `oci` client's.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List platform and custom images.
    List,
    /// Say what each image takes of the store, and what deleting it would give back.
    #[command(
        after_help = "Images share what they have in common: UNIQUE is what no other disk needs.\n\nExamples:\n  calotype image usage\n  calotype image usage --json | jq 'max_by(.uniqueBytes).displayName'"
    )]
    Usage {
        /// Print JSON, sizes in bytes.
        #[arg(long)]
        json: bool,
    },
    /// Capture an instance's boot disk as a custom image, and wait until it is AVAILABLE.
    #[command(
        after_help = "Examples:\n  calotype image create builder --name golden\n  calotype image create builder --live              (the instance runs on; its filesystems are clean)\n  calotype image create builder --live=crash-consistent"
    )]
    Create(CreateArguments),
    /// Make an image of a disk file, and wait until it is AVAILABLE.
    #[command(
        after_help = "Examples:\n  calotype image import jammy.qcow2\n  calotype image import appliance.vmdk.gz --name appliance --launch-mode EMULATED\n  calotype image import golden.oci            (with its launch options, shapes and capabilities)"
    )]
    Import(transfer::ImportArguments),
    /// Make a disk file of an image.
    #[command(
        after_help = "Examples:\n  calotype image export golden golden.qcow2\n  calotype image export golden golden.oci     (another region imports it as it is)"
    )]
    Export(transfer::ExportArguments),
    /// Set an image's family, its dates of deprecation and disabling, and its protection from deletion.
    #[command(
        after_help = "Examples:\n  calotype image edit golden-42 --family golden --protect\n  calotype image edit golden-41 --deprecate now --disable 2027-06-30T00:00:00Z\n  calotype image edit golden-41 --unprotect"
    )]
    Edit(lifecycle::EditArguments),
    /// List families, and the image that each stands for.
    Families,
    /// Print an image's OCID, for other commands.
    #[command(
        after_help = "Example:\n  oci compute instance launch --image-id $(calotype image id family/golden) ..."
    )]
    Id {
        /// Display name, OCID or `family/NAME`.
        image: String,
    },
    /// List deleted images that can be restored (recycle_hours in the section [images] of the region's settings).
    Deleted,
    /// Bring a deleted image back.
    Restore {
        /// Display name or OCID.
        image: String,
    },
}

/// Arguments of `calotype image create`.
#[derive(clap::Args)]
pub struct CreateArguments {
    /// Display name or OCID of the instance.
    pub instance: String,
    /// The image's display name [default: image and the time].
    #[arg(long)]
    pub name: Option<String>,
    /// Let a running instance run on, instead of shutting it down and starting it again. `quiesced`
    /// needs qemu-guest-agent in the instance.
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true,
        default_missing_value = "quiesced", value_parser = ["crash-consistent", "quiesced"])]
    pub live: Option<String>,
}

/// Runs a command.
pub async fn run(directory: &Path, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => list(&Client::open(directory)?).await,
        Command::Usage { json } => usage(&Client::open(directory)?, json).await,
        Command::Create(arguments) => create(&Client::open(directory)?, arguments).await,
        Command::Import(arguments) => transfer::import(&Client::open(directory)?, arguments).await,
        Command::Export(arguments) => transfer::export(&Client::open(directory)?, arguments).await,
        Command::Edit(arguments) => lifecycle::edit(&Client::open(directory)?, arguments).await,
        Command::Families => lifecycle::families(&Client::open(directory)?).await,
        Command::Id { image } => {
            println!("{}", find(&Client::open(directory)?, &image).await?.id);
            Ok(())
        }
        Command::Deleted => lifecycle::deleted(&Client::open(directory)?).await,
        Command::Restore { image } => lifecycle::restore(&Client::open(directory)?, &image).await,
    }
}

async fn usage(client: &Client, json: bool) -> anyhow::Result<()> {
    let mut images: Vec<ImageUsage> = client.list("/calotype/imageUsage?limit=1000").await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&images)?);
        return Ok(());
    }
    images.sort_by_key(|image| std::cmp::Reverse(image.unique_bytes));
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "damaged".to_owned(), render::bytes);
    let headings = ["NAME", "DISK", "DATA", "STORED", "SHARED", "UNIQUE", "FREED BY DELETING"];
    let mut table = render::table(&headings);
    for image in images {
        let freed = match image.holders {
            0 | 1 => bytes(image.freed_by_deletion_bytes),
            holders => format!("nothing: {} others have its disk", holders - 1),
        };
        table.add_row([
            image.display_name,
            render::bytes(image.logical_bytes),
            bytes(image.data_bytes),
            bytes(image.stored_bytes),
            bytes(image.shared_bytes),
            bytes(image.unique_bytes),
            freed,
        ]);
    }
    println!("{table}");
    Ok(())
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

async fn create(client: &Client, arguments: CreateArguments) -> anyhow::Result<()> {
    let instance = instance::find(client, &arguments.instance).await?;
    let mut details =
        json!({ "compartmentId": instance.compartment_id, "instanceId": instance.id });
    if let Some(name) = arguments.name {
        details["displayName"] = name.into();
    }
    if let Some(live) = arguments.live {
        details["freeformTags"] = json!({ CAPTURE_TAG: live });
    }
    let created = client.post::<Image>("/20160918/images", &details).await?;
    wait(client, "capturing", created.work_request.as_ref()).await?;
    println!("{}", created.body.id);
    Ok(())
}

/// The image with that display name or OCID, or the latest of `family/NAME`.
pub async fn find(client: &Client, name: &str) -> anyhow::Result<Image> {
    if let Some(family) = name.strip_prefix("family/") {
        return lifecycle::latest(client, family).await;
    }
    if name.parse::<Ocid>().is_ok() {
        return Ok(client.get::<Image>(&format!("/20160918/images/{name}")).await?.body);
    }
    let images = client.images().await?.into_iter();
    let mut found: Vec<Image> = images.filter(|image| image.display_name == name).collect();
    match found.len() {
        0 => bail!("no image is called {name}: see `calotype image list`"),
        1 => Ok(found.remove(0)),
        count => bail!("{count} images are called {name}: say the OCID"),
    }
}

/// Waits for a work request, if there is one, with a bar.
async fn wait(client: &Client, what: &str, work_request: Option<&Ocid>) -> anyhow::Result<()> {
    let Some(work_request) = work_request else { return Ok(()) };
    let bar = render::progress(what);
    #[expect(clippy::cast_sign_loss, reason = "a percentage")]
    client.wait(work_request, |percent| bar.set_position(percent as u64)).await?;
    bar.finish_and_clear();
    Ok(())
}
