//! A region in a scratch directory, driven from within: no HTTP, no signatures, the same rules and
//! workflows. No guest of it outlives it, not even when the benchmark panics.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use calotype_api::Ocid;
use calotype_api::images::{CreateImageDetails, ExportFormat, Firmware, ImageState};
use calotype_api::instances::{InstanceState, LaunchInstanceDetails};
use calotype_confined::Expected;
use calotype_server::app::buckets::BucketRecord;
use calotype_server::app::images::Capture;
use calotype_server::app::instances::Launch;
use calotype_server::app::multipart::writer::ObjectWriter;
use calotype_server::app::network::SubnetRecord;
use calotype_server::app::objects::ObjectRecord;
use calotype_server::app::objects::attributes::Attributes;
use calotype_server::app::{Context, platform_images};
use calotype_server::config::{Config, Paths};
use calotype_server::db::{Batch, Document, Query, Versioned};
use calotype_server::guests::machine_directory;
use calotype_server::http::Principal;
use calotype_server::init::{self, Options};
use calotype_server::jobs::capture_image::{CAPTURE_TAG, CaptureImage};
use calotype_server::jobs::export_image::ExportImage;
use calotype_server::jobs::import_image::{ImportImage, Origin};
use calotype_server::jobs::launch_instance::LaunchInstance;
use calotype_server::jobs::power_instance::{Action, PowerInstance};
use calotype_server::jobs::register_platform_image::RegisterPlatformImage;
use calotype_server::jobs::terminate_instance::TerminateInstance;
use calotype_server::jobs::{Seeded, WorkRequestRecord};
use calotype_server::records::{BootVolumeRecord, ImageRecord, InstanceRecord};
use calotype_server::region::Region;
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

const SHAPE: &str = "VM.Standard.E2.1.Micro";
const BUCKET: &str = "files";
/// Much finer than what is measured, and much coarser than what a look at the catalog costs.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

pub struct Stage {
    pub region: Arc<Region>,
    config: Config,
    directory: TempDir,
}

impl Stage {
    /// A new region; guests run on what a real one would choose.
    pub async fn open() -> Self {
        let directory = TempDir::with_prefix("calotype-bench-").unwrap();
        let paths = Paths::new(directory.path());
        let options = Options::new("bench-1", "bench.localhost", 1);
        let config = init::init(&paths, options).await.unwrap();
        let region = Region::open(paths, config.clone()).await.unwrap();
        Self { region, config, directory }
    }

    /// A directory for what is no business of the region.
    pub fn scratch(&self) -> PathBuf {
        let scratch = self.directory.path().join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        scratch
    }

    /// Where the disk of a platform image must lie.
    pub fn disk(&self, name: &str) -> PathBuf {
        self.region.paths.platform_images().join(format!("{name}.raw"))
    }

    /// Makes an image of that disk.
    pub async fn register(&self, name: &str) -> Versioned<ImageRecord> {
        let size_bytes = std::fs::metadata(self.disk(name)).unwrap().len();
        let details = platform_images::RegisterPlatformImageDetails {
            file: name.into(),
            display_name: name.into(),
            operating_system: "None".into(),
            operating_system_version: "0".into(),
            firmware: Firmware::Bios,
        };
        let region = &self.region;
        let image =
            platform_images::new_record(region, details, size_bytes, Timestamp::now()).unwrap();
        let job = RegisterPlatformImage::new(&image, name.into(), &region.tenancy);
        self.run(job, Batch::new().insert(&image)).await;
        self.load(&image.resource.id).await
    }

    /// Launches an instance and waits until its work request has succeeded.
    pub async fn launch(&self, image: &ImageRecord) -> Ocid {
        self.launch_with(image, &Value::Null).await
    }

    /// The same, with metadata.
    pub async fn launch_with(&self, image: &ImageRecord, metadata: &Value) -> Ocid {
        let details = self.launch_details(image, metadata).await;
        let launch = Launch::prepare(&self.context(), details).await.unwrap();
        let id = launch.instance.resource.id.clone();
        self.run(LaunchInstance::new(&launch.instance), launch.batch).await;
        id
    }

    async fn launch_details(&self, image: &ImageRecord, metadata: &Value) -> LaunchInstanceDetails {
        let subnets = self.region.db.list_all::<SubnetRecord>(Query::new()).await.unwrap();
        serde_json::from_value(serde_json::json!({
            "compartmentId": self.region.tenancy,
            "availabilityDomain": self.config.availability_domain(),
            "shape": SHAPE,
            "sourceDetails": {"sourceType": "image", "imageId": image.resource.id},
            "createVnicDetails": {"subnetId": subnets.first().unwrap().id()},
            "metadata": metadata,
        }))
        .unwrap()
    }

    /// Puts a file into a bucket, which is made with the first.
    pub async fn put(&self, name: &str, file: &Path) -> Versioned<ObjectRecord> {
        let (maker, now) = (&self.config.administrator, Timestamp::now());
        let bucket = BucketRecord::new(&self.region, BUCKET, maker, now);
        let _there_already = self.region.db.apply(Batch::new().insert(&bucket)).await;
        let none = Attributes::default();
        let writer = ObjectWriter::begin(&self.region, BUCKET, name, none).await.unwrap();
        for (part, number) in std::fs::read(file).unwrap().chunks(32 << 20).zip(1..) {
            writer.put_part(number, part.to_vec()).await.unwrap();
        }
        writer.commit().await.unwrap()
    }

    /// Imports an object and waits until the image is AVAILABLE.
    pub async fn import(&self, object: &Versioned<ObjectRecord>, expected: Expected) -> Ocid {
        let details = platform_images::RegisterPlatformImageDetails {
            file: "none".into(),
            display_name: "imported".into(),
            operating_system: "None".into(),
            operating_system_version: "0".into(),
            firmware: Firmware::Bios,
        };
        let region = &self.region;
        let mut image = platform_images::new_record(region, details, 0, Timestamp::now()).unwrap();
        image.resource.compartment_id = Some(region.tenancy.clone());
        image.resource.lifecycle_state = ImageState::Importing;
        let job = ImportImage::new(&image, Origin::of(object), object.etag(), expected);
        self.run(job, Batch::new().insert(&image)).await;
        image.resource.id
    }

    /// Exports an image and waits until the object is there.
    /// Answers when the first byte was written, as the work request tells it.
    pub async fn export(&self, id: &Ocid, object: &str, format: ExportFormat) -> Option<Duration> {
        let mut image = self.load::<ImageRecord>(id).await;
        image.value.resource.lifecycle_state = ImageState::Exporting;
        let job = ExportImage::new(&image, BUCKET, object, format);
        let told = self.run(job, Batch::new().replace(&image)).await;
        let after = told.logs.iter().find_map(|line| {
            line.message.strip_prefix("the first byte was written after ")?.strip_suffix(" ms")
        });
        after.map(|after| Duration::from_millis(after.parse().unwrap()))
    }

    pub async fn stop(&self, id: &Ocid) {
        self.power(id, Action::Stop, InstanceState::Stopping).await;
    }

    pub async fn start(&self, id: &Ocid) {
        self.power(id, Action::Start, InstanceState::Starting).await;
    }

    async fn power(&self, id: &Ocid, action: Action, meanwhile: InstanceState) {
        let mut instance = self.load::<InstanceRecord>(id).await;
        instance.value.resource.lifecycle_state = meanwhile;
        let job = PowerInstance::new(&instance, action, &self.config.guests);
        self.run(job, Batch::new().replace(&instance)).await;
    }

    pub async fn terminate(&self, id: &Ocid) {
        let mut instance = self.load::<InstanceRecord>(id).await;
        instance.value.resource.lifecycle_state = InstanceState::Terminating;
        let job = TerminateInstance::new(&instance, false);
        self.run(job, Batch::new().replace(&instance)).await;
    }

    /// Asks for an image of the instance, as `CreateImage` does; it is CREATING_IMAGE on return.
    pub async fn submit_capture(&self, id: &Ocid) -> Capturing {
        self.submit_capture_tagged(id, "shutdown").await
    }

    /// The same in one of the ways that there are.
    pub async fn submit_capture_tagged(&self, id: &Ocid, way: &str) -> Capturing {
        let tags = [(CAPTURE_TAG.to_owned(), way.to_owned())].into();
        let details = CreateImageDetails {
            freeform_tags: Some(tags),
            ..CreateImageDetails::from_instance(self.region.tenancy.clone(), id.clone())
        };
        let context = self.context();
        let Capture { image, instance, way, batch } =
            Capture::prepare(&context, details).await.unwrap();
        let settings = &self.config.capture;
        let job = CaptureImage::new(&image, &instance, way, context.now, settings);
        let seed = job.seed(&self.region);
        let request = self.region.jobs.submit(job, seed, batch).await.unwrap();
        Capturing { image: image.resource.id.clone(), request }
    }

    /// Waits until the image is AVAILABLE; tells what the commit has read and stored.
    pub async fn available(&self, capturing: &Capturing) -> String {
        let lines = self.log_of(capturing).await;
        let line = lines.iter().find(|line| line.starts_with("committed ")).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    }

    /// Waits until the image is AVAILABLE; the log of the work request.
    pub async fn log_of(&self, capturing: &Capturing) -> Vec<String> {
        let request = self.succeeded(&capturing.request).await;
        let image = self.load::<ImageRecord>(&capturing.image).await;
        assert_eq!(image.resource.lifecycle_state, ImageState::Available);
        request.logs.into_iter().map(|entry| entry.message).collect()
    }

    /// Waits until clients see the instance RUNNING.
    pub async fn running(&self, id: &Ocid) {
        loop {
            let instance = self.load::<InstanceRecord>(id).await;
            if instance.resource.lifecycle_state == InstanceState::Running {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What the instance's serial console has shown.
    pub async fn console(&self, id: &Ocid) -> PathBuf {
        let instance = self.load::<InstanceRecord>(id).await;
        machine_directory(&self.region.paths, &instance).join(calotype_vm::CONSOLE_LOG)
    }

    /// The file that the instance's writes go to.
    pub async fn overlay(&self, id: &Ocid) -> PathBuf {
        let instance = self.load::<InstanceRecord>(id).await;
        let volume = self.load::<BootVolumeRecord>(&instance.boot_volume_id).await;
        self.region.paths.volumes().join(&volume.directory).join(volume.layers.first().unwrap())
    }

    fn context(&self) -> Context {
        let region = Arc::clone(&self.region);
        let user = self.config.administrator.parse().unwrap();
        Context {
            principal: Principal { user, tenancy: region.tenancy.clone() },
            region,
            now: Timestamp::now(),
            request_id: "bench".into(),
            retry: None,
        }
    }

    async fn run<W: Seeded>(&self, job: W, batch: Batch) -> WorkRequestRecord {
        let seed = job.seed(&self.region);
        let request = self.region.jobs.submit(job, seed, batch).await.unwrap();
        self.succeeded(&request).await
    }

    async fn succeeded(&self, request: &Ocid) -> WorkRequestRecord {
        let request = self.region.jobs.wait(request).await.unwrap();
        assert!(request.errors.is_empty(), "{request:?}");
        request
    }

    async fn load<T: Document>(&self, id: &Ocid) -> Versioned<T> {
        self.region.db.get::<T>(id.as_str()).await.unwrap().unwrap()
    }
}

/// A capture that was accepted.
pub struct Capturing {
    image: Ocid,
    request: Ocid,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Guests outlive a region; they must not outlive a benchmark.
        let instances = self.directory.path().join("instances");
        for instance in std::fs::read_dir(instances).into_iter().flatten().flatten() {
            end_guest(&instance.path().join("run/qemu.pid"));
        }
    }
}

/// Ends the process of a pid file, if it is still the QEMU that wrote it: ids are used again.
fn end_guest(pid_file: &Path) {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return };
    let Ok(line) = std::fs::read(format!("/proc/{}/cmdline", text.trim())) else { return };
    let is_ours =
        String::from_utf8_lossy(&line).split('\0').any(|word| Path::new(word) == pid_file);
    let pid = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    if let (true, Some(pid)) = (is_ours, pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
