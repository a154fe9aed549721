//! The size of an instance: what its shape says, or what was asked for within the shape's bounds.

use calotype_api::error::ApiError;
use calotype_api::instances::{InstanceShapeConfig, LaunchInstanceShapeConfigDetails};
use calotype_api::shapes::Shape;

use super::catalogue::Offer;

/// Sizes that differ by less are the same.
const TOLERANCE: f64 = 1e-9;
/// What a flexible shape is assumed to say of memory where it says nothing.
const MEMORY_PER_OCPU_GIB: f64 = 16.0;

/// The size of an instance of a shape with what the request asks for.
pub fn configure(
    offer: &Offer,
    asked: Option<&LaunchInstanceShapeConfigDetails>,
) -> Result<InstanceShapeConfig, ApiError> {
    let shape = &offer.shape;
    let (ocpus, memory_gib) =
        if offer.is_flexible() { flexible(offer, asked)? } else { fixed(offer, asked)? };
    let baseline = asked.and_then(|asked| asked.baseline_ocpu_utilization);
    if let Some(baseline) = baseline
        && !shape.baseline_ocpu_utilizations.iter().flatten().any(|known| *known == baseline)
    {
        let no = format!("is {baseline}, and {} has no burstable instances", shape.shape);
        return Err(ApiError::invalid_parameter("shapeConfig.baselineOcpuUtilization", no));
    }
    Ok(InstanceShapeConfig {
        baseline_ocpu_utilization: baseline,
        gpu_description: shape.gpu_description.clone(),
        gpus: shape.gpus,
        local_disk_description: shape.local_disk_description.clone(),
        local_disks: shape.local_disks,
        local_disks_total_size_in_gbs: shape.local_disks_total_size_in_gbs,
        max_vnic_attachments: vnics(shape, ocpus),
        memory_in_gbs: Some(memory_gib),
        networking_bandwidth_in_gbps: bandwidth(shape, ocpus),
        ocpus: Some(ocpus),
        processor_description: shape.processor_description.clone(),
        vcpus: Some(vcpus(offer, ocpus)),
        ..InstanceShapeConfig::default()
    })
}

/// OCPUs and memory of a shape that has one size; asking for just that is no mistake.
fn fixed(
    offer: &Offer,
    asked: Option<&LaunchInstanceShapeConfigDetails>,
) -> Result<(f64, f64), ApiError> {
    let shape = &offer.shape;
    let (ocpus, memory_gib) = (shape.ocpus.unwrap_or(1.0), shape.memory_in_gbs.unwrap_or(1.0));
    let Some(asked) = asked else { return Ok((ocpus, memory_gib)) };
    let differs =
        |asked: Option<f64>, has: f64| asked.is_some_and(|asked| (asked - has).abs() > TOLERANCE);
    let threads = asked.vcpus.map(|vcpus| vcpus as f64);
    if differs(asked.ocpus, ocpus)
        || differs(asked.memory_in_gbs, memory_gib)
        || differs(threads, vcpus(offer, ocpus) as f64)
    {
        let has = format!(
            "{} is not a flexible shape: it has {ocpus} OCPUs and {memory_gib} GB",
            shape.shape
        );
        return Err(ApiError::invalid_parameter("shapeConfig", has));
    }
    Ok((ocpus, memory_gib))
}

fn flexible(
    offer: &Offer,
    asked: Option<&LaunchInstanceShapeConfigDetails>,
) -> Result<(f64, f64), ApiError> {
    let Some(asked) = asked else {
        return Err(ApiError::new(
            calotype_api::ErrorCode::InvalidParameter,
            "Invalid ShapeConfig: null (Cannot launch flexible instance without ShapeConfig)",
        ));
    };
    let ocpus = asked_ocpus(offer, asked)?;
    let limits = offer.shape.ocpu_options.clone().unwrap_or_default();
    between("shapeConfig.ocpus", ocpus, limits.min, limits.max)?;
    let options = offer.shape.memory_options.clone().unwrap_or_default();
    let per_ocpu = options.default_per_ocpu_in_g_bs.unwrap_or(MEMORY_PER_OCPU_GIB);
    let most = options.max_per_ocpu_in_gbs.map_or(options.max_in_g_bs, |per_ocpu| {
        Some((per_ocpu * ocpus).min(options.max_in_g_bs.unwrap_or(f64::MAX)))
    });
    let least = options.min_per_ocpu_in_gbs.unwrap_or(1.0) * ocpus;
    let least = least.max(options.min_in_g_bs.unwrap_or(1.0));
    let usual = (ocpus * per_ocpu).min(most.unwrap_or(f64::MAX));
    let memory_gib = asked.memory_in_gbs.unwrap_or(usual);
    between("shapeConfig.memoryInGBs", memory_gib, Some(least), most)?;
    Ok((ocpus, memory_gib))
}

/// The OCPUs that were asked for, in either unit; in both if they agree.
fn asked_ocpus(offer: &Offer, asked: &LaunchInstanceShapeConfigDetails) -> Result<f64, ApiError> {
    let by_threads = asked.vcpus.map(|vcpus| vcpus as f64 / offer.vcpus_per_ocpu);
    match (asked.ocpus, by_threads) {
        (Some(ocpus), Some(other)) if (ocpus - other).abs() > TOLERANCE => {
            let differs = format!("differs from ocpus: {ocpus} OCPUs are not {other}");
            Err(ApiError::invalid_parameter("shapeConfig.vcpus", differs))
        }
        (Some(ocpus), _) | (None, Some(ocpus)) => Ok(ocpus),
        (None, None) => Err(ApiError::missing_parameter("shapeConfig.ocpus")),
    }
}

fn between(field: &str, value: f64, min: Option<f64>, max: Option<f64>) -> Result<(), ApiError> {
    let (min, max) = (min.unwrap_or(0.0), max.unwrap_or(f64::MAX));
    if value.is_finite() && (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ApiError::invalid_parameter(field, format!("{value} is not between {min} and {max}")))
}

fn vcpus(offer: &Offer, ocpus: f64) -> u64 {
    #[expect(clippy::cast_sign_loss, reason = "limits of shapes are positive")]
    let vcpus = (ocpus * offer.vcpus_per_ocpu).ceil() as u64;
    vcpus.max(1)
}

fn bandwidth(shape: &Shape, ocpus: f64) -> Option<f64> {
    let Some(options) = &shape.networking_bandwidth_options else {
        return shape.networking_bandwidth_in_gbps;
    };
    let gbps = options.default_per_ocpu_in_gbps? * ocpus;
    Some(gbps.min(options.max_in_gbps.unwrap_or(f64::MAX)))
}

fn vnics(shape: &Shape, ocpus: f64) -> Option<u64> {
    let Some(options) = &shape.max_vnic_attachment_options else {
        return shape.max_vnic_attachments;
    };
    #[expect(clippy::cast_sign_loss, reason = "limits of shapes are positive")]
    let vnics = (options.default_per_ocpu? * ocpus).min(options.max.unwrap_or(f64::MAX)) as u64;
    Some(vnics.max(options.min.unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::shapes::find;

    fn size(
        shape: &str,
        ocpus: Option<f64>,
        vcpus: Option<u64>,
        memory: Option<f64>,
    ) -> Result<(f64, f64, u64), String> {
        let asked = LaunchInstanceShapeConfigDetails {
            ocpus,
            vcpus,
            memory_in_gbs: memory,
            ..LaunchInstanceShapeConfigDetails::default()
        };
        let config = configure(find(shape).unwrap(), Some(&asked)).map_err(|e| e.message)?;
        Ok((config.ocpus.unwrap(), config.memory_in_gbs.unwrap(), config.vcpus.unwrap()))
    }

    #[test]
    fn a_flexible_instance_is_as_large_as_was_asked_for() {
        let flexible = "VM.Standard.E4.Flex";
        assert_eq!(size(flexible, Some(2.0), None, None), Ok((2.0, 32.0, 4)));
        assert_eq!(size(flexible, Some(2.0), Some(4), Some(2.0)), Ok((2.0, 2.0, 4)));
        assert_eq!(size(flexible, None, Some(6), Some(40.0)), Ok((3.0, 40.0, 6)));
        // An Ampere Altra has one thread in a core.
        assert_eq!(size("VM.Standard.A1.Flex", Some(3.0), None, None), Ok((3.0, 18.0, 3)));
        let config = LaunchInstanceShapeConfigDetails {
            ocpus: Some(4.0),
            ..LaunchInstanceShapeConfigDetails::default()
        };
        let config = configure(find(flexible).unwrap(), Some(&config)).unwrap();
        assert_eq!(config.networking_bandwidth_in_gbps, Some(4.0));
        assert_eq!(config.max_vnic_attachments, Some(4));
    }

    #[test]
    fn what_is_outside_a_shapes_bounds_is_refused_with_the_bound() {
        let flexible = "VM.Standard.E4.Flex";
        let refused = |ocpus, memory| size(flexible, Some(ocpus), None, memory).unwrap_err();
        assert_eq!(refused(65.0, None), "shapeConfig.ocpus 65 is not between 1 and 64");
        assert_eq!(refused(4.0, Some(3.0)), "shapeConfig.memoryInGBs 3 is not between 4 and 256");
        assert_eq!(refused(f64::NAN, None), "shapeConfig.ocpus NaN is not between 1 and 64");
        let error = size(flexible, Some(2.0), Some(2), None).unwrap_err();
        assert_eq!(error, "shapeConfig.vcpus differs from ocpus: 2 OCPUs are not 1");
        let error = configure(find(flexible).unwrap(), None).unwrap_err();
        assert!(error.message.contains("Cannot launch flexible instance"), "{error}");
    }

    #[test]
    fn a_shape_of_one_size_has_no_other() {
        let fixed = "VM.Standard2.1";
        assert_eq!(size(fixed, Some(1.0), Some(2), Some(15.0)), Ok((1.0, 15.0, 2)));
        let error = size(fixed, Some(2.0), None, None).unwrap_err();
        assert!(error.contains("it has 1 OCPUs and 15 GB"), "{error}");
        assert_eq!(size("VM.Standard.E2.1.Micro", None, None, None), Ok((1.0, 1.0, 1)));
    }
}
