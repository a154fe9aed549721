//! Shapes: the sizes that instances can have here, and what they mean on this host.
//!
//! The catalogue is a data file; a new shape is a new entry there.

use std::sync::LazyLock;

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::instances::{InstanceShapeConfig, LaunchInstanceShapeConfigDetails};
use calotype_api::shapes::Shape;

use super::{Context, images};
use crate::http::{Reply, Request};

static CATALOGUE: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("shapes.json")).expect("the catalogue of shapes is valid")
});

/// Gibibytes to mebibytes.
const MIB_PER_GIB: f64 = 1024.0;

/// Every shape.
pub fn all() -> &'static [Shape] {
    &CATALOGUE
}

/// Names of all shapes: what a platform image is compatible with.
pub fn all_names() -> Vec<String> {
    CATALOGUE.iter().map(|shape| shape.shape.clone()).collect()
}

/// Names of the shapes that an imported image is compatible with until somebody adds others: those of
/// Intel processors up to Ice Lake, without the X6 generation, AMD and Arm.
pub fn names_for_imports() -> Vec<String> {
    let other = ["AMD", "Ampere", "X6"];
    CATALOGUE
        .iter()
        .filter(|shape| {
            let processor = shape.processor_description.as_deref().unwrap_or_default();
            !other.iter().any(|name| processor.contains(name))
        })
        .map(|shape| shape.shape.clone())
        .collect()
}

/// The shape of that name.
pub fn find(name: &str) -> Result<&'static Shape, ApiError> {
    CATALOGUE.iter().find(|shape| shape.shape == name).ok_or_else(|| {
        ApiError::new(ErrorCode::NotAuthorizedOrNotFound, format!("shape {name} not found"))
    })
}

/// `ListShapes`.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    super::identity::compartment_exists(&context, &request.required_query("compartmentId")?)
        .await?;
    let image = match request.query::<calotype_api::ocid::Ocid>("imageId")? {
        Some(id) => Some(images::load(&context, &id).await?),
        None => None,
    };
    if let Some(domain) = request.query::<String>("availabilityDomain")? {
        super::identity::availability_domain_exists(&context, &domain).await?;
    }
    let wanted = request.query::<String>("shape")?;
    let shapes: Vec<&Shape> = all()
        .iter()
        .filter(|shape| wanted.as_ref().is_none_or(|name| *name == shape.shape))
        .filter(|shape| {
            image.as_ref().is_none_or(|image| image.compatible_shapes.contains(&shape.shape))
        })
        .collect();
    super::page_of(&request, &shapes)
}

/// The size of an instance of `shape` with what the launch request asks for.
pub fn configure(
    shape: &Shape,
    asked: Option<&LaunchInstanceShapeConfigDetails>,
) -> Result<InstanceShapeConfig, ApiError> {
    let flexible = shape.is_flexible.unwrap_or(false);
    let (ocpus, memory) =
        if flexible { flexible_size(shape, asked)? } else { fixed_size(shape, asked)? };
    Ok(InstanceShapeConfig {
        baseline_ocpu_utilization: asked.and_then(|asked| asked.baseline_ocpu_utilization),
        local_disks: Some(shape.local_disks.unwrap_or(0)),
        max_vnic_attachments: shape.max_vnic_attachments,
        memory_in_gbs: Some(memory),
        networking_bandwidth_in_gbps: shape.networking_bandwidth_in_gbps,
        ocpus: Some(ocpus),
        processor_description: shape.processor_description.clone(),
        vcpus: Some(vcpus_of(shape, ocpus)),
        ..InstanceShapeConfig::default()
    })
}

fn fixed_size(
    shape: &Shape,
    asked: Option<&LaunchInstanceShapeConfigDetails>,
) -> Result<(f64, f64), ApiError> {
    let (ocpus, memory) = (shape.ocpus.unwrap_or(1.0), shape.memory_in_gbs.unwrap_or(1.0));
    let differs =
        |asked: Option<f64>, has: f64| asked.is_some_and(|asked| (asked - has).abs() > 1e-9);
    if let Some(asked) = asked
        && (differs(asked.ocpus, ocpus) || differs(asked.memory_in_gbs, memory))
    {
        return Err(ApiError::invalid_parameter(
            "shapeConfig",
            format!(
                "{} is not a flexible shape: it has {ocpus} OCPUs and {memory} GB",
                shape.shape
            ),
        ));
    }
    Ok((ocpus, memory))
}

fn flexible_size(
    shape: &Shape,
    asked: Option<&LaunchInstanceShapeConfigDetails>,
) -> Result<(f64, f64), ApiError> {
    let Some(asked) = asked else {
        return Err(ApiError::invalid_parameter(
            "shapeConfig",
            "null (Cannot launch flexible instance without ShapeConfig)",
        ));
    };
    let ocpus = match (asked.ocpus, asked.vcpus) {
        (Some(ocpus), _) => ocpus,
        (None, Some(vcpus)) => vcpus as f64 / 2.0,
        (None, None) => return Err(ApiError::missing_parameter("shapeConfig.ocpus")),
    };
    let limits = shape.ocpu_options.clone().unwrap_or_default();
    between("shapeConfig.ocpus", ocpus, limits.min, limits.max)?;
    let options = shape.memory_options.clone().unwrap_or_default();
    let memory = asked
        .memory_in_gbs
        .unwrap_or_else(|| ocpus * options.default_per_ocpu_in_g_bs.unwrap_or(16.0));
    let most = options.max_per_ocpu_in_gbs.map_or(options.max_in_g_bs, |per_ocpu| {
        Some((per_ocpu * ocpus).min(options.max_in_g_bs.unwrap_or(f64::MAX)))
    });
    let least = options.min_per_ocpu_in_gbs.unwrap_or(1.0) * ocpus;
    between(
        "shapeConfig.memoryInGBs",
        memory,
        Some(least.max(options.min_in_g_bs.unwrap_or(1.0))),
        most,
    )?;
    Ok((ocpus, memory))
}

fn between(field: &str, value: f64, min: Option<f64>, max: Option<f64>) -> Result<(), ApiError> {
    let (min, max) = (min.unwrap_or(0.0), max.unwrap_or(f64::MAX));
    if value.is_finite() && (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ApiError::invalid_parameter(field, format!("{value} is not between {min} and {max}")))
}

/// Threads of an instance: two for each OCPU, one where the shape is a part of a core.
fn vcpus_of(shape: &Shape, ocpus: f64) -> u64 {
    if shape.is_subcore.unwrap_or(false) {
        return 1;
    }
    #[expect(clippy::cast_sign_loss, reason = "limits of shapes are positive")]
    let vcpus = (ocpus * 2.0).ceil() as u64;
    vcpus.max(1)
}

/// What a guest of that size gets on this host: threads and memory in MiB. A guest never gets more
/// threads than the host has processors; that would only make it slower.
pub fn host_size(config: &InstanceShapeConfig) -> (u16, u32) {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let vcpus = config.vcpus.unwrap_or(1).clamp(1, processors as u64);
    #[expect(clippy::cast_sign_loss, reason = "limits of shapes are positive")]
    let memory_mib = (config.memory_in_gbs.unwrap_or(1.0) * MIB_PER_GIB) as u32;
    (vcpus as u16, memory_mib)
}
