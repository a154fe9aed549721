//! Shapes: the sizes that instances can have, and what of them this host can run.

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::instances::{InstanceShapeConfig, LaunchInstanceShapeConfigDetails};
use calotype_api::ocid::Ocid;
use calotype_api::shapes::Shape;

use super::{Context, images};
use crate::http::{Reply, Request};
use crate::records::ImageRecord;

mod catalogue;
mod host;
mod size;

pub use catalogue::{Offer, all};
pub use host::{Demand, Host, host_size};
pub use size::configure;

/// The shape of that name.
pub fn find(name: &str) -> Result<&'static Offer, ApiError> {
    all().iter().find(|offer| offer.name() == name).ok_or_else(|| {
        ApiError::new(ErrorCode::NotAuthorizedOrNotFound, format!("shape {name} not found"))
    })
}

/// `ListShapes`: every shape, or those that an image is compatible with.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    super::identity::compartment_exists(&context, &request.required_query("compartmentId")?)
        .await?;
    let image = match request.query::<Ocid>("imageId")? {
        Some(id) => Some(images::load(&context, &id).await?),
        None => None,
    };
    if let Some(domain) = request.query::<String>("availabilityDomain")? {
        super::identity::availability_domain_exists(&context, &domain).await?;
    }
    let wanted = request.query::<String>("shape")?;
    let shapes: Vec<&Shape> = all()
        .iter()
        .filter(|offer| wanted.as_ref().is_none_or(|name| name == offer.name()))
        .filter(|offer| image.as_ref().is_none_or(|image| image.accepts_shape(offer.name())))
        .map(|offer| &offer.shape)
        .collect();
    super::page_of(&request, &shapes)
}

/// The size of an instance of the named shape with what the request asks for, if the image is
/// compatible with it and a host here has room for it. An instance that is `resized` gives back what it
/// has.
///
/// A shape that the image is not compatible with is `400 Shape X is not valid for image Y.`; no room is
/// `500 Out of host capacity.`
pub fn check(
    context: &Context,
    image: Option<&ImageRecord>,
    name: &str,
    asked: Option<&LaunchInstanceShapeConfigDetails>,
    resized: Option<&Ocid>,
) -> Result<InstanceShapeConfig, ApiError> {
    let offer = find(name)?;
    if let Some(image) = image {
        images::compatible_shapes::check_shape(image, name)?;
    }
    let size = configure(offer, asked)?;
    if let Some(image) = image {
        images::compatible_shapes::check_size(image, name, &size)?;
    }
    check_room(context, name, &size, resized)?;
    Ok(size)
}

/// Refuses to change an instance from one shape into another that OCI changes it not into.
pub fn check_resize(from: &str, to: &Offer) -> Result<(), ApiError> {
    let known = find(from).ok().and_then(|offer| offer.shape.resize_compatible_shapes.as_deref());
    if from == to.name() || known.unwrap_or_default().iter().any(|name| name == to.name()) {
        return Ok(());
    }
    let not = format!("is {}, to which an instance of shape {from} cannot be changed", to.name());
    Err(ApiError::invalid_parameter("shape", not))
}

/// Refuses an instance that no host here can run, or that none has room for now: what a launch, a start
/// and a resize ask before they begin. An instance that is `resized` gives back what it has.
pub fn check_room(
    context: &Context,
    name: &str,
    size: &InstanceShapeConfig,
    resized: Option<&Ocid>,
) -> Result<(), ApiError> {
    if let Ok(offer) = find(name) {
        host::check_hardware(offer)?;
    }
    context.region.guests.check_capacity(name, size, resized)
}
