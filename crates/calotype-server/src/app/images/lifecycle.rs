//! What OCI has no words for and keepers of golden images need: families with a latest image, dates from which an
//! image is deprecated or disabled, protection from deletion, and a bin from which a deleted image comes back.
//!
//! Clients of OCI's API see nothing of it but its effects: a disabled image is DISABLED, a protected one is not
//! deleted. It is asked for and set by operations of our own.

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::ImageState;
use calotype_api::ocid::Ocid;
use calotype_api::time::Time;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{agenda, check_count, load};
use crate::app::capabilities::born;
use crate::app::{Context, identity, list_by, measured};
use crate::db::{Batch, Db, Document, PAGE_DOCUMENTS_MAX, Query, Versioned};
use crate::http::{Reply, Request};
use crate::records::{ImageRecord, PLATFORM_IMAGES};

/// How long a deleted image is still answered, as DELETED.
pub const DELETED_SHOWN: SignedDuration = SignedDuration::from_hours(24);

/// What its keepers want of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageLifecycle {
    /// The family that it is a member of.
    pub family: Option<String>,
    /// From when on it is no family's latest image.
    pub time_deprecated: Option<Timestamp>,
    /// From when on nothing is launched from it.
    pub time_disabled: Option<Timestamp>,
    /// Whether it is not deleted until this is taken back.
    pub is_protected: bool,
    /// Of a deleted image, until when it can be restored. Its disk is kept until then.
    pub time_purged: Option<Timestamp>,
}

/// The same, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageLifecycleView {
    /// The image.
    pub image_id: Ocid,
    /// Its name.
    pub display_name: String,
    /// Its compartment; none of a platform image.
    pub compartment_id: Option<Ocid>,
    /// Its state.
    pub lifecycle_state: ImageState,
    /// See [`ImageLifecycle`].
    pub family: Option<String>,
    /// See [`ImageLifecycle`].
    pub time_deprecated: Option<Time>,
    /// See [`ImageLifecycle`].
    pub time_disabled: Option<Time>,
    /// See [`ImageLifecycle`].
    pub is_protected: bool,
    /// See [`ImageLifecycle`].
    pub time_purged: Option<Time>,
}

impl ImageLifecycleView {
    fn of(image: &ImageRecord) -> Self {
        let ImageRecord { resource, lifecycle, .. } = image;
        Self {
            image_id: resource.id.clone(),
            display_name: resource.display_name.clone(),
            compartment_id: resource.compartment_id.clone(),
            lifecycle_state: resource.lifecycle_state,
            family: lifecycle.family.clone(),
            time_deprecated: lifecycle.time_deprecated.map(Into::into),
            time_disabled: lifecycle.time_disabled.map(Into::into),
            is_protected: lifecycle.is_protected,
            time_purged: lifecycle.time_purged.map(Into::into),
        }
    }
}

/// Body of `UpdateImageLifecycle`: all of it is replaced.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateImageLifecycleDetails {
    /// Letters, digits, `-`, `_` and `.`.
    pub family: Option<String>,
    /// When it is deprecated.
    pub time_deprecated: Option<Time>,
    /// When it is disabled.
    pub time_disabled: Option<Time>,
    /// Whether it is not deleted.
    #[serde(default)]
    pub is_protected: bool,
}

/// That an image is a member of a family; beside the image, so that the latest is found without a look at others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyMember {
    image_id: Ocid,
    /// Empty for platform images.
    compartment: String,
    family: String,
    time_created: Timestamp,
}

impl Document for FamilyMember {
    const KIND: &'static str = "image_family_member";

    fn id(&self) -> String {
        self.image_id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(parent(&self.compartment, &self.family))
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.compartment.clone())
    }

    fn name(&self) -> Option<String> {
        Some(self.family.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

fn parent(compartment: &str, family: &str) -> String {
    format!("{compartment}/{family}")
}

impl FamilyMember {
    fn of(image: &ImageRecord) -> Option<Self> {
        let family = image.lifecycle.family.clone()?;
        let compartment = image.resource.compartment_id.as_ref();
        Some(Self {
            image_id: image.resource.id.clone(),
            compartment: compartment.map_or(PLATFORM_IMAGES.to_owned(), Ocid::to_string),
            family,
            time_created: image.time_created(),
        })
    }
}

/// Adds to `batch` that the image's family knows of it as it is now, wherever it was before.
pub async fn enrol(db: &Db, image: &ImageRecord, batch: Batch) -> Result<Batch, ApiError> {
    let id = image.resource.id.as_str();
    let was = db.get::<FamilyMember>(id).await?;
    let is = FamilyMember::of(image).filter(|_| image.is_alive());
    Ok(match (was, is) {
        (None, None) => batch,
        (Some(was), None) => batch.delete(&was),
        (None, Some(is)) => batch.insert(&is),
        (Some(was), Some(is)) => batch.replace(&Versioned { value: is, ..was }),
    })
}

/// `GetImageLifecycle`.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let image = load(&context, &request.path("imageId")?).await?;
    Ok(Reply::ok(&ImageLifecycleView::of(&image))?.etag(image.etag()))
}

/// `UpdateImageLifecycle`.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateImageLifecycleDetails = request.json()?;
    let mut image = load(&context, &request.path("imageId")?).await?;
    request.check_etag(&image.etag())?;
    if !image.is_alive() {
        return Err(ApiError::not_authorized_or_not_found());
    }
    let lifecycle = &mut image.value.lifecycle;
    lifecycle.family = details.family.map(family_name).transpose()?;
    lifecycle.time_deprecated = details.time_deprecated.map(Time::timestamp);
    lifecycle.time_disabled = details.time_disabled.map(Time::timestamp);
    lifecycle.is_protected = details.is_protected;
    let is_due = lifecycle.time_disabled.is_some_and(|time| time <= context.now);
    let state = &mut image.value.resource.lifecycle_state;
    match (*state, is_due) {
        (ImageState::Available, true) => *state = ImageState::Disabled,
        (ImageState::Disabled, false) => *state = ImageState::Available,
        _ => {}
    }
    let batch = enrol(&context.region.db, &image, Batch::new().replace(&image)).await?;
    let batch = to_be_disabled(&context, batch, &image).await?;
    let reply = Reply::ok(&ImageLifecycleView::of(&image))?.etag(image.next_etag());
    context.commit(batch, reply).await
}

/// Adds to `batch` that an image with such a date is disabled at it; of one that is being made or exported, as soon
/// as that is over.
async fn to_be_disabled(
    context: &Context,
    batch: Batch,
    image: &ImageRecord,
) -> Result<Batch, ApiError> {
    let is_disabled = image.resource.lifecycle_state == ImageState::Disabled;
    let at = image.lifecycle.time_disabled.filter(|_| !is_disabled);
    agenda::set(&context.region.db, batch, image, agenda::What::Disable, at).await
}

/// A name that can stand in `family/NAME`.
fn family_name(name: String) -> Result<String, ApiError> {
    let name = measured("family", name)?;
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.chars().all(plain) {
        return Ok(name);
    }
    Err(ApiError::invalid_parameter("family", "may have letters, digits, - _ and . only"))
}

/// A family of a compartment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageFamily {
    /// Its name.
    pub family: String,
    /// Its newest image that is AVAILABLE and not deprecated.
    pub latest_image_id: Option<Ocid>,
    /// How many images it has.
    pub images: u64,
}

/// `ListImageFamilies`: those of platform images, then those of the compartment.
pub async fn list_families(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let mut families = Vec::new();
    for compartment in [PLATFORM_IMAGES, compartment.as_str()] {
        let mut members = std::collections::BTreeMap::<String, u64>::new();
        let query = Query::new().compartment(compartment);
        let counting = context.region.db.for_each::<FamilyMember>(query, |member| {
            *members.entry(member.value.family).or_default() += 1;
        });
        counting.await?;
        for (family, images) in members {
            let latest = latest(&context, compartment, &family).await?;
            let latest_image_id = latest.map(|image| image.value.resource.id);
            families.push(ImageFamily { family, latest_image_id, images });
        }
    }
    crate::app::page_of(&request, &families)
}

/// `GetLatestImage`: the newest image of a family that is AVAILABLE and not deprecated; of the compartment's own
/// family if there is one of that name, else of platform images'.
pub async fn get_latest(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let family: String = request.path("family")?;
    for compartment in [compartment.as_str(), PLATFORM_IMAGES] {
        if let Some(image) = latest(&context, compartment, &family).await? {
            return Ok(Reply::ok(&image.resource)?.etag(image.etag()));
        }
    }
    Err(ApiError::not_authorized_or_not_found())
}

async fn latest(
    context: &Context,
    compartment: &str,
    family: &str,
) -> Result<Option<Versioned<ImageRecord>>, ApiError> {
    let db = &context.region.db;
    let mut after = None;
    loop {
        let query = Query::new().parent(parent(compartment, family)).limit(PAGE_DOCUMENTS_MAX);
        let page = db.list::<FamilyMember>(query.after(after)).await?;
        for member in &page.items {
            let image = db.get::<ImageRecord>(member.image_id.as_str()).await?;
            if let Some(image) = image.filter(|image| may_be_latest(image, context.now)) {
                return Ok(Some(image));
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(None);
        }
    }
}

fn may_be_latest(image: &ImageRecord, now: Timestamp) -> bool {
    let is_there =
        matches!(image.resource.lifecycle_state, ImageState::Available | ImageState::Exporting);
    let is_before = |time: Option<Timestamp>| time.is_none_or(|time| now < time);
    is_there
        && is_before(image.lifecycle.time_deprecated)
        && is_before(image.lifecycle.time_disabled)
}

/// Refuses to delete what is protected.
pub(super) fn check_deletion(image: &ImageRecord) -> Result<(), ApiError> {
    if !image.lifecycle.is_protected {
        return Ok(());
    }
    let id = &image.resource.id;
    let message = format!(
        "image {id} is protected from deletion: `calotype image edit {id} --unprotect` takes that back"
    );
    Err(ApiError::new(ErrorCode::NotAllowed, message))
}

/// Marks the image as deleted, in the bin if the region has one; answers what must be written besides.
pub(super) async fn delete(
    context: &Context,
    image: &mut Versioned<ImageRecord>,
) -> Result<Batch, ApiError> {
    let kept = context.region.config.images.recycle_time();
    image.value.resource.lifecycle_state = ImageState::Deleted;
    image.value.lifecycle.time_purged = kept.map(|kept| context.now + kept);
    let purged = image.lifecycle.time_purged;
    let forgotten = purged.unwrap_or(context.now) + DELETED_SHOWN;
    let db = &context.region.db;
    let batch = enrol(db, image, Batch::new().replace(image)).await?;
    let batch = agenda::set(db, batch, image, agenda::What::Disable, None).await?;
    let batch = agenda::set(db, batch, image, agenda::What::Purge, purged).await?;
    agenda::set(db, batch, image, agenda::What::Forget, Some(forgotten)).await
}

/// Marks an image as deleted that never was, because its creation failed; answers what must be written.
pub async fn never_was(
    db: &Db,
    image: &mut Versioned<ImageRecord>,
    now: Timestamp,
) -> Result<Batch, ApiError> {
    image.value.resource.lifecycle_state = ImageState::Deleted;
    let batch = enrol(db, image, Batch::new().replace(image)).await?;
    let batch = agenda::set(db, batch, image, agenda::What::Disable, None).await?;
    agenda::set(db, batch, image, agenda::What::Forget, Some(now + DELETED_SHOWN)).await
}

/// `ListDeletedImages`: what a compartment has in the bin, newest first.
pub async fn list_deleted(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let query = Query::new().compartment(compartment.as_str()).state(ImageState::Deleted.as_str());
    list_by(&context, &request, query, |image: &ImageRecord| {
        is_in_bin(image, context.now).then(|| ImageLifecycleView::of(image))
    })
    .await
}

fn is_in_bin(image: &ImageRecord, now: Timestamp) -> bool {
    image.lifecycle.time_purged.is_some_and(|time| now < time)
}

/// `RestoreImage`: takes a deleted image out of the bin, with everything that it had.
pub async fn restore(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut image = load(&context, &request.path("imageId")?).await?;
    request.check_etag(&image.etag())?;
    if image.is_alive() {
        let id = &image.resource.id;
        return Err(ApiError::incorrect_state(format!("image {id} is not deleted")));
    }
    if !is_in_bin(&image, context.now) {
        return Err(ApiError::not_authorized_or_not_found());
    }
    check_count(&context).await?;
    let is_due = image.lifecycle.time_disabled.is_some_and(|time| time <= context.now);
    let state = if is_due { ImageState::Disabled } else { ImageState::Available };
    image.value.resource.lifecycle_state = state;
    image.value.lifecycle.time_purged = None;
    let schema = born::schema(&context.region, &mut image.value, context.now)?;
    let db = &context.region.db;
    let batch = enrol(db, &image, Batch::new().replace(&image)).await?;
    let batch = agenda::set(db, batch, &image, agenda::What::Purge, None).await?;
    let batch = agenda::set(db, batch, &image, agenda::What::Forget, None).await?;
    let batch = to_be_disabled(&context, batch, &image).await?;
    let reply = Reply::ok(&image.resource)?.etag(image.next_etag());
    context.commit(batch.and(schema), reply).await
}
