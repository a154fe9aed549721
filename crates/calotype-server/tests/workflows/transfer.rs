//! Imports and exports under the harness, and what they say of files that are no good.

use calotype_api::images::{ExportFormat, ImageState};
use calotype_confined::Expected;
use calotype_disk::{FormatName, Source as _};
use calotype_server::app::buckets::BucketRecord;
use calotype_server::app::multipart::UploadRecord;
use calotype_server::app::multipart::writer::ObjectWriter;
use calotype_server::app::objects::attributes::Attributes;
use calotype_server::app::objects::{self, ObjectRecord};
use calotype_server::db::{Batch, Versioned};
use calotype_server::jobs::Seeded as _;
use calotype_server::jobs::export_image::ExportImage;
use calotype_server::jobs::harness::Outcome;
use calotype_server::jobs::import_image::{ImportImage, Origin};
use calotype_server::records::ImageRecord;
use calotype_server::region::Region;

use crate::{Also, Scene, Stage, all, check, platform_image};

/// A disk of many clusters, some of them empty.
fn file_of_a_disk() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..3_u32 << 20).map(|index| (index / 5000) as u8).collect();
    bytes[512 << 10..1 << 20].fill(0);
    let disk = calotype_disk::raw::Raw::open(Box::new(bytes)).unwrap();
    let plan = calotype_disk::plan(FormatName::Qcow2, &disk).unwrap();
    let mut body = Gathered(Vec::new());
    let head = plan.write(&disk, &mut body).unwrap();
    [head, body.0].concat()
}

struct Gathered(Vec<u8>);

impl calotype_disk::Body for Gathered {
    fn append(&mut self, bytes: Vec<u8>) -> std::io::Result<()> {
        self.0.extend(bytes);
        Ok(())
    }
}

impl Stage {
    /// A bucket with a disk file in it.
    async fn and_object(&self) -> Versioned<ObjectRecord> {
        let (maker, now) = (&self.config.administrator, jiff::Timestamp::now());
        let bucket = BucketRecord::new(self.region(), "files", maker, now);
        self.region().db.apply(Batch::new().insert(&bucket)).await.unwrap();
        let none = Attributes::default();
        let writer = ObjectWriter::begin(self.region(), "files", "disk.qcow2", none).await.unwrap();
        writer.put_part(1, file_of_a_disk()).await.unwrap();
        writer.commit().await.unwrap()
    }
}

fn import_of(
    image: &ImageRecord,
    object: &Versioned<ObjectRecord>,
    format: FormatName,
) -> ImportImage {
    ImportImage::new(image, Origin::of(object), object.etag(), Expected::Disk(format))
}

async fn import(stage: Stage) -> Scene<ImportImage> {
    let object = stage.and_object().await;
    let mut image = platform_image(stage.region());
    image.resource.compartment_id = Some(stage.region().tenancy.clone());
    image.resource.lifecycle_state = ImageState::Importing;
    let job = import_of(&image, &object, FormatName::Qcow2);
    Scene::new(stage, job, Batch::new().insert(&image))
}

#[tokio::test(flavor = "multi_thread")]
async fn import_survives_everything() {
    check(async || import(Stage::empty().await).await).await;
}

async fn export(stage: Stage, format: ExportFormat) -> Scene<ExportImage> {
    let Scene { stage, job, batch, .. } = import(stage).await;
    stage.run(job, batch.into_inner().unwrap().unwrap()).await;
    let mut image = all::<ImageRecord>(stage.region()).await.remove(0);
    image.value.resource.lifecycle_state = ImageState::Exporting;
    let job = ExportImage::new(&image, "files", "exported", format);
    let also: Also = |region, outcome| Box::pin(is_whole_or_not_there(region, outcome));
    Scene { also: Some(also), ..Scene::new(stage, job, Batch::new().replace(&image)) }
}

async fn is_whole_or_not_there(region: &Region, outcome: Outcome) -> Result<(), String> {
    let objects = all::<ObjectRecord>(region).await;
    let exported = objects.iter().find(|object| object.name == "exported");
    if exported.is_some() != (outcome == Outcome::Succeeded) {
        return Err(format!("{outcome:?}, and the object is {exported:?}"));
    }
    if !all::<UploadRecord>(region).await.is_empty() {
        return Err("an upload is left".into());
    }
    let Some(exported) = exported else { return Ok(()) };
    let (_, source) =
        objects::open(region, "files", &exported.name).await.map_err(|error| error.to_string())?;
    let mut bytes = vec![0; usize::try_from(exported.size_bytes).unwrap()];
    source.read_at(0, &mut bytes).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn export_survives_everything() {
    check(async || export(Stage::empty().await, ExportFormat::Vdi).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_export_survives_everything() {
    check(async || export(Stage::empty().await, ExportFormat::Raw).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_damage_says_what_is_damaged() {
    let stage = Stage::empty().await;
    let object = stage.and_object().await;
    let mut file = file_of_a_disk();
    let end = file.len() - 70_000;
    file[end..].fill(0xff);
    let none = Attributes::default();
    let writer = ObjectWriter::begin(stage.region(), "files", "disk.qcow2", none).await.unwrap();
    writer.put_part(1, file).await.unwrap();
    let damaged = writer.commit().await.unwrap();
    let none = Attributes::default();
    let writer = ObjectWriter::begin(stage.region(), "files", "empty", none).await.unwrap();
    writer.put_part(1, Vec::new()).await.unwrap();
    let empty = writer.commit().await.unwrap();
    let imports = [
        (object, FormatName::Qcow2, "written anew"),
        (damaged, FormatName::Qcow2, "cannot be"),
        (empty, FormatName::Raw, "has no bytes"),
    ];
    for (object, format, reason) in imports {
        let mut image = platform_image(stage.region());
        image.resource.compartment_id = Some(stage.region().tenancy.clone());
        image.resource.lifecycle_state = ImageState::Importing;
        let job = import_of(&image, &object, format);
        let (jobs, seed) = (&stage.region().jobs, job.seed(stage.region()));
        let request = jobs.submit(job, seed, Batch::new().insert(&image)).await.unwrap();
        let request = jobs.wait(&request).await.unwrap();
        let said = format!("{:?}", request.errors);
        assert!(said.contains(reason), "{said}");
        let image = stage.load::<ImageRecord>(&image.resource.id).await;
        assert_eq!(image.resource.lifecycle_state, ImageState::Deleted);
    }
    stage.is_sound().await.unwrap();
}
