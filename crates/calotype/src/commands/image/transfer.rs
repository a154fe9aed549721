//! `calotype image import` and `export`: the whole way of a file into the region, and out of it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use calotype_api::images::Image;
use calotype_disk::{FormatName, detect, oci_archive};
use calotype_store::FileSource;
use serde_json::{Value, json};

use super::{find, wait};
use crate::client::{BUCKET, Client, Objects, is_open};
use crate::render;

/// Arguments of `calotype image import`.
#[derive(clap::Args)]
pub struct ImportArguments {
    /// The file: qcow2, vmdk, vdi, vhd, vhdx or raw, also compressed by gzip, xz or zstd; or an .oci archive.
    pub file: PathBuf,
    /// The image's display name [default: that of the file].
    #[arg(long)]
    pub name: Option<String>,
    /// What the file must be [default: what it looks like].
    #[arg(long, value_parser = ["oci", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "raw"])]
    pub format: Option<String>,
    /// The devices that guests get [default: PARAVIRTUALIZED; an archive has its own].
    #[arg(long, value_name = "MODE", value_parser = ["NATIVE", "EMULATED", "PARAVIRTUALIZED"])]
    pub launch_mode: Option<String>,
    /// The operating system, as instances are filtered by [default: Custom].
    #[arg(long, value_name = "NAME")]
    pub operating_system: Option<String>,
    /// Its version [default: Custom].
    #[arg(long, value_name = "VERSION")]
    pub operating_system_version: Option<String>,
}

/// The formats of `exportFormat`, as one types them.
const EXPORT_FORMATS: [&str; 9] =
    ["oci", "qcow2", "vmdk", "vdi", "vhd", "raw", "qcow2-sparse", "vmdk-sparse", "vhd-fixed"];

/// Arguments of `calotype image export`.
#[derive(clap::Args)]
pub struct ExportArguments {
    /// Display name or OCID of the image.
    pub image: String,
    /// The file, which must not be there yet.
    pub file: PathBuf,
    /// The file's format [default: what its name ends with].
    #[arg(long, value_parser = EXPORT_FORMATS)]
    pub format: Option<String>,
}

/// Makes an image of a file.
pub async fn import(client: &Client, arguments: ImportArguments) -> anyhow::Result<()> {
    let file = &arguments.file;
    let format = source_format(file, arguments.format.as_deref())?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("image").to_owned();
    let objects = client.objects().await?;
    let object = object_name();
    let size_bytes =
        std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    let bar = render::bytes_progress("uploading", size_bytes);
    objects.upload(file, &object, |bytes| bar.set_position(bytes)).await?;
    bar.finish_and_clear();

    let mut source = objects.place(&object);
    source["sourceType"] = "objectStorageTuple".into();
    set(&mut source, "sourceImageType", format);
    set(&mut source, "operatingSystem", arguments.operating_system);
    set(&mut source, "operatingSystemVersion", arguments.operating_system_version);
    let mut details = json!({
        "compartmentId": client.tenancy(),
        "displayName": arguments.name.unwrap_or(name),
        "imageSourceDetails": source,
    });
    set(&mut details, "launchMode", arguments.launch_mode);
    let created = client.post::<Image>("/20160918/images", &details).await;
    let imported = match created {
        Ok(answer) => {
            wait(client, "importing", answer.work_request.as_ref()).await.map(|()| answer)
        }
        Err(error) => Err(error),
    };
    tidy(&objects, &object, &imported).await;
    println!("{}", imported?.body.id);
    Ok(())
}

/// Makes a file of an image.
pub async fn export(client: &Client, arguments: ExportArguments) -> anyhow::Result<()> {
    let ExportArguments { image, file, format } = arguments;
    let format = match format {
        Some(format) => format.to_uppercase().replace('-', "_"),
        None => target_format(&file)?.to_owned(),
    };
    if file.exists() {
        bail!("{} is there already", file.display());
    }
    let image = find(client, &image).await?;
    let objects = client.objects().await?;
    // A file of that name is whole: until then it has another, which is ours alone.
    let partial = file.with_added_extension("partial");
    let target = File::create_new(&partial).with_context(|| {
        format!("cannot make {}: is another export writing it?", partial.display())
    })?;
    let object = object_name();
    let mut details = objects.place(&object);
    details["destinationType"] = "objectStorageTuple".into();
    details["exportFormat"] = format.into();
    let exported = export_to(client, &image, &details).await;
    let downloaded = match exported {
        Ok(()) => download(&objects, &object, target).await,
        Err(error) => Err(error),
    };
    let moved = downloaded.and_then(|()| {
        std::fs::rename(&partial, &file).with_context(|| format!("cannot write {}", file.display()))
    });
    if moved.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    tidy(&objects, &object, &moved).await;
    moved
}

/// Deletes the object that was between the file and the image, unless the region may still be at it. Neither changes
/// what the command has done.
async fn tidy<T>(objects: &Objects<'_>, object: &str, done: &anyhow::Result<T>) {
    let left = if done.as_ref().is_err_and(is_open) {
        Some("the region may still need it".to_owned())
    } else {
        objects.delete(object).await.err().map(|error| format!("{error:#}"))
    };
    if let Some(why) = left {
        eprintln!("warning: object {object} in bucket {BUCKET} is left: {why}");
    }
}

async fn export_to(client: &Client, image: &Image, details: &Value) -> anyhow::Result<()> {
    let target = format!("/20160918/images/{}/actions/export", image.id);
    let answer = client.post::<Image>(&target, details).await?;
    wait(client, "exporting", answer.work_request.as_ref()).await
}

async fn download(objects: &Objects<'_>, object: &str, target: File) -> anyhow::Result<()> {
    let bar = render::bytes_progress("downloading", 0);
    let downloaded = objects.download(object, target, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    let downloaded = downloaded.await;
    bar.finish_and_clear();
    downloaded
}

fn object_name() -> String {
    format!("{}-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S"), std::process::id())
}

fn set(value: &mut Value, field: &str, text: Option<String>) {
    if let Some(text) = text {
        value[field] = text.into();
    }
}

/// The `sourceImageType` of a file; none for an archive. The region looks for itself.
fn source_format(file: &Path, said: Option<&str>) -> anyhow::Result<Option<String>> {
    if let Some(said) = said {
        return Ok((said != "oci").then(|| said.to_uppercase()));
    }
    if ["gz", "xz", "zst"].contains(&ending(file).as_str()) {
        // Only the region unpacks: here the name must do.
        let inner = file.with_extension("");
        if ["oci", "tar"].contains(&ending(&inner).as_str()) {
            return Ok(None);
        }
        let known = by_ending(&inner).with_context(|| {
            format!("{} does not say what is compressed in it: use --format", file.display())
        })?;
        return Ok(Some(known.to_owned()));
    }
    let source =
        FileSource::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    if ending(file) == "oci" || oci_archive::is_archive(&source)? {
        return Ok(None);
    }
    let found = detect(&source).with_context(|| format!("cannot import {}", file.display()))?;
    if found == FormatName::Raw && by_ending(file).is_some_and(|known| known != "RAW") {
        bail!("{} is none, though its name says so: use --format raw if it is raw", file.display());
    }
    Ok(Some(found.to_string()))
}

/// What a file's name ends with, in small letters.
fn ending(file: &Path) -> String {
    file.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn by_ending(file: &Path) -> Option<&'static str> {
    Some(match ending(file).as_str() {
        "qcow2" | "qcow" => "QCOW2",
        "vmdk" => "VMDK",
        "vdi" => "VDI",
        "vhd" | "vpc" => "VHD",
        "vhdx" => "VHDX",
        "raw" | "img" => "RAW",
        _ => return None,
    })
}

fn target_format(file: &Path) -> anyhow::Result<&'static str> {
    if ending(file) == "oci" {
        return Ok("OCI");
    }
    match by_ending(file) {
        Some("VHDX") => bail!("vhdx is not written: use .vhd"),
        Some(format) => Ok(format),
        None => bail!("{} does not say its format: use --format", file.display()),
    }
}
