//! `calotype platform-image`

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use calotype_api::images::{Image, ImageState};
use calotype_platform_image::{Built, RECIPES, Recipe};
use calotype_server::config::Paths;
use serde_json::json;

use crate::client::Client;
use crate::render;

/// How long between two looks at an image that is being registered.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Platform images: those that every compartment sees.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Build a platform image from Debian packages and register it with the running region.
    #[command(
        after_help = "Examples:\n  calotype platform-image build tiny\n  calotype platform-image build debian-12"
    )]
    Build {
        /// `tiny` (up in seconds) or `debian-12`.
        recipe: Recipe,
    },
    /// List what can be built.
    Recipes,
}

/// Runs a command.
pub async fn run(directory: &Path, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Build { recipe } => {
            let client = Client::open(directory)?;
            let image = build(directory, &client, recipe).await?;
            println!("{}  {}", image.display_name, image.id);
        }
        Command::Recipes => {
            let mut table = render::table(&["NAME", "WHAT IT IS"]);
            for recipe in RECIPES {
                table.add_row([recipe.name, recipe.summary]);
            }
            println!("{table}");
        }
    }
    Ok(())
}

/// Builds `recipe` and registers it; returns the AVAILABLE image.
pub async fn build(directory: &Path, client: &Client, recipe: Recipe) -> anyhow::Result<Image> {
    if !client.is_up().await {
        bail!("the region does not answer: start it with `calotype serve`");
    }
    let missing = calotype_platform_image::missing_tools(recipe);
    if !missing.is_empty() {
        let packages: Vec<_> = missing.iter().map(|tool| tool.debian_package.as_str()).collect();
        bail!("missing tools: apt-get install --no-install-recommends {}", packages.join(" "));
    }
    let built = tokio::task::spawn_blocking(move || {
        let bar = render::progress(&format!("building {recipe}"));
        let cache = cache_directory()?;
        let built = calotype_platform_image::build(recipe, &cache, &mut |step, fraction| {
            #[expect(clippy::cast_sign_loss, reason = "a share of the work")]
            bar.set_position((fraction * 100.0) as u64);
            bar.set_message(step.to_owned());
        })?;
        bar.finish_and_clear();
        anyhow::Ok(built)
    })
    .await??;
    register(directory, client, &built).await
}

/// Where what was built is kept, for every region of this user.
fn cache_directory() -> anyhow::Result<std::path::PathBuf> {
    if let Some(cache) = std::env::var_os("CALOTYPE_CACHE") {
        return Ok(cache.into());
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/cache/calotype".into());
    }
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").map(std::path::PathBuf::from);
    match cache.or_else(|| home.map(|home| home.join(".cache"))) {
        Some(cache) => Ok(cache.join("calotype")),
        None => bail!("neither CALOTYPE_CACHE nor HOME says where to keep what is built"),
    }
}

async fn register(directory: &Path, client: &Client, built: &Built) -> anyhow::Result<Image> {
    let description = &built.description;
    let spool = Paths::new(directory).platform_images();
    let file = description.name.clone();
    copy_into(&spool, &file, &built.disk)?;
    let details = json!({
        "file": file,
        "displayName": description.name,
        "operatingSystem": description.operating_system,
        "operatingSystemVersion": description.operating_system_version,
        "firmware": description.firmware,
    });
    let answer = client.post::<Image>("/calotype/platformImages", &details).await?;
    if let Some(work_request) = &answer.work_request {
        let bar = render::progress("registering");
        #[expect(clippy::cast_sign_loss, reason = "a percentage")]
        client.wait(work_request, |percent| bar.set_position(percent as u64)).await?;
        bar.finish_and_clear();
    }
    // The image may be one that somebody else is registering at this moment.
    let target = format!("/20160918/images/{}", answer.body.id);
    loop {
        let image = client.get::<Image>(&target).await?.body;
        match image.lifecycle_state {
            ImageState::Available => return Ok(image),
            ImageState::Deleted => {
                bail!("{} could not be registered: try again", image.display_name)
            }
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Copies a disk into the directory of disks to register: whole under its name, or not at all. A sparse
/// copy, or no copy where the filesystem can share blocks.
fn copy_into(spool: &Path, name: &str, disk: &Path) -> anyhow::Result<()> {
    let target = spool.join(format!("{name}.raw"));
    if target.exists() {
        // Names hold the date and number of the build: the same name is the same disk.
        return Ok(());
    }
    let temporary = spool.join(format!(".{name}.{}", std::process::id()));
    let copied = std::process::Command::new("cp")
        .args(["--reflink=auto", "--sparse=always"])
        .args([disk, &temporary])
        .status()?;
    if !copied.success() {
        bail!("cannot copy {} to {}", disk.display(), target.display());
    }
    std::fs::File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, &target)?;
    Ok(())
}
