//! The catalogue of shapes: `catalogue.json`, and what follows from it.
//!
//! The file lists what is particular to a shape, by hardware generation and processor. What holds for
//! all others is filled in here, so that a new shape is one new line there.

use std::sync::LazyLock;

use calotype_api::shapes::{BillingType, Shape};
use serde::Deserialize;

static CATALOGUE: LazyLock<Vec<Offer>> = LazyLock::new(|| {
    let hardware: Vec<Hardware> = serde_json::from_str(include_str!("catalogue.json"))
        .expect("the catalogue of shapes is valid");
    let mut offers: Vec<Offer> = hardware.into_iter().flat_map(Hardware::offers).collect();
    let groups: Vec<_> =
        offers.iter().map(|offer| (offer.name().to_owned(), group(offer))).collect();
    for offer in &mut offers {
        let own = group(offer);
        let same = groups.iter().filter(|(_, group)| own.is_some() && *group == own);
        offer.shape.resize_compatible_shapes =
            own.is_some().then(|| same.map(|(name, _)| name.clone()).collect());
    }
    offers
});

/// Generations whose shapes an imported image is not launched with until somebody says that it can be.
const NOT_FOR_IMPORTS: &[&str] = &["X6", "E2", "E3", "E4", "E5", "E6", "A1", "A2", "A4"];

/// A shape, and what is known of it besides what clients see.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The shape as clients see it.
    pub shape: Shape,
    /// The generation of hardware: `X7`, `E4`, `A1`.
    pub generation: String,
    /// What its processor runs: `x86_64` or `aarch64`.
    pub architecture: String,
    /// Threads that an instance gets of each OCPU.
    pub vcpus_per_ocpu: f64,
    /// The share of its OCPUs that an instance of a shape smaller than a core is sure of.
    pub core_share: f64,
    /// What `.oci` archives call it.
    pub internal_name: Option<String>,
}

impl Offer {
    /// `VM.Standard2.1`.
    pub fn name(&self) -> &str {
        &self.shape.shape
    }

    /// Whether its OCPUs and memory are chosen with each instance.
    pub fn is_flexible(&self) -> bool {
        self.shape.is_flexible == Some(true)
    }

    /// Whether an instance is a virtual machine that needs nothing but processors, memory, volumes and
    /// network: all that a host here has to give.
    pub fn is_plain_virtual_machine(&self) -> bool {
        self.name().starts_with("VM.")
            && self.shape.gpus.unwrap_or(0) == 0
            && self.shape.local_disks.unwrap_or(0) == 0
    }

    /// Whether an imported image is compatible with it before anybody says so.
    pub fn is_for_imports(&self) -> bool {
        !NOT_FOR_IMPORTS.contains(&self.generation.as_str())
    }
}

/// Every shape, in the order of the file: oldest hardware first.
pub fn all() -> &'static [Offer] {
    &CATALOGUE
}

/// The shapes that an instance can change between, as OCI has it: virtual machines of the standard series
/// of one architecture, and those of the optimised one.
fn group(offer: &Offer) -> Option<String> {
    let series = ["VM.Standard", "VM.Optimized"];
    let series = series.into_iter().find(|series| offer.name().starts_with(series))?;
    Some(format!("{series} {}", offer.architecture))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Hardware {
    generation: String,
    architecture: String,
    vcpus_per_ocpu: f64,
    processors: Vec<Processor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Processor {
    processor_description: String,
    shapes: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    internal_name: Option<String>,
    core_share: Option<f64>,
    vcpus: Option<f64>,
    #[serde(flatten)]
    shape: Shape,
}

impl Hardware {
    fn offers(self) -> Vec<Offer> {
        let Self { generation, architecture, vcpus_per_ocpu, processors } = self;
        let lines = processors.into_iter().flat_map(|processor| {
            let description = processor.processor_description;
            processor.shapes.into_iter().map(move |line| (description.clone(), line))
        });
        lines
            .map(|(processor_description, line)| Offer {
                generation: generation.clone(),
                architecture: architecture.clone(),
                // A shape that counts its threads has one OCPU.
                vcpus_per_ocpu: line.vcpus.unwrap_or(vcpus_per_ocpu),
                core_share: line.core_share.unwrap_or(1.0),
                internal_name: line.internal_name,
                shape: completed(line.shape, processor_description),
            })
            .collect()
    }
}

/// The shape with what the file leaves to be said once.
fn completed(shape: Shape, processor_description: String) -> Shape {
    let is_virtual = shape.shape.starts_with("VM.");
    Shape {
        billing_type: shape.billing_type.or(Some(BillingType::Paid)),
        gpus: shape.gpus.or(Some(0)),
        is_billed_for_stopped_instance: Some(!is_virtual || shape.local_disks.is_some()),
        is_flexible: shape.is_flexible.or(Some(false)),
        is_live_migration_supported: Some(false),
        is_subcore: shape.is_subcore.or(Some(false)),
        local_disks: shape.local_disks.or(Some(0)),
        network_ports: shape.network_ports.or(Some(1)),
        processor_description: Some(processor_description),
        rdma_bandwidth_in_gbps: shape.rdma_bandwidth_in_gbps.or(Some(0)),
        rdma_ports: shape.rdma_ports.or(Some(0)),
        ..shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str) -> &'static Offer {
        all().iter().find(|offer| offer.name() == name).unwrap()
    }

    #[test]
    fn every_shape_says_what_clients_choose_by() {
        let mut names = std::collections::BTreeSet::new();
        for Offer { shape, .. } in all() {
            let name = &shape.shape;
            assert!(names.insert(name), "{name} stands twice in the catalogue");
            assert!(shape.ocpus.is_some_and(|ocpus| ocpus >= 1.0), "{name}");
            assert!(shape.memory_in_gbs.is_some_and(|memory| memory >= 1.0), "{name}");
            assert!(shape.networking_bandwidth_in_gbps.is_some_and(|gbps| gbps > 0.0), "{name}");
            assert!(shape.max_vnic_attachments.is_some_and(|vnics| vnics >= 1), "{name}");
            assert!(shape.quota_names.as_ref().is_some_and(|names| !names.is_empty()), "{name}");
            assert_eq!(name.ends_with(".Flex"), shape.is_flexible == Some(true), "{name}");
            assert_eq!(shape.is_flexible == Some(true), shape.ocpu_options.is_some(), "{name}");
            assert_eq!(shape.is_flexible == Some(true), shape.memory_options.is_some(), "{name}");
        }
    }

    #[test]
    fn every_generation_is_there() {
        let known: std::collections::BTreeSet<_> =
            all().iter().map(|offer| offer.generation.as_str()).collect();
        let expected = ["A1", "A2", "A4", "E2", "E3", "E4", "E5", "E6", "X5", "X6", "X7", "X9"];
        assert_eq!(known.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn imports_begin_without_amd_arm_and_x6() {
        for offer in all() {
            let processor = offer.shape.processor_description.as_deref().unwrap();
            let other = ["AMD", "Ampere", "v4 (Broadwell)"];
            let expected = !other.iter().any(|name| processor.contains(name));
            assert_eq!(offer.is_for_imports(), expected, "{}", offer.name());
        }
        assert!(offer("VM.Standard2.1").is_for_imports());
    }

    #[test]
    fn instances_are_resized_within_a_series_and_an_architecture() {
        let to = |name: &str| offer(name).shape.resize_compatible_shapes.clone();
        let standard = to("VM.Standard2.1").unwrap();
        for name in ["VM.Standard1.16", "VM.Standard.E4.Flex", "VM.Standard2.1"] {
            assert!(standard.contains(&name.to_owned()), "{name}");
        }
        assert!(!standard.iter().any(|name| name.contains("A1") || name.contains("Optimized")));
        assert_eq!(to("VM.Optimized3.Flex").unwrap(), ["VM.Optimized3.Flex"]);
        assert_eq!(to("BM.Standard2.52"), None);
        assert_eq!(to("VM.DenseIO2.8"), None);
    }
}
