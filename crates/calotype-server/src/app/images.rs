//! Images: listed, read, edited, captured from instances, imported, exported, deleted.
//!
//! # Live capture
//! A running instance is shut down for its capture, as OCI does it, unless the new image gets the
//! free-form tag `calotype.capture` = `crash-consistent` or `quiesced`: then it stays RUNNING, and its
//! guest never notices more than a short wait for its disk. A tag, because it reaches the region from
//! every client unchanged, is part of what a retry token stands for, and stays on the image as a
//! record of how it was made. See [`Way`].

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::{
    ChangeImageCompartmentDetails, CreateImageDetails, Image, ImageState, LaunchMode,
    LaunchOptions, ListingType, UpdateImageDetails,
};
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use calotype_api::text::DisplayName;

use self::compatible_shapes::CompatibleShape;
use super::app_catalog::terms;
use super::capabilities::born;
use super::{Context, identity, instances, tags};
use crate::db::{Batch, Query, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::capture_image::{CaptureImage, Way};
use crate::jobs::delete_image::DeleteImage;
use crate::records::{
    BootVolumeRecord, ImageCapabilities, ImageRecord, InstanceRecord, PLATFORM_IMAGES,
};

pub mod agenda;
pub(crate) mod archive;
pub mod compatible_shapes;
pub mod export;
mod import;
mod launch_modes;
pub mod lifecycle;

pub use launch_modes::preset;
use lifecycle::ImageLifecycle;

/// `ListImages`: platform images first, then those of the compartment.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let filter = Filter {
        operating_system: request.query("operatingSystem")?,
        operating_system_version: request.query("operatingSystemVersion")?,
        shape: request.query("shape")?,
    };
    super::list_partitions::<ImageRecord, _>(
        &context,
        &request,
        &[PLATFORM_IMAGES.to_owned(), compartment.to_string()],
        |record| filter.accepts(record).then(|| record.resource.clone()),
    )
    .await
}

/// What `ListImages` filters by besides what the catalog has columns for.
struct Filter {
    operating_system: Option<String>,
    operating_system_version: Option<String>,
    shape: Option<String>,
}

impl Filter {
    fn accepts(&self, record: &ImageRecord) -> bool {
        let image = &record.resource;
        record.is_alive()
            && self.operating_system.as_ref().is_none_or(|os| *os == image.operating_system)
            && self
                .operating_system_version
                .as_ref()
                .is_none_or(|version| *version == image.operating_system_version)
            && self.shape.as_ref().is_none_or(|shape| record.accepts_shape(shape))
    }
}

/// The image with that id, whatever its state.
pub async fn load(context: &Context, id: &Ocid) -> Result<Versioned<ImageRecord>, ApiError> {
    super::load(context, id).await
}

/// `GetImage`. A deleted image is still answered, as DELETED.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let image = load(&context, &request.path("imageId")?).await?;
    Ok(Reply::ok(&image.resource)?.etag(image.etag()))
}

/// `CreateImage`, from an instance or from an object.
pub async fn create(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut details: CreateImageDetails = request.json()?;
    if let Some(source) = details.image_source_details.take() {
        return import::create(context, details, source).await;
    }
    let Capture { image, instance, way, batch } = Capture::prepare(&context, details).await?;
    let settings = &context.region.config.capture;
    let job = CaptureImage::new(&image, &instance, way, context.now, settings);
    let reply = Reply::ok(&image.resource)?.etag(image.etag());
    match super::submit_visible(&context, job, batch, reply).await {
        // Somebody else was first.
        Err(error) if error.code == ErrorCode::Conflict => Err(ApiError::image_conflict()),
        other => other,
    }
}

/// A capture that was checked: everything it will write, put together before anything is written.
pub struct Capture {
    /// The image, PROVISIONING.
    pub image: Versioned<ImageRecord>,
    /// The instance, locked.
    pub instance: Versioned<InstanceRecord>,
    /// What happens to the instance.
    pub way: Way,
    /// Both; fails if the instance has changed meanwhile.
    pub batch: Batch,
}

impl Capture {
    /// Checks what was asked for and chooses what was not.
    pub async fn prepare(context: &Context, details: CreateImageDetails) -> Result<Self, ApiError> {
        let missing = || ApiError::missing_parameter("instanceId");
        let instance_id = details.instance_id.clone().ok_or_else(missing)?;
        identity::compartment_exists(context, &details.compartment_id).await?;
        check_count(context).await?;
        let mut instance = instances::load(context, &instance_id).await?;
        let asked = Way::asked(details.freeform_tags.as_ref())?;
        let way = if may_be_captured(&instance)? { asked } else { Way::Stopped };
        let volume = super::load::<BootVolumeRecord>(context, &instance.boot_volume_id).await?;
        let of = volume.resource.image_id.clone();
        let mut base = base_of(context, of.as_ref(), &instance).await?;
        // A disk boots by the firmware it ran with, whatever its image said.
        let firmware = instance.resource.launch_options.firmware;
        base.launch_options.firmware = firmware.or(base.launch_options.firmware);
        may_be_made_into_images(&instance, &volume)?;
        let id = context.region.new_id("image");
        let (db, now) = (&context.region.db, context.now);
        let terms = terms::may_be_captured(db, of.as_ref(), &id, now).await?;
        if !base.create_image_allowed {
            return Err(ApiError::new(
                ErrorCode::NotAllowed,
                "instances of this image may not be made into images",
            ));
        }
        if let Some(base_id) = &base.id {
            let has_mode = details.launch_mode.is_some_and(|mode| mode != LaunchMode::Custom);
            let db = &context.region.db;
            base.capabilities = born::inherited(db, base_id, has_mode, firmware).await?;
        }
        let mut image = new_image(context, details, base, volume.size_bytes).await?;
        image.resource.id = id;
        instance.value.capturing = Some(image.resource.id.clone());
        if way.live().is_none() {
            // Of a stopped instance too, until its disk is sealed: nobody may start it meanwhile.
            instance.value.resource.lifecycle_state = InstanceState::CreatingImage;
        }
        let image = Versioned::first(image);
        let batch = terms.create(&image).replace(&instance);
        Ok(Self { image, instance, way, batch })
    }
}

/// Refuses an instance that is a database system: its disk is not all that there is of the database.
fn may_be_made_into_images(
    instance: &InstanceRecord,
    volume: &BootVolumeRecord,
) -> Result<(), ApiError> {
    let id = &instance.resource.id;
    let tags = [&instance.resource.system_tags, &volume.resource.system_tags];
    if !tags.into_iter().any(instances::is_database_system) {
        return Ok(());
    }
    let message = format!("instance {id} is a database system, and may not be made into an image");
    Err(ApiError::new(ErrorCode::NotAllowed, message))
}

/// Refuses one image more than the region may have.
async fn check_count(context: &Context) -> Result<(), ApiError> {
    let limit = context.region.config.images.custom_image_count;
    if limit == 0 {
        return Ok(());
    }
    let alive = ImageState::ALL.iter().filter(|state| **state != ImageState::Deleted);
    let alive = alive.fold(Query::new(), |query, state| query.state(state.as_str()));
    let db = &context.region.db;
    let of_the_region = db.count::<ImageRecord>(&alive.clone().in_no_compartment()).await?;
    let images = db.count::<ImageRecord>(&alive).await?.saturating_sub(of_the_region);
    if images < limit {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::LimitExceeded,
        "The following service limits were exceeded: custom-image-count. Request a service limit \
         increase from the service limits page in the console. ",
    ))
}

/// Whether the instance runs; refuses one that cannot be captured now.
fn may_be_captured(instance: &InstanceRecord) -> Result<bool, ApiError> {
    let id = &instance.resource.id;
    if instance.capturing.is_some() {
        return Err(ApiError::image_conflict());
    }
    if instance.boot_volume_detached {
        let what = format!("instance {id} has no boot volume: attach one first");
        return Err(ApiError::incorrect_state(what));
    }
    match instance.resource.lifecycle_state {
        InstanceState::Running => Ok(true),
        InstanceState::Stopped => Ok(false),
        InstanceState::Terminated => Err(ApiError::not_authorized_or_not_found()),
        _ => Err(ApiError::instance_busy(id)),
    }
}

/// What a new image takes over from the image its instance was launched from.
struct Base {
    id: Option<Ocid>,
    create_image_allowed: bool,
    operating_system: String,
    operating_system_version: String,
    launch_mode: LaunchMode,
    launch_options: LaunchOptions,
    compatible_shapes: Vec<CompatibleShape>,
    capabilities: Option<ImageCapabilities>,
}

async fn base_of(
    context: &Context,
    id: Option<&Ocid>,
    instance: &InstanceRecord,
) -> Result<Base, ApiError> {
    let record = match id {
        Some(id) => context.region.db.get::<ImageRecord>(id.as_str()).await?,
        None => None,
    };
    Ok(record.map_or_else(
        || Base {
            id: id.cloned(),
            create_image_allowed: true,
            operating_system: "Custom".into(),
            operating_system_version: "Custom".into(),
            // Of an image that is forgotten the instance is all that knows.
            launch_mode: instance.resource.launch_mode,
            launch_options: instance.resource.launch_options.clone(),
            compatible_shapes: compatible_shapes::of_platform_images(),
            capabilities: None,
        },
        |record| Base {
            id: id.cloned(),
            create_image_allowed: record.resource.create_image_allowed,
            operating_system: record.resource.operating_system.clone(),
            operating_system_version: record.resource.operating_system_version.clone(),
            launch_mode: record.resource.launch_mode,
            launch_options: record.resource.launch_options.clone(),
            compatible_shapes: record.compatible_shapes.clone(),
            capabilities: None,
        },
    ))
}

async fn new_image(
    context: &Context,
    details: CreateImageDetails,
    base: Base,
    size_bytes: u64,
) -> Result<ImageRecord, ApiError> {
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags);
    let defined_tags = tags::on_create(context, &details.compartment_id, freeform, defined).await?;
    let display_name = named_or_dated(context, details.display_name).await?;
    let (launch_mode, launch_options) =
        launch_modes::captured(details.launch_mode, base.launch_mode, base.launch_options);
    Ok(ImageRecord {
        resource: Image {
            id: context.region.new_id("image"),
            agent_features: None,
            base_image_id: base.id,
            billable_size_in_gbs: None,
            compartment_id: Some(details.compartment_id),
            create_image_allowed: true,
            defined_tags,
            display_name,
            freeform_tags: details.freeform_tags.unwrap_or_default(),
            launch_mode,
            launch_options,
            lifecycle_state: ImageState::Provisioning,
            listing_type: ListingType::None,
            operating_system: base.operating_system,
            operating_system_version: base.operating_system_version,
            size_in_mbs: None,
            time_created: context.now.into(),
        },
        manifest: None,
        size_bytes,
        compatible_shapes: base.compatible_shapes,
        chosen_shapes: None,
        capabilities: base.capabilities,
        lifecycle: ImageLifecycle::default(),
    })
}

/// The name that was asked for, or the time, as OCI does it.
async fn named_or_dated(context: &Context, name: Option<DisplayName>) -> Result<String, ApiError> {
    match name {
        Some(name) => usable_name(context, name).await,
        None => Ok(format!("image{}", context.now.strftime("%Y%m%d%H%M%S"))),
    }
}

/// An import's or export's answer for a place that is not there.
fn in_words_of_oci(error: ApiError, words: &str) -> ApiError {
    if error.status().as_u16() == 404 {
        return ApiError::new(ErrorCode::InvalidParameter, words);
    }
    error
}

/// A name that no platform image has.
async fn usable_name(context: &Context, name: DisplayName) -> Result<String, ApiError> {
    let name = String::from(name);
    let query = Query::new().compartment(PLATFORM_IMAGES).name(&name);
    let named = context.region.db.list_all::<ImageRecord>(query).await?;
    if !named.iter().any(|image| image.is_alive()) {
        return Ok(name);
    }
    Err(ApiError::invalid_parameter("displayName", "is the name of a platform image"))
}

/// `UpdateImage`: name, operating system and tags.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateImageDetails = request.json()?;
    let mut image = load(&context, &request.path("imageId")?).await?;
    request.check_etag(&image.etag())?;
    if !image.is_alive() || image.resource.compartment_id.is_none() {
        return Err(ApiError::not_authorized_or_not_found());
    }
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(
        &context,
        (&image.resource.freeform_tags, &image.resource.defined_tags),
        freeform,
        defined,
    )
    .await?;
    if let Some(name) = details.display_name {
        image.value.resource.display_name = usable_name(&context, name).await?;
    }
    let resource = &mut image.value.resource;
    if let Some(system) = details.operating_system {
        resource.operating_system = super::measured("operatingSystem", system)?;
    }
    if let Some(version) = details.operating_system_version {
        resource.operating_system_version = super::measured("operatingSystemVersion", version)?;
    }
    if let Some(tags) = details.freeform_tags {
        resource.freeform_tags = tags;
    }
    if let Some(tags) = details.defined_tags {
        resource.defined_tags = tags;
    }
    super::replace(&context, image, |record| Reply::ok(&record.resource)).await
}

/// `DeleteImage`. Instances of the image run on: their disks keep what they need of it.
pub async fn delete(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut image = load(&context, &request.path("imageId")?).await?;
    request.check_etag(&image.etag())?;
    match image.resource.lifecycle_state {
        ImageState::Available | ImageState::Disabled => {}
        ImageState::Deleted => return Err(ApiError::not_authorized_or_not_found()),
        state => {
            return Err(ApiError::incorrect_state(format!(
                "image {} is {state}: only an AVAILABLE or DISABLED image can be deleted",
                image.resource.id
            )));
        }
    }
    lifecycle::check_deletion(&image)?;
    let schema = born::put_away(&context.region.db, &mut image.value).await?;
    let batch = lifecycle::delete(&context, &mut image).await?.and(schema);
    super::submit(&context, DeleteImage::new(&image), batch, Reply::no_content()).await
}

/// `ChangeImageCompartment`.
pub async fn change_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: ChangeImageCompartmentDetails = request.json()?;
    let mut image = load(&context, &request.path("imageId")?).await?;
    request.check_etag(&image.etag())?;
    if !image.is_alive() || image.resource.compartment_id.is_none() {
        return Err(ApiError::not_authorized_or_not_found());
    }
    identity::compartment_exists(&context, &details.compartment_id).await?;
    let state = image.resource.lifecycle_state;
    if !matches!(state, ImageState::Available | ImageState::Disabled) {
        return Err(ApiError::incorrect_state(format!(
            "image {} is {state}: only an AVAILABLE or DISABLED image can be moved",
            image.resource.id
        )));
    }
    image.value.resource.compartment_id = Some(details.compartment_id);
    let batch = lifecycle::enrol(&context.region.db, &image, Batch::new().replace(&image)).await?;
    context.commit(batch, Reply::no_content().etag(image.next_etag())).await
}
