//! What this host can run, and what a guest takes of it.
//!
//! A host here runs virtual machines of its own architecture that need processors, memory, volumes and
//! network. Bare metal, graphics processors and local NVMe drives are in the catalogue, because images
//! may be made for them; there is never capacity for them here.
//!
//! OCPUs are mapped to the host's processors by the setting `guests.cpus_per_ocpu`. Processors may be
//! promised more than once; memory never is.

use calotype_api::error::ApiError;
use calotype_api::instances::InstanceShapeConfig;
use calotype_api::shapes::BaselineOcpuUtilization;

use super::catalogue::Offer;
use crate::config::GuestConfig;

/// Mebibytes in a gibibyte.
const MIB_PER_GIB: f64 = 1024.0;
/// Memory of a host that does not say how much it has.
const UNKNOWN_MEMORY_MIB: u64 = 4096;
/// What the guests of this host are made for: QEMU is run as `qemu-system-x86_64`.
const ARCHITECTURE: &str = "x86_64";

/// What a guest takes of the host, or all guests together may.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Demand {
    /// Processors of the host.
    pub cpus: f64,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl std::ops::Add for Demand {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpus: self.cpus + other.cpus, memory_mib: self.memory_mib + other.memory_mib }
    }
}

impl std::iter::Sum for Demand {
    fn sum<I: Iterator<Item = Self>>(demands: I) -> Self {
        demands.fold(Self::default(), std::ops::Add::add)
    }
}

/// What the host has for guests.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    capacity: Demand,
    cpus_per_ocpu: f64,
}

impl Host {
    /// This host, as far as the settings give it to guests.
    pub fn detect(config: &GuestConfig) -> Self {
        let memory_mib = match config.memory_limit_mib {
            0 => host_memory_mib() * 3 / 4,
            limit => limit,
        };
        Self {
            capacity: Demand { cpus: f64::from(processors()), memory_mib },
            cpus_per_ocpu: config.cpus_per_ocpu,
        }
    }

    /// What an instance takes of it. A shape that is no more in the catalogue takes whole OCPUs.
    pub fn demand(&self, shape: &str, size: &InstanceShapeConfig) -> Demand {
        let of_core = super::find(shape).map_or(1.0, |offer| offer.core_share);
        let ocpus = size.ocpus.unwrap_or(1.0) * of_core * baseline(size);
        Demand { cpus: ocpus * self.cpus_per_ocpu, memory_mib: u64::from(host_size(size).1) }
    }

    /// Whether guests that take that much have room in it together.
    pub fn has_room(&self, together: Demand) -> bool {
        together.memory_mib <= self.capacity.memory_mib && together.cpus <= self.capacity.cpus
    }
}

/// Refuses a shape of hardware that no host here has, in OCI's words.
pub(super) fn check_hardware(offer: &Offer) -> Result<(), ApiError> {
    if offer.is_plain_virtual_machine() && offer.architecture == ARCHITECTURE {
        return Ok(());
    }
    tracing::warn!(shape = offer.name(), "no host here has the hardware of the shape");
    Err(ApiError::out_of_host_capacity())
}

/// What a guest of that size gets on this host: threads and memory in MiB. A guest never gets more
/// threads than the host has processors; that would only make it slower.
pub fn host_size(config: &InstanceShapeConfig) -> (u16, u32) {
    let vcpus = config.vcpus.unwrap_or(1).clamp(1, u64::from(processors()));
    #[expect(clippy::cast_sign_loss, reason = "limits of shapes are positive")]
    let memory_mib = (config.memory_in_gbs.unwrap_or(1.0) * MIB_PER_GIB) as u32;
    (vcpus as u16, memory_mib)
}

/// The share of its OCPUs that a burstable instance is sure of.
fn baseline(size: &InstanceShapeConfig) -> f64 {
    match size.baseline_ocpu_utilization {
        Some(BaselineOcpuUtilization::Baseline1_8) => 0.125,
        Some(BaselineOcpuUtilization::Baseline1_2) => 0.5,
        Some(BaselineOcpuUtilization::Baseline1_1) | None => 1.0,
    }
}

fn processors() -> u16 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// Memory of the host in MiB.
fn host_memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(UNKNOWN_MEMORY_MIB, |kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::shapes::{configure, find};

    const HOST: Host =
        Host { capacity: Demand { cpus: 4.0, memory_mib: 32 * 1024 }, cpus_per_ocpu: 0.5 };

    fn demand(shape: &str) -> Demand {
        HOST.demand(shape, &configure(find(shape).unwrap(), None).unwrap())
    }

    #[test]
    fn guests_take_processors_by_the_setting_and_memory_as_it_is() {
        assert_eq!(demand("VM.Standard2.2"), Demand { cpus: 1.0, memory_mib: 30 * 1024 });
        // An eighth of a core.
        assert_eq!(demand("VM.Standard.E2.1.Micro"), Demand { cpus: 0.0625, memory_mib: 1024 });
        let size = InstanceShapeConfig {
            ocpus: Some(8.0),
            memory_in_gbs: Some(8.0),
            baseline_ocpu_utilization: Some(BaselineOcpuUtilization::Baseline1_8),
            ..InstanceShapeConfig::default()
        };
        let shared = HOST.demand("VM.Standard.E4.Flex", &size);
        assert_eq!(shared, Demand { cpus: 0.5, memory_mib: 8 * 1024 });
    }

    #[test]
    fn memory_is_promised_once_and_processors_as_often_as_is_set() {
        let room =
            |cpus, memory_gib: u64| HOST.has_room(Demand { cpus, memory_mib: memory_gib * 1024 });
        assert!(room(4.0, 32));
        assert!(!room(4.0, 33));
        assert!(!room(4.5, 1));
    }

    #[test]
    fn there_is_never_capacity_for_hardware_that_no_host_here_has() {
        let runs = |name: &str| check_hardware(find(name).unwrap()).is_ok();
        assert!(runs("VM.Standard2.1") && runs("VM.Standard.E4.Flex"));
        for name in ["BM.Standard2.52", "VM.GPU3.1", "VM.DenseIO2.8", "VM.Standard.A1.Flex"] {
            assert!(!runs(name), "{name}");
        }
    }
}
