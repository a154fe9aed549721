//! `calotype image edit|families|id|deleted|restore`: what OCI's clients have no words for.

use anyhow::bail;
use calotype_api::images::Image;
use calotype_api::time::Time;
use calotype_server::app::images::lifecycle::{
    ImageFamily, ImageLifecycleView, UpdateImageLifecycleDetails,
};
use serde_json::{Value, json};

use super::find;
use crate::client::Client;
use crate::render;

/// Arguments of `calotype image edit`.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
pub struct EditArguments {
    /// Display name, OCID or `family/NAME`.
    #[arg(group = "which")]
    image: String,
    /// Make it a member of a family, whose newest image `family/NAME` names from then on.
    #[arg(long, value_name = "NAME", conflicts_with = "no_family")]
    family: Option<String>,
    /// Take it out of its family.
    #[arg(long)]
    no_family: bool,
    /// From then on it is no family's newest image: a time as 2027-01-31T00:00:00Z, `now` or `never`.
    #[arg(long, value_name = "TIME", value_parser = When::read)]
    deprecate: Option<When>,
    /// From then on nothing is launched from it: a time, `now` or `never`.
    #[arg(long, value_name = "TIME", value_parser = When::read)]
    disable: Option<When>,
    /// Refuse to delete it.
    #[arg(long, conflicts_with = "unprotect")]
    protect: bool,
    /// Let it be deleted again.
    #[arg(long)]
    unprotect: bool,
}

/// A time that was said.
#[derive(Clone)]
struct When(Option<Time>);

impl When {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self(None)),
            "now" => Ok(Self(Some(jiff::Timestamp::now().into()))),
            text => {
                let value = Value::String(text.to_owned());
                let time = serde_json::from_value(value);
                time.map(|time| Self(Some(time))).map_err(|error| error.to_string())
            }
        }
    }
}

/// Changes what is said, and leaves the rest.
pub async fn edit(client: &Client, arguments: EditArguments) -> anyhow::Result<()> {
    let image = find(client, &arguments.image).await?;
    let target = format!("/calotype/images/{}/lifecycle", image.id);
    let is = client.get::<ImageLifecycleView>(&target).await?;
    let ImageLifecycleView { family, time_deprecated, time_disabled, is_protected, .. } = is.body;
    let details = UpdateImageLifecycleDetails {
        family: arguments.family.or(family).filter(|_| !arguments.no_family),
        time_deprecated: arguments.deprecate.map_or(time_deprecated, |when| when.0),
        time_disabled: arguments.disable.map_or(time_disabled, |when| when.0),
        is_protected: (is_protected || arguments.protect) && !arguments.unprotect,
    };
    let details = serde_json::to_value(details)?;
    let changed = client.put::<ImageLifecycleView>(&target, &details, is.etag.as_deref()).await?;
    show(&[changed.body]);
    Ok(())
}

/// Lists families, and which image each names.
pub async fn families(client: &Client) -> anyhow::Result<()> {
    let target = format!("/calotype/imageFamilies?compartmentId={}", client.tenancy());
    let mut table = render::table(&["FAMILY", "IMAGES", "LATEST"]);
    for family in client.list::<ImageFamily>(&target).await? {
        let latest = family.latest_image_id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        table.add_row([format!("family/{}", family.family), family.images.to_string(), latest]);
    }
    println!("{table}");
    Ok(())
}

/// Lists what can be restored.
pub async fn deleted(client: &Client) -> anyhow::Result<()> {
    let target = format!("/calotype/deletedImages?compartmentId={}", client.tenancy());
    show(&client.list::<ImageLifecycleView>(&target).await?);
    Ok(())
}

/// Takes an image out of the bin.
pub async fn restore(client: &Client, name: &str) -> anyhow::Result<()> {
    let target = format!("/calotype/deletedImages?compartmentId={}", client.tenancy());
    let images = client.list::<ImageLifecycleView>(&target).await?.into_iter();
    let is_meant =
        |image: &ImageLifecycleView| image.display_name == name || image.image_id.as_str() == name;
    let found: Vec<_> = images.filter(is_meant).collect();
    let image = match found.as_slice() {
        [image] => image,
        [] => bail!("no deleted image is called {name}: see `calotype image deleted`"),
        many => bail!("{} deleted images are called {name}: say the OCID", many.len()),
    };
    let target = format!("/calotype/images/{}/actions/restore", image.image_id);
    println!("{}", client.post::<Image>(&target, &json!({})).await?.body.id);
    Ok(())
}

/// The newest image of a family.
pub async fn latest(client: &Client, family: &str) -> anyhow::Result<Image> {
    let target =
        format!("/calotype/imageFamilies/{family}/latest?compartmentId={}", client.tenancy());
    match client.get(&target).await {
        Ok(answer) => Ok(answer.body),
        Err(error) => {
            let hint = format!(
                "family/{family} has no image that is AVAILABLE and not deprecated: see `calotype image families`"
            );
            Err(error.context(hint))
        }
    }
}

fn show(images: &[ImageLifecycleView]) {
    let headings = [
        "NAME",
        "STATE",
        "FAMILY",
        "DEPRECATED",
        "DISABLED",
        "PROTECTED",
        "RESTORABLE UNTIL",
        "ID",
    ];
    let mut table = render::table(&headings);
    let time = |time: Option<Time>| time.map_or_else(String::new, |time| time.to_string());
    for image in images {
        table.add_row([
            image.display_name.clone(),
            image.lifecycle_state.to_string(),
            image.family.clone().unwrap_or_default(),
            time(image.time_deprecated),
            time(image.time_disabled),
            (if image.is_protected { "yes" } else { "" }).to_owned(),
            time(image.time_purged),
            image.image_id.to_string(),
        ]);
    }
    println!("{table}");
}
