//! Import: an object becomes an image, in one pass and without a copy of the file.
//!
//! ```text
//!   reserve ── read ── publish
//!               │
//!               └ object ──► confined process ──► commit ──► manifest
//! ```
//!
//! * **read**: another process finds out what the file is and parses it ([`calotype_confined`]); the disk
//!   it serves is committed as it comes. After a crash the commit goes on where it was. A raw file
//!   is the disk already, so the image gets the object's own manifest.
//! * **publish**: only now is the image AVAILABLE.
//!
//! If the file is refused the image is DELETED, and the work request says why.

use std::sync::Arc;

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use calotype_confined::{ConfinedDisk, Expected, Opened};
use calotype_disk::{Disk, FormatName, Packing, Padded, SECTOR_BYTES, Source};
use calotype_store::ManifestId;
use serde::{Deserialize, Serialize};

use super::commit::{self, commit};
use super::follow::{Follow, follow};
use super::records::image;
use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, resource, seed};
use crate::app::images::archive;
use crate::app::objects::{self, ObjectRecord, ObjectSource};
use crate::foreign::{self, ForeignObject};
use crate::records::ImageRecord;
use crate::region::Region;

/// What an import must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImportImage {
    image_id: Ocid,
    compartment_id: Ocid,
    origin: Origin,
    /// Of the object that was there when the import was asked for.
    etag: String,
    expected: Expected,
}

/// Where what is imported lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Origin {
    /// An object of this region.
    Object {
        /// Name of its bucket.
        bucket: String,
        /// Its name.
        object: String,
    },
    /// An object of another region, by URL, in which there may be a secret.
    Url(String),
}

impl Origin {
    /// That of an object of this region.
    pub fn of(object: &ObjectRecord) -> Self {
        Self::Object { bucket: object.bucket.clone(), object: object.name.clone() }
    }
}

impl ImportImage {
    /// The import of what lies at `origin` and has this etag, and is said to be what is `expected`, into `image`.
    pub fn new(image: &ImageRecord, origin: Origin, etag: String, expected: Expected) -> Self {
        let id = &image.resource.id;
        Self {
            image_id: id.clone(),
            compartment_id: image.resource.compartment_id.clone().unwrap_or_else(|| id.clone()),
            origin,
            etag,
            expected,
        }
    }
}

impl Seeded for ImportImage {
    fn seed(&self, region: &Region) -> Seed {
        let resources = vec![resource("image", "images", ActionType::Created, &self.image_id)];
        seed(region, "Import Image", &self.compartment_id, resources)
    }
}

impl Workflow for ImportImage {
    type Environment = Arc<Region>;

    const NAME: &'static str = "import_image";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "reserve",
            weight: 1,
            run: |_| Box::pin(async { Ok(()) }),
            undo: Some(|context| {
                let id = context.state.image_id.clone();
                Box::pin(commit::discard(context, id))
            }),
        },
        Step {
            name: "read",
            weight: 95,
            run: |context| Box::pin(read(context)),
            undo: Some(|context| Box::pin(commit::forget(context))),
        },
        Step {
            name: "publish",
            weight: 4,
            run: |context| {
                let id = context.state.image_id.clone();
                Box::pin(commit::publish_alone(context, id))
            },
            undo: None,
        },
    ];
}

type Context = StepContext<ImportImage>;

async fn read(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let origin = find(context, &region).await?;
    // Dropped with this step, however it ends.
    let (watch, _given_up) = follow(context.progress_handle());
    let (source, here) = origin;
    let disk = open(context, &region, source, watch).await?;
    let opened = disk.opened().clone();
    if opened.size_bytes == 0 {
        let empty = "The file cannot be imported: its disk has no bytes";
        return Err(StepError::Fail(ApiError::new(ErrorCode::InvalidParameter, empty)));
    }
    // Before anything is copied: what the archive says may be refused.
    let mut described = image(&region, &context.state.image_id).await?;
    if let Some(metadata) = &opened.metadata {
        archive::describe(&mut described.value, metadata)?;
    }
    context.log(format!("{} disk of {} bytes", opened.format, opened.size_bytes));
    if opened.format == FormatName::Raw
        && let Some(here) = here
        && let Some((manifest, _kept)) = same_disk(&region, &here, opened.size_bytes)
    {
        context.log(format!("{manifest} is the object's own: nothing to copy"));
        return write_down(context, &opened, manifest, opened.size_bytes).await;
    }
    let disk: Arc<dyn Disk> = Arc::new(Padded::to_sectors(disk));
    let committed = commit(context, move || Ok(disk), None).await?;
    context.log(commit::summary(&committed));
    // The image is a root of collection before the commit stops protecting what it wrote.
    write_down(context, &opened, committed.manifest, committed.size_bytes).await
}

/// Writes the disk into the image, as that is by now: people may have changed it while it was read.
async fn write_down(
    context: &mut Context,
    opened: &Opened,
    manifest: ManifestId,
    size_bytes: u64,
) -> Result<(), StepError> {
    let id = context.state.image_id.clone();
    let describe = |image: &mut ImageRecord| {
        if let Some(metadata) = &opened.metadata {
            archive::describe(image, metadata)?;
        }
        image.manifest = Some(manifest);
        image.size_bytes = size_bytes;
        Ok(())
    };
    context.change(id.as_str(), describe).await.map(drop)
}

/// The bytes of what is imported; and, if it is an object of this region, that.
async fn find(
    context: &Context,
    region: &Arc<Region>,
) -> Result<(Box<dyn Source>, Option<ObjectSource>), StepError> {
    let ImportImage { origin, etag, .. } = &context.state;
    match origin {
        Origin::Object { bucket, object } => {
            let (found, source) = objects::open(region, bucket, object).await?;
            if found.etag() != *etag {
                return Err(written_anew());
            }
            let ahead = source.clone().read_ahead(tokio::runtime::Handle::current());
            Ok((Box::new(ahead), Some(source)))
        }
        Origin::Url(url) => match ForeignObject::open(&region.config.images, url).await {
            Ok(object) if object.etag() != etag => Err(written_anew()),
            Ok(object) => Ok((Box::new(object), None)),
            Err(error) if error.may_pass() => {
                Err(StepError::retry("The object's host could not be asked", &error))
            }
            Err(error) => Err(StepError::Fail(foreign::as_answer("sourceUri", &error))),
        },
    }
}

fn written_anew() -> StepError {
    let was = "The object was written anew while it was imported: import it again";
    StepError::Fail(ApiError::new(ErrorCode::IncorrectState, was))
}

/// Has the file opened by a process of its own.
async fn open(
    context: &Context,
    region: &Arc<Region>,
    source: Box<dyn Source>,
    watch: Follow,
) -> Result<ConfinedDisk, StepError> {
    let settings = &region.config.images;
    let request = calotype_confined::Request {
        reader: settings.disk_reader(),
        source,
        expected: context.state.expected,
        virtual_size_bytes_max: settings.import_size_bytes_max(),
        file_size_bytes_max: settings.import_size_bytes_max(),
        cancelled: Box::new(move || calotype_store::Progress::cancelled(&watch)),
    };
    let opening = tokio::task::spawn_blocking(move || ConfinedDisk::open(request)).await;
    match opening {
        Ok(Ok(disk)) => {
            let confinement = disk.opened().confinement;
            if !(confinement.landlock && confinement.seccomp) {
                tracing::warn!(?confinement, "this kernel cannot confine who reads foreign files");
            }
            Ok(disk)
        }
        Ok(Err(calotype_confined::Error::Refused(error))) => {
            let text = super::step::chain(&error);
            let refused = format!("The file cannot be imported: {text}");
            Err(StepError::Fail(ApiError::new(ErrorCode::InvalidParameter, refused)))
        }
        Ok(Err(error)) => Err(StepError::retry("The file could not be opened", &error)),
        Err(error) => Err(StepError::retry("The file could not be opened", &error)),
    }
}

/// The object's manifest if its bytes are the disk's, kept until the image has it.
fn same_disk(
    region: &Region,
    source: &ObjectSource,
    size_bytes: u64,
) -> Option<(ManifestId, calotype_store::Kept)> {
    let mut first = [0; 16];
    let length = usize::try_from(source.length_bytes()).unwrap_or(first.len()).min(first.len());
    source.read_at(0, &mut first[..length]).ok()?;
    // The disk is what such a file unpacks to, whatever their sizes.
    if Packing::of(&first).is_some() {
        return None;
    }
    let segments = source.segments();
    let [segment] = segments.as_slice() else { return None };
    let disk = region.store.disk(segment.manifest).ok()?;
    let whole = disk.size_bytes() == size_bytes && segment.size_bytes == size_bytes;
    let kept = region.store.keep(segment.manifest).ok()?;
    (whole && size_bytes.is_multiple_of(SECTOR_BYTES)).then_some((segment.manifest, kept))
}
