//! Compatible shapes: what instances of an image may have, and within which bounds.
//!
//! An image is born with a default list: that of the image its instance was launched from, also if
//! somebody has edited that one's list meanwhile; what its `.oci` archive says; for other imports every
//! shape but those of AMD, Arm and X6. Whoever may update the image may edit its own list. Nothing is
//! tested when a shape is added: whether the system boots on it is the user's to find out.
//!
//! Lists of platform images belong to the region. Nobody in a tenancy has the right to edit them, so the
//! answer is that of a missing right.

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::instances::InstanceShapeConfig;
use calotype_api::ocid::Ocid;
use calotype_api::shape_compatibility::{
    AddImageShapeCompatibilityEntryDetails, ImageMemoryConstraints, ImageOcpuConstraints,
    ImageShapeCompatibilityEntry,
};
use calotype_disk::oci_archive::{MemoryConstraints, OcpuConstraints, ShapeCompatibility};
use serde::{Deserialize, Serialize};

use super::load;
use crate::app::shapes::{self, Offer};
use crate::app::{Context, page_of};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::records::ImageRecord;

/// A shape that instances of an image may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct CompatibleShape {
    /// Its name.
    pub shape: String,
    /// How many OCPUs they may have.
    pub ocpu_constraints: Option<ImageOcpuConstraints>,
    /// How much memory they may have.
    pub memory_constraints: Option<ImageMemoryConstraints>,
}

/// As it stands in documents: in those of old only the name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Name(String),
    Entry {
        shape: String,
        ocpu_constraints: Option<ImageOcpuConstraints>,
        memory_constraints: Option<ImageMemoryConstraints>,
    },
}

impl From<Stored> for CompatibleShape {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Name(shape) => Self::any_size(shape),
            Stored::Entry { shape, ocpu_constraints, memory_constraints } => {
                Self { shape, ocpu_constraints, memory_constraints }
            }
        }
    }
}

impl CompatibleShape {
    /// A shape in every size it has.
    fn any_size(shape: impl Into<String>) -> Self {
        Self { shape: shape.into(), ocpu_constraints: None, memory_constraints: None }
    }

    fn entry(&self, image_id: &Ocid) -> ImageShapeCompatibilityEntry {
        ImageShapeCompatibilityEntry {
            image_id: image_id.clone(),
            memory_constraints: self.memory_constraints,
            ocpu_constraints: self.ocpu_constraints,
            shape: self.shape.clone(),
        }
    }
}

impl ImageRecord {
    /// The shapes that instances of it may have.
    #[must_use]
    pub fn shapes(&self) -> &[CompatibleShape] {
        self.chosen_shapes.as_ref().unwrap_or(&self.compatible_shapes)
    }

    /// Whether they may have this one.
    #[must_use]
    pub fn accepts_shape(&self, name: &str) -> bool {
        self.shapes().iter().any(|known| known.shape == name)
    }
}

/// What platform images are compatible with: every shape of the architecture they are built for.
pub fn of_platform_images() -> Vec<CompatibleShape> {
    let built_for = |offer: &&Offer| offer.architecture == "x86_64";
    shapes::all()
        .iter()
        .filter(built_for)
        .map(|offer| CompatibleShape::any_size(offer.name()))
        .collect()
}

/// What imported images are compatible with until somebody adds to it.
pub fn of_imports() -> Vec<CompatibleShape> {
    let offers = shapes::all().iter().filter(|offer| offer.is_for_imports());
    offers.map(|offer| CompatibleShape::any_size(offer.name())).collect()
}

/// The shapes of an archive's list that are known here. Constraints of a shape that has one size mean
/// nothing; those beyond a shape's limits do no harm, because a launch must keep to the limits as well.
pub(super) fn of_archive(listed: &[ShapeCompatibility]) -> Result<Vec<CompatibleShape>, ApiError> {
    let mut known = Vec::new();
    for offer in shapes::all() {
        let name = archive_name(offer);
        let Some(shape) = listed.iter().find(|listed| listed.internal_shape_name == name) else {
            continue;
        };
        let flexible = offer.is_flexible();
        let shape = CompatibleShape {
            shape: offer.name().to_owned(),
            ocpu_constraints: shape.ocpu_constraints.filter(|_| flexible).map(|said| {
                ImageOcpuConstraints { max: said.max.map(u64::from), min: said.min.map(u64::from) }
            }),
            memory_constraints: shape.memory_constraints.filter(|_| flexible).map(|said| {
                ImageMemoryConstraints {
                    max_in_gbs: said.max_in_gbs.map(u64::from),
                    min_in_gbs: said.min_in_gbs.map(u64::from),
                }
            }),
        };
        let bounds = |error: ApiError| {
            let why = format!(
                "The file cannot be imported: shape {name} of image_metadata.json: {}",
                error.message
            );
            ApiError::new(ErrorCode::InvalidParameter, why)
        };
        in_order(&shape).map_err(bounds)?;
        known.push(shape);
    }
    Ok(known)
}

/// The list as an archive has it. What does not fit its numbers is as good as no bound.
pub(super) fn for_archive(listed: &[CompatibleShape]) -> Vec<ShapeCompatibility> {
    let number = |bound: Option<u64>| bound.and_then(|bound| u32::try_from(bound).ok());
    let listed = listed.iter().map(|known| ShapeCompatibility {
        internal_shape_name: shapes::find(&known.shape)
            .map_or_else(|_| known.shape.clone(), |offer| archive_name(offer).to_owned()),
        ocpu_constraints: known
            .ocpu_constraints
            .map(|said| OcpuConstraints { min: number(said.min), max: number(said.max) }),
        memory_constraints: known.memory_constraints.map(|said| MemoryConstraints {
            min_in_gbs: number(said.min_in_gbs),
            max_in_gbs: number(said.max_in_gbs),
        }),
    });
    listed.collect()
}

fn archive_name(offer: &Offer) -> &str {
    offer.internal_name.as_deref().unwrap_or(offer.name())
}

/// Refuses a shape that is not in the image's list.
pub fn check_shape(image: &ImageRecord, name: &str) -> Result<(), ApiError> {
    if image.accepts_shape(name) {
        return Ok(());
    }
    let id = &image.resource.id;
    Err(ApiError::new(
        ErrorCode::InvalidParameter,
        format!("Shape {name} is not valid for image {id}."),
    ))
}

/// Refuses a size outside the bounds that the image's list has for the shape.
pub fn check_size(
    image: &ImageRecord,
    name: &str,
    size: &InstanceShapeConfig,
) -> Result<(), ApiError> {
    let Some(known) = image.shapes().iter().find(|known| known.shape == name) else {
        return Ok(());
    };
    let (ocpus, memory) =
        (known.ocpu_constraints.unwrap_or_default(), known.memory_constraints.unwrap_or_default());
    let bounds = [
        ("shapeConfig.ocpus", size.ocpus, ocpus.min, ocpus.max),
        ("shapeConfig.memoryInGBs", size.memory_in_gbs, memory.min_in_gbs, memory.max_in_gbs),
    ];
    for (field, value, min, max) in bounds {
        let (Some(value), min) = (value, min.unwrap_or(0)) else { continue };
        if value < min as f64 || max.is_some_and(|max| value > max as f64) {
            let upper = max.map_or_else(String::new, |max| format!(" and at most {max}"));
            let must = format!(
                "{value} is not valid for image {} with shape {name}: at least {min}{upper}",
                image.resource.id
            );
            return Err(ApiError::invalid_parameter(field, must));
        }
    }
    Ok(())
}

/// `ListImageShapeCompatibilityEntries`.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let image = alive(&context, &request).await?;
    let id = &image.resource.id;
    let entries: Vec<_> = image.shapes().iter().map(|known| known.entry(id)).collect();
    page_of(&request, &entries)
}

/// `GetImageShapeCompatibilityEntry`.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let image = alive(&context, &request).await?;
    let name: String = request.path("shapeName")?;
    let known = image.shapes().iter().find(|known| known.shape == name);
    let known = known.ok_or_else(ApiError::not_authorized_or_not_found)?;
    Reply::ok(&known.entry(&image.resource.id))
}

/// `AddImageShapeCompatibilityEntry`: a shape more, or other bounds for one that is there.
pub async fn add(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: AddImageShapeCompatibilityEntryDetails = request.json()?;
    let mut image = editable(&context, &request).await?;
    let name: String = request.path("shapeName")?;
    let added = CompatibleShape {
        shape: name.clone(),
        ocpu_constraints: details.ocpu_constraints,
        memory_constraints: details.memory_constraints,
    };
    check_constraints(shapes::find(&name)?, &added)?;
    let mut chosen = image.shapes().to_vec();
    match chosen.iter_mut().find(|known| known.shape == name) {
        Some(known) => *known = added.clone(),
        None => chosen.push(added.clone()),
    }
    image.value.chosen_shapes = Some(chosen);
    let reply = Reply::ok(&added.entry(&image.resource.id))?;
    context.commit(Batch::new().replace(&image), reply).await
}

/// `RemoveImageShapeCompatibilityEntry`. Instances that have the shape keep it.
pub async fn remove(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut image = editable(&context, &request).await?;
    let name: String = request.path("shapeName")?;
    let mut chosen = image.shapes().to_vec();
    chosen.retain(|known| known.shape != name);
    if chosen.len() == image.shapes().len() {
        return Err(ApiError::not_authorized_or_not_found());
    }
    image.value.chosen_shapes = Some(chosen);
    context.commit(Batch::new().replace(&image), Reply::no_content()).await
}

async fn alive(context: &Context, request: &Request) -> Result<Versioned<ImageRecord>, ApiError> {
    let image = load(context, &request.path("imageId")?).await?;
    if image.is_alive() { Ok(image) } else { Err(ApiError::not_authorized_or_not_found()) }
}

/// The image, if its list can be edited: no platform image.
async fn editable(
    context: &Context,
    request: &Request,
) -> Result<Versioned<ImageRecord>, ApiError> {
    let image = alive(context, request).await?;
    request.check_etag(&image.etag())?;
    match image.resource.compartment_id {
        Some(_) => Ok(image),
        None => Err(ApiError::not_authorized_or_not_found()),
    }
}

/// Refuses bounds that a shape cannot have.
fn check_constraints(offer: &Offer, wanted: &CompatibleShape) -> Result<(), ApiError> {
    let name = offer.name();
    for (field, given) in [
        ("ocpuConstraints", wanted.ocpu_constraints.is_some()),
        ("memoryConstraints", wanted.memory_constraints.is_some()),
    ] {
        if given && !offer.is_flexible() {
            let no = format!("can only be given for a flexible shape, and {name} is none");
            return Err(ApiError::invalid_parameter(field, no));
        }
    }
    in_order(wanted)?;
    let ocpus = offer.shape.ocpu_options.clone().unwrap_or_default();
    let memory = offer.shape.memory_options.clone().unwrap_or_default();
    let (own_ocpus, own_memory) = (
        wanted.ocpu_constraints.unwrap_or_default(),
        wanted.memory_constraints.unwrap_or_default(),
    );
    for (field, bound, min, max) in [
        ("ocpuConstraints.min", own_ocpus.min, ocpus.min, ocpus.max),
        ("ocpuConstraints.max", own_ocpus.max, ocpus.min, ocpus.max),
        (
            "memoryConstraints.minInGBs",
            own_memory.min_in_gbs,
            memory.min_in_g_bs,
            memory.max_in_g_bs,
        ),
        (
            "memoryConstraints.maxInGBs",
            own_memory.max_in_gbs,
            memory.min_in_g_bs,
            memory.max_in_g_bs,
        ),
    ] {
        let Some(bound) = bound else { continue };
        let (min, max) = (min.unwrap_or(0.0), max.unwrap_or(f64::MAX));
        if !(min..=max).contains(&(bound as f64)) {
            let limits = format!("{bound} is not between {min} and {max}, the limits of {name}");
            return Err(ApiError::invalid_parameter(field, limits));
        }
    }
    Ok(())
}

/// Refuses bounds of which the lower is the greater.
fn in_order(wanted: &CompatibleShape) -> Result<(), ApiError> {
    let ocpus = wanted.ocpu_constraints.unwrap_or_default();
    let memory = wanted.memory_constraints.unwrap_or_default();
    for (field, min, max) in [
        ("ocpuConstraints", ocpus.min, ocpus.max),
        ("memoryConstraints", memory.min_in_gbs, memory.max_in_gbs),
    ] {
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let crossed = format!("has the minimum {min} above the maximum {max}");
            return Err(ApiError::invalid_parameter(field, crossed));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
