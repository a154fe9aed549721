//! Every workflow of the region, with real guests, under the harness that kills it at, repeats and
//! unwinds every step. The guests run a disk without an operating system: what is tested is what the
//! region does around them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use calotype_api::Ocid;
use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::images::{CreateImageDetails, ImageState};
use calotype_api::instances::{InstanceState, LaunchInstanceDetails};
use calotype_server::app::images::Capture;
use calotype_server::app::instances::Launch;
use calotype_server::app::network::SubnetRecord;
use calotype_server::app::{Context, platform_images};
use calotype_server::config::{CaptureConfig, Config, Paths};
use calotype_server::db::{Batch, Db, Document as _, Query, Versioned};
use calotype_server::http::Principal;
use calotype_server::init::{self, Options};
use calotype_server::jobs::capture_image::{CAPTURE_TAG, CaptureImage};
use calotype_server::jobs::collect::{self, CollectStore};
use calotype_server::jobs::delete_boot_volume::DeleteBootVolume;
use calotype_server::jobs::delete_image::DeleteImage;
use calotype_server::jobs::harness::{Outcome, World, torment};
use calotype_server::jobs::launch_instance::LaunchInstance;
use calotype_server::jobs::power_instance::{Action, PowerInstance};
use calotype_server::jobs::register_platform_image::RegisterPlatformImage;
use calotype_server::jobs::scrub_store::ScrubStore;
use calotype_server::jobs::scrub_store::report::{ScrubRecord, ScrubReport};
use calotype_server::jobs::terminate_instance::TerminateInstance;
use calotype_server::jobs::{Engine, Seeded, Workflow};
use calotype_server::records::{BootVolumeRecord, ImageRecord, InstanceRecord};
use calotype_server::region::Region;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tempfile::TempDir;

mod workflows {
    mod forgotten;
    mod identity;
    mod live;
    mod transfer;
    mod update;
    mod volumes;
}

/// Size of the disk that the guests run: no operating system, some bytes to commit.
const DISK_BYTES: usize = 1 << 20;
/// How long a region that was dropped may take until its files can be opened again.
const REOPEN_MAX: Duration = Duration::from_secs(20);
const SHAPE: &str = "VM.Standard.E2.1.Micro";

/// A region in a directory of its own.
struct Stage {
    region: Option<Arc<Region>>,
    directory: Arc<TempDir>,
    config: Config,
}

impl Stage {
    /// A new region without images.
    async fn empty() -> Self {
        Self::prepared(|_| ()).await
    }

    /// A new region without images; `prepare` is called before it is opened.
    async fn prepared(prepare: impl FnOnce(&Paths)) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let paths = Paths::new(directory.path());
        let options = Options::new("test-1", "test.localhost", 1);
        let mut config = init::init(&paths, options).await.unwrap();
        config.guests.accelerator = "tcg".into();
        // A disk without an operating system hears no power button.
        config.capture.shutdown_seconds = 0;
        config.guests.soft_stop_seconds = 0;
        config.guests.freeze_guard = process("freeze_guard_process");
        config.images.disk_reader = process("disk_reader_process");
        let disk: Vec<u8> = (0..DISK_BYTES).map(|index| (index / 4096) as u8).collect();
        std::fs::write(paths.platform_images().join("disk.raw"), disk).unwrap();
        prepare(&paths);
        let region = Region::open(paths, config.clone()).await.unwrap();
        Self { region: Some(region), directory, config }
    }

    /// A region with one platform image.
    async fn with_image() -> (Self, Versioned<ImageRecord>) {
        Self::empty().await.and_image().await
    }

    async fn and_image(self) -> (Self, Versioned<ImageRecord>) {
        let stage = self;
        let image = platform_image(stage.region());
        let job = RegisterPlatformImage::new(&image, "disk".into(), &stage.region().tenancy);
        stage.run(job, Batch::new().insert(&image)).await;
        let image = stage.load::<ImageRecord>(&image.resource.id).await;
        (stage, image)
    }

    /// A region with one RUNNING instance.
    async fn with_instance() -> (Self, Ocid) {
        Self::empty().await.and_instance().await
    }

    async fn and_instance(self) -> (Self, Ocid) {
        let (stage, image) = self.and_image().await;
        let launch = stage.launch(&image).await;
        let id = launch.instance.resource.id.clone();
        stage.run(LaunchInstance::new(&launch.instance), launch.batch).await;
        (stage, id)
    }

    async fn launch(&self, image: &ImageRecord) -> Launch {
        Launch::prepare(&self.context(), launch_details(self.region(), image).await).await.unwrap()
    }

    fn region(&self) -> &Arc<Region> {
        self.region.as_ref().unwrap()
    }

    fn context(&self) -> Context {
        let region = Arc::clone(self.region());
        let user = self.config.administrator.parse().unwrap();
        Context {
            principal: Principal { user, tenancy: region.tenancy.clone() },
            region,
            now: Timestamp::now(),
            request_id: "test".into(),
            retry: None,
        }
    }

    /// Runs a job to its good end, with the region's own engine.
    async fn run<W: Seeded>(&self, job: W, batch: Batch) {
        let region = self.region();
        let id = region.jobs.submit(job.clone(), job.seed(region), batch).await.unwrap();
        let request = region.jobs.wait(&id).await.unwrap();
        assert!(request.errors.is_empty(), "{request:?}");
    }

    async fn submit<W: Seeded>(
        &self,
        engine: &Engine<Arc<Region>>,
        job: W,
        batch: Batch,
    ) -> Result<Ocid, String> {
        let seed = job.seed(self.region());
        engine.submit(job, seed, batch).await.map_err(|error| error.to_string())
    }

    async fn load<T: calotype_server::db::Document>(&self, id: &Ocid) -> Versioned<T> {
        self.region().db.get::<T>(id.as_str()).await.unwrap().unwrap()
    }

    /// The process was killed: only what is on disk is left, and the guests.
    async fn restart(&mut self) -> Result<(), String> {
        if let Some(region) = self.region.take() {
            // Its own engine is idle, but holds the region.
            region.jobs.stop(Duration::ZERO).await;
        }
        let begin = std::time::Instant::now();
        loop {
            let paths = Paths::new(self.directory.path());
            match Region::open_idle(paths, self.config.clone()).await {
                Ok(region) => {
                    self.region = Some(region);
                    return Ok(());
                }
                // A thread of the killed region may still hold the store's lock.
                Err(error) if begin.elapsed() > REOPEN_MAX => return Err(error.to_string()),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// What holds in a region at rest, whatever happened in it.
    async fn is_sound(&self) -> Result<(), String> {
        let region = self.region();
        let images = all::<ImageRecord>(region).await;
        for image in &images {
            let state = image.resource.lifecycle_state;
            match state {
                ImageState::Available => {
                    let manifest = image.manifest.ok_or("an AVAILABLE image without a disk")?;
                    region.store.verify(manifest).map_err(|error| error.to_string())?;
                }
                ImageState::Deleted => {}
                _ => return Err(format!("an image is {state}")),
            }
        }
        let mut directories = BTreeSet::new();
        for instance in all::<InstanceRecord>(region).await {
            let id = &instance.resource.id;
            let runs = region.guests.machine(id).is_some();
            match instance.resource.lifecycle_state {
                InstanceState::Running if runs => {}
                InstanceState::Stopped | InstanceState::Terminated if !runs => {}
                state => return Err(format!("an instance is {state} and its guest runs: {runs}")),
            }
            if instance.capturing.is_some() {
                return Err("a capture's lock is left".into());
            }
            if instance.resource.lifecycle_state != InstanceState::Terminated {
                directories.insert(instance.directory.clone());
            }
        }
        let mut volumes = BTreeSet::new();
        for volume in all::<BootVolumeRecord>(region).await {
            if !volume.is_alive() {
                continue;
            }
            region.store.verify(volume.base).map_err(|error| error.to_string())?;
            let files: BTreeSet<_> =
                names(&region.paths.volumes().join(&volume.directory)).into_iter().collect();
            let layers: BTreeSet<_> = volume.layers.iter().cloned().collect();
            if files != layers {
                return Err(format!("a volume's files are {files:?}, its layers {layers:?}"));
            }
            volumes.insert(volume.directory.clone());
        }
        no_others(&region.paths.instances(), &directories)?;
        no_others(&region.paths.volumes(), &volumes)?;
        let roots = collect::roots(region).await.map_err(|error| error.to_string())?;
        match roots.iter().find(|root| !region.store.contains(**root)) {
            Some(root) => Err(format!("manifest {root} is needed and not in the store")),
            None => Ok(()),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        end_guests(self.directory.path());
    }
}

/// Guests outlive the region; a test must not leave them.
fn end_guests(directory: &Path) {
    for instance in names(&directory.join("instances")) {
        let file = directory.join("instances").join(instance).join("run/qemu.pid");
        if let Ok(pid) = std::fs::read_to_string(file) {
            let _ = std::process::Command::new("kill").args(["-9", pid.trim()]).output();
        }
    }
}

async fn all<T: calotype_server::db::Document>(region: &Region) -> Vec<Versioned<T>> {
    region.db.list_all::<T>(Query::new()).await.unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn no_others(directory: &Path, known: &BTreeSet<String>) -> Result<(), String> {
    match names(directory).into_iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("{name} in {} belongs to nobody", directory.display())),
        None => Ok(()),
    }
}

fn platform_image(region: &Region) -> ImageRecord {
    let details = platform_images::RegisterPlatformImageDetails {
        file: "disk".into(),
        display_name: "disk".into(),
        operating_system: "None".into(),
        operating_system_version: "0".into(),
        firmware: calotype_api::images::Firmware::Bios,
    };
    platform_images::new_record(region, details, DISK_BYTES as u64, Timestamp::now()).unwrap()
}

async fn launch_details(region: &Region, image: &ImageRecord) -> LaunchInstanceDetails {
    let subnets = all::<SubnetRecord>(region).await;
    let subnet = subnets.first().unwrap().id();
    serde_json::from_value(serde_json::json!({
        "compartmentId": region.tenancy,
        "availabilityDomain": region.config.availability_domain(),
        "shape": SHAPE,
        "sourceDetails": {"sourceType": "image", "imageId": image.resource.id},
        "createVnicDetails": {"subnetId": subnet},
    }))
    .unwrap()
}

/// A stage with a job that is ready to be submitted.
struct Scene<W> {
    stage: Stage,
    job: W,
    batch: std::sync::Mutex<Option<Batch>>,
    also: Option<Also>,
}

/// What must hold besides when a job has ended.
type Also = for<'a> fn(&'a Region, Outcome) -> BoxFuture<'a, Result<(), String>>;

impl<W: Seeded> Scene<W> {
    fn new(stage: Stage, job: W, batch: Batch) -> Self {
        Self { stage, job, batch: std::sync::Mutex::new(Some(batch)), also: None }
    }
}

impl<W: Seeded + Workflow<Environment = Arc<Region>>> World for Scene<W> {
    type Job = W;

    fn db(&self) -> Db {
        self.stage.region().db.clone()
    }

    fn environment(&self) -> Arc<Region> {
        Arc::clone(self.stage.region())
    }

    async fn submit(&self, engine: &Engine<Arc<Region>>) -> Result<Ocid, String> {
        let batch = self.batch.lock().unwrap().take().ok_or("submitted twice")?;
        self.stage.submit(engine, self.job.clone(), batch).await
    }

    async fn restart(&mut self) -> Result<(), String> {
        self.stage.restart().await
    }

    async fn check(&self, outcome: Outcome) -> Result<(), String> {
        if let Some(also) = self.also {
            also(self.stage.region(), outcome).await?;
        }
        self.stage.is_sound().await
    }
}

async fn check<W: Seeded>(make: impl AsyncFn() -> Scene<W>) {
    match torment(make).await {
        Ok(scenarios) => assert!(scenarios > W::STEPS.len(), "only {scenarios} scenarios"),
        Err(problem) => panic!("{}: {problem}", W::NAME),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn launch_survives_everything() {
    check(async || {
        let (stage, image) = Stage::with_image().await;
        let Launch { instance, batch } = stage.launch(&image).await;
        Scene::new(stage, LaunchInstance::new(&instance), batch)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminate_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        let mut instance = stage.load::<InstanceRecord>(&id).await;
        instance.value.resource.lifecycle_state = InstanceState::Terminating;
        let job = TerminateInstance::new(&instance, false);
        Scene::new(stage, job, Batch::new().replace(&instance))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        let mut instance = stage.load::<InstanceRecord>(&id).await;
        instance.value.resource.lifecycle_state = InstanceState::Stopping;
        let job = PowerInstance::new(&instance, Action::SoftReset, &stage.config.guests);
        Scene::new(stage, job, Batch::new().replace(&instance))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_of_a_running_instance_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        capture(stage, &id).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_of_a_stopped_instance_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        let mut instance = stage.load::<InstanceRecord>(&id).await;
        instance.value.resource.lifecycle_state = InstanceState::Stopping;
        let job = PowerInstance::new(&instance, Action::Stop, &stage.config.guests);
        stage.run(job, Batch::new().replace(&instance)).await;
        capture(stage, &id).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capture_of_an_instance_that_runs_on_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        capture_tagged(stage, &id, "crash-consistent").await
    })
    .await;
}

async fn capture(stage: Stage, id: &Ocid) -> Scene<CaptureImage> {
    capture_tagged(stage, id, "shutdown").await
}

/// Details of a capture in that way.
fn details(stage: &Stage, id: &Ocid, way: &str) -> CreateImageDetails {
    let tenancy = stage.region().tenancy.clone();
    let tags = [(CAPTURE_TAG.to_owned(), way.to_owned())].into();
    CreateImageDetails {
        freeform_tags: Some(tags),
        ..CreateImageDetails::from_instance(tenancy, id.clone())
    }
}

async fn capture_tagged(stage: Stage, id: &Ocid, way: &str) -> Scene<CaptureImage> {
    let details = details(&stage, id, way);
    let context = stage.context();
    let Capture { image, instance, way, batch } =
        Capture::prepare(&context, details).await.unwrap();
    let settings = &stage.config.capture;
    let job = CaptureImage::new(&image, &instance, way, context.now, settings);
    drop(context);
    Scene::new(stage, job, batch)
}

#[tokio::test(flavor = "multi_thread")]
async fn register_survives_everything() {
    check(async || {
        let stage = Stage::empty().await;
        let image = platform_image(stage.region());
        let job = RegisterPlatformImage::new(&image, "disk".into(), &stage.region().tenancy);
        Scene::new(stage, job, Batch::new().insert(&image))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_an_image_in_use_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        let instance = stage.load::<InstanceRecord>(&id).await;
        let image = instance.resource.image_id.clone().unwrap();
        let mut image = stage.load::<ImageRecord>(&image).await;
        image.value.resource.lifecycle_state = ImageState::Deleted;
        let job = DeleteImage::new(&image);
        Scene::new(stage, job, Batch::new().replace(&image))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scrub_survives_everything() {
    check(async || {
        let (stage, _) = Stage::with_image().await;
        Scene::new(stage, ScrubStore::new(None, None), Batch::new())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn collecting_survives_everything() {
    check(async || {
        let (stage, _) = Stage::with_image().await;
        Scene::new(stage, CollectStore {}, Batch::new())
    })
    .await;
}

async fn last_scrub(stage: &Stage) -> ScrubReport {
    let last = stage.region().db.get::<ScrubRecord>(ScrubRecord::ID).await.unwrap();
    last.unwrap().value.report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_names_the_images_that_are_damaged_and_repairs_them_from_a_copy() {
    let (mut stage, image) = Stage::with_image().await;
    stage.run(ScrubStore::new(None, None), Batch::new()).await;
    let report = last_scrub(&stage).await;
    assert!(report.is_whole);
    assert_eq!((report.chunks_damaged, report.affected.len()), (0, 0));

    // Started anew, so that nothing is in memory.
    stage.restart().await.unwrap();
    stage.region().jobs.resume_all(Arc::clone(stage.region())).await.unwrap();
    let store = Paths::new(stage.directory.path()).store();
    let backup = TempDir::new().unwrap();
    run("cp", &["-a", store.to_str().unwrap(), backup.path().to_str().unwrap()]);
    let pack = std::fs::read_dir(store.join("packs")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&pack, bytes).unwrap();

    stage.run(ScrubStore::new(None, None), Batch::new()).await;
    let report = last_scrub(&stage).await;
    assert!(!report.is_whole);
    assert_eq!(report.affected.len(), 1);
    assert_eq!(report.affected[0].holder.identifier, image.resource.id);
    assert_eq!(report.affected[0].holder.display_name, image.resource.display_name);
    assert!(!report.affected[0].is_repaired);
    assert_eq!(report.damages.len(), 1);
    assert_eq!(Some(report.damages[0].parts[0].manifest), image.manifest);

    let copy = backup.path().join("store");
    stage.run(ScrubStore::new(None, Some(copy)), Batch::new()).await;
    let report = last_scrub(&stage).await;
    assert!(report.is_whole);
    assert_eq!((report.chunks_damaged, report.chunks_repaired), (1, 1));
    assert!(report.affected[0].is_repaired);
    stage.is_sound().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_boot_volume_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        let mut instance = stage.load::<InstanceRecord>(&id).await;
        let volume = instance.boot_volume_id.clone();
        instance.value.resource.lifecycle_state = InstanceState::Terminating;
        let job = TerminateInstance::new(&instance, true);
        stage.run(job, Batch::new().replace(&instance)).await;
        let mut volume = stage.load::<BootVolumeRecord>(&volume).await;
        volume.value.resource.lifecycle_state = BootVolumeState::Terminating;
        let job = DeleteBootVolume::new(&volume);
        Scene::new(stage, job, Batch::new().replace(&volume))
    })
    .await;
}

/// A store on a small disk of its own, for as long as this lives.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(directory: &Path) -> Self {
        run("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", directory.to_str().unwrap()]);
        Self(directory.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_capture_and_harms_nobody() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let mut disk = None;
    let prepared = Stage::prepared(|paths| disk = Some(SmallDisk::mount(&paths.store()))).await;
    let (stage, id) = prepared.and_instance().await;
    let power = async |action, state| {
        let mut instance = stage.load::<InstanceRecord>(&id).await;
        instance.value.resource.lifecycle_state = state;
        let job = PowerInstance::new(&instance, action, &stage.config.guests);
        stage.run(job, Batch::new().replace(&instance)).await;
    };
    power(Action::Stop, InstanceState::Stopping).await;
    // What does not compress does not fit.
    let instance = stage.load::<InstanceRecord>(&id).await;
    let volume = stage.load::<BootVolumeRecord>(&instance.boot_volume_id).await;
    let paths = Paths::new(stage.directory.path());
    let overlay = paths.volumes().join(&volume.directory).join(&volume.layers[0]);
    let noise = stage.directory.path().join("noise");
    run("dd", &["if=/dev/urandom", &format!("of={}", noise.display()), "bs=1M", "count=1"]);
    let write = format!("write -s {} 0 1M", noise.display());
    run("qemu-io", &["-f", "qcow2", "-c", &write, overlay.to_str().unwrap()]);

    let details = CreateImageDetails::from_instance(stage.region().tenancy.clone(), id.clone());
    let context = stage.context();
    let capture = Capture::prepare(&context, details).await.unwrap();
    let settings = &stage.config.capture;
    let (image, instance) = (&capture.image, &capture.instance);
    let job = CaptureImage::new(image, instance, capture.way, context.now, settings);
    let (jobs, seed) = (&stage.region().jobs, job.seed(stage.region()));
    let request = jobs.submit(job, seed, capture.batch).await.unwrap();
    let request = jobs.wait(&request).await.unwrap();

    assert!(request.errors[0].message.contains("disk is full"), "{request:?}");
    let image = stage.load::<ImageRecord>(&capture.image.resource.id).await;
    assert_eq!(image.resource.lifecycle_state, ImageState::Deleted);
    stage.is_sound().await.unwrap();
    power(Action::Start, InstanceState::Starting).await;
    stage.is_sound().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_takes_too_long_is_undone_and_unlocked() {
    let (stage, id) = Stage::with_instance().await;
    let details = CreateImageDetails::from_instance(stage.region().tenancy.clone(), id.clone());
    let context = stage.context();
    let capture = Capture::prepare(&context, details.clone()).await.unwrap();
    let no_time = CaptureConfig { timeout_seconds: 0, ..stage.config.capture.clone() };
    let (image, instance) = (&capture.image, &capture.instance);
    let job = CaptureImage::new(image, instance, capture.way, context.now, &no_time);
    let (jobs, seed) = (&stage.region().jobs, job.seed(stage.region()));
    let request = jobs.submit(job, seed, capture.batch).await.unwrap();
    let request = jobs.wait(&request).await.unwrap();

    assert!(request.errors[0].message.contains("after 0 seconds"), "{request:?}");
    let instance = stage.load::<InstanceRecord>(&id).await;
    assert_eq!(instance.resource.lifecycle_state, InstanceState::Running);
    stage.is_sound().await.unwrap();
    assert!(Capture::prepare(&context, details).await.is_ok(), "it can be captured again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_capture_of_the_same_instance_is_refused_meanwhile() {
    let (stage, id) = Stage::with_instance().await;
    let details = CreateImageDetails::from_instance(stage.region().tenancy.clone(), id.clone());
    let context = stage.context();
    let first = Capture::prepare(&context, details.clone()).await.unwrap();
    let second = Capture::prepare(&context, details.clone()).await.unwrap();
    stage.region().db.apply(first.batch).await.unwrap();

    // Whether it was prepared before the first was written or after.
    assert!(stage.region().db.apply(second.batch).await.unwrap_err().is_conflict());
    let refused = Capture::prepare(&context, details).await.err().unwrap();
    assert_eq!(refused.message, "Conflict with another image operation, try again later");
    assert_eq!(refused.status(), 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_more_than_the_limit_is_refused() {
    let (mut stage, id) = Stage::with_instance().await;
    stage.config.images.custom_image_count = 1;
    stage.restart().await.unwrap();
    let details = CreateImageDetails::from_instance(stage.region().tenancy.clone(), id);
    // Platform images do not count.
    let first = Capture::prepare(&stage.context(), details.clone()).await.unwrap();
    stage.region().db.apply(Batch::new().insert(&first.image.value)).await.unwrap();
    let refused = Capture::prepare(&stage.context(), details).await.err().unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.message.contains("service limits were exceeded: custom-image-count"));
}

/// The process that guards a freeze; no test.
#[tokio::test]
#[ignore = "run by other tests, as a process of its own"]
async fn freeze_guard_process() {
    // Somebody who runs all ignored tests gives no order.
    let _ = calotype_vm::run_freeze_guard().await;
}

/// The process that reads a foreign file; no test.
#[test]
#[ignore = "run by other tests, as a process of its own"]
fn disk_reader_process() {
    // Somebody who runs all ignored tests sends no file.
    let _ = calotype_confined::run();
}

/// The command line of one of these processes.
fn process(test: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    let words = ["--exact", test, "--include-ignored", "--nocapture"];
    std::iter::once(program).chain(words.map(str::to_owned)).collect()
}
