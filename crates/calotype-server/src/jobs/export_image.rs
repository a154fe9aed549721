//! Export: an image becomes an object, written as it is made and without a file in between.
//!
//! ```text
//!   reserve ── write ── finish
//!                │
//!                └ manifest ──► writer of the format ──► parts of an upload
//! ```
//!
//! * **write**: the object's parts are stored as they are full, its head last. Nothing is to be seen of it. Run
//!   again after a crash it begins anew: what is deflated once is not kept.
//! * **finish**: the upload becomes the object, the image is AVAILABLE again.
//!
//! A raw object *is* the image's manifest, so there is nothing to write.
//!
//! If a step fails the upload is given up, so there is no half object; the image is AVAILABLE again, and
//! the work request says why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::{ExportFormat, ImageState};
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use calotype_disk::{Disk, Export, Extent, FormatName, oci_archive, qcow2, vhd, vmdk};
use calotype_store::{ManifestId, Progress as _, StoredDisk};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::commit::is_damaged;
use super::follow::{Follow, follow};
use super::records::image;
use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, resource, seed};
use crate::app::capabilities::{self, CapabilitySchemaRecord};
use crate::app::images::archive;
use crate::app::multipart::writer::ObjectWriter;
use crate::app::objects::attributes::Attributes;
use crate::app::objects::write::{self, Conditions};
use crate::app::objects::{NewObject, ObjectRecord, Segment};
use crate::db::Batch;
use crate::error::{Error, Result as RegionResult};
use crate::records::ImageRecord;
use crate::region::Region;

/// What an export must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportImage {
    image_id: Ocid,
    compartment_id: Ocid,
    bucket: String,
    object: String,
    format: ExportFormat,
    /// The upload that was begun.
    upload_id: Option<String>,
}

impl ExportImage {
    /// The export of `image` to an object of a bucket.
    pub fn new(image: &ImageRecord, bucket: &str, object: &str, format: ExportFormat) -> Self {
        let id = &image.resource.id;
        Self {
            image_id: id.clone(),
            compartment_id: image.resource.compartment_id.clone().unwrap_or_else(|| id.clone()),
            bucket: bucket.to_owned(),
            object: object.to_owned(),
            format,
            upload_id: None,
        }
    }
}

impl Seeded for ExportImage {
    fn seed(&self, region: &Region) -> Seed {
        let resources = vec![resource("image", "images", ActionType::Related, &self.image_id)];
        seed(region, "Export Image", &self.compartment_id, resources)
    }
}

impl Workflow for ExportImage {
    type Environment = Arc<Region>;

    const NAME: &'static str = "export_image";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "reserve",
            weight: 1,
            run: |_| Box::pin(async { Ok(()) }),
            undo: Some(|context| Box::pin(release(context))),
        },
        Step {
            name: "write",
            weight: 97,
            run: |context| Box::pin(write_parts(context)),
            undo: Some(|context| Box::pin(give_up(context))),
        },
        Step { name: "finish", weight: 2, run: |context| Box::pin(finish(context)), undo: None },
    ];
}

type Context = StepContext<ExportImage>;

async fn write_parts(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let image = image(&region, &context.state.image_id).await?;
    let manifest = manifest(&image)?;
    if context.state.format == ExportFormat::Raw {
        return Ok(());
    }
    let begin = Instant::now();
    // What an earlier run began.
    give_up(context).await?;
    let ExportImage { bucket, object, .. } = &context.state;
    let none = Attributes::default();
    let (writer, batch) = ObjectWriter::prepare(&region, bucket, object, none).await?;
    context.state.upload_id = Some(writer.upload_id().to_owned());
    context.save(batch).await?;

    let (follow, given_up) = follow(context.progress_handle());
    let schema = capabilities::of_image(&region.db, &image.resource.id).await?;
    let plan = plan_of(context.state.format, &image, schema.as_deref());
    let mut body = writer.body();
    let writing = tokio::task::spawn_blocking(move || {
        let disk = Followed::open(&region, manifest, follow)?;
        let export = plan(&disk)?;
        let head = export.write(&disk, &mut body)?;
        let first_byte = body.first_byte();
        body.finish(head).map_err(|error| {
            let context = "writing the object";
            let error =
                calotype_disk::Error::new(calotype_disk::ErrorKind::Io, context).with_source(error);
            Error::from(error)
        })?;
        Ok(first_byte)
    });
    let written = writing.await;
    drop(given_up);
    match written {
        Ok(Ok(first_byte)) => {
            if let Some(first_byte) = first_byte {
                let after = first_byte.duration_since(begin).as_millis();
                context.log(format!("the first byte was written after {after} ms"));
            }
            Ok(())
        }
        Ok(Err(error)) if told(&error).is_some() || is_damaged(&error) => {
            let text = super::step::chain(&error);
            tracing::error!(error = %text, "an image cannot be exported");
            let unwritten = format!("The image cannot be exported: {text}");
            let other = || ApiError::new(ErrorCode::InvalidParameter, unwritten);
            Err(StepError::Fail(told(&error).unwrap_or_else(other)))
        }
        Ok(Err(error)) => Err(StepError::retry("The object could not be written", &error)),
        Err(error) => Err(StepError::retry("The object could not be written", &error)),
    }
}

/// What the caller can do something about, such as a full disk.
fn told(error: &Error) -> Option<ApiError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let within = within.and_then(|error| error.downcast_ref::<ApiError>());
        if let Some(told) = error.downcast_ref::<ApiError>().or(within) {
            return (told.code == ErrorCode::LimitExceeded).then(|| told.clone());
        }
        cause = error.source();
    }
    None
}

type Planner = Box<dyn FnOnce(&dyn Disk) -> calotype_disk::Result<Box<dyn Export>> + Send>;

/// How a disk is written in that format.
fn plan_of(
    format: ExportFormat,
    image: &ImageRecord,
    schema: Option<&CapabilitySchemaRecord>,
) -> Planner {
    let name = match format {
        ExportFormat::Oci => {
            let metadata = archive::of(image, schema);
            return Box::new(move |disk| oci_archive::plan(disk, &metadata));
        }
        ExportFormat::Qcow2 => FormatName::Qcow2,
        ExportFormat::Vmdk => FormatName::Vmdk,
        ExportFormat::Vhd => FormatName::Vhd,
        ExportFormat::Vdi => FormatName::Vdi,
        ExportFormat::Raw => FormatName::Raw,
        ExportFormat::Qcow2Sparse => return Box::new(qcow2::plan_sparse),
        ExportFormat::VmdkSparse => return Box::new(vmdk::plan_sparse),
        ExportFormat::VhdFixed => return Box::new(vhd::plan_fixed),
    };
    Box::new(move |disk| calotype_disk::plan(name, disk))
}

fn manifest(image: &ImageRecord) -> Result<ManifestId, StepError> {
    image.manifest.ok_or_else(|| {
        let missing = Error::Missing { kind: "manifest", id: image.resource.id.to_string() };
        StepError::fail("The image has no disk", &missing)
    })
}

/// The object, and that the image is AVAILABLE, are written in one batch with the end of the step: until
/// then nothing is to be seen.
async fn finish(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let mut image = image(&region, &context.state.image_id).await?;
    let (object, batch) = match &context.state.upload_id {
        Some(upload_id) => {
            let upload = ObjectWriter::resume(&region, upload_id);
            let gone = || Error::Missing { kind: "multipart_upload", id: upload_id.clone() };
            let prepared = upload.prepare_commit().await?;
            let (object, batch, kept) =
                prepared.ok_or_else(|| StepError::fail("The upload was given up", &gone()))?;
            context.keep(kept);
            (object, batch)
        }
        None => manifest_as_object(context, &region, &image).await?,
    };
    context.log(format!("an object of {} bytes", object.size_bytes));
    image.value.resource.lifecycle_state = ImageState::Available;
    context.write(batch.replace(&image));
    Ok(())
}

/// The object is the image's own manifest, which the image keeps.
async fn manifest_as_object(
    context: &Context,
    region: &Arc<Region>,
    image: &ImageRecord,
) -> Result<(ObjectRecord, Batch), StepError> {
    let object = NewObject {
        bucket: context.state.bucket.clone(),
        name: context.state.object.clone(),
        segments: vec![Segment { manifest: manifest(image)?, size_bytes: image.size_bytes }],
        md5: None,
        attributes: Attributes::default(),
    };
    let any = Conditions::default();
    let (object, batch) = write::prepare(region, &object, &any, Timestamp::now()).await?;
    context.log("the object is the image's manifest: nothing to copy");
    Ok((object.value, batch))
}

async fn give_up(context: &mut Context) -> Result<(), StepError> {
    if let Some(upload_id) = &context.state.upload_id {
        ObjectWriter::resume(&context.environment, upload_id).abort().await?;
    }
    Ok(())
}

async fn release(context: &mut Context) -> Result<(), StepError> {
    let mut image = image(&context.environment, &context.state.image_id).await?;
    image.value.resource.lifecycle_state = ImageState::Available;
    context.write(Batch::new().replace(&image));
    Ok(())
}

/// A stored disk that tells how far it was read, and fails when nobody wants it any more.
struct Followed {
    disk: Arc<StoredDisk>,
    follow: Follow,
    /// How far it was read.
    reached_bytes: AtomicU64,
}

impl Followed {
    fn open(region: &Region, manifest: ManifestId, follow: Follow) -> RegionResult<Self> {
        Ok(Self { disk: region.store.disk(manifest)?, follow, reached_bytes: AtomicU64::new(0) })
    }
}

impl Disk for Followed {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> calotype_disk::Result<()> {
        if self.follow.cancelled() {
            let given_up = "the export was given up";
            return Err(calotype_disk::Error::new(calotype_disk::ErrorKind::Io, given_up));
        }
        self.disk.read_at(offset, buf)?;
        // Read in its order, by several threads.
        let end = offset + buf.len() as u64;
        let reached = self.reached_bytes.fetch_max(end, Ordering::Relaxed).max(end);
        self.follow.advance(reached, self.size_bytes());
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> calotype_disk::Result<Extent> {
        self.disk.extent_at(offset)
    }
}
