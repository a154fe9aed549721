//! What can be chosen of an instance's platform: how it guards its boot, and how many threads a core has.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};

use crate::wire_enum::wire_enum;

wire_enum! {
    /// The kind of machine that a platform is of.
    PlatformType {
        AmdMilanBm = "AMD_MILAN_BM",
        AmdMilanBmGpu = "AMD_MILAN_BM_GPU",
        AmdRomeBm = "AMD_ROME_BM",
        AmdRomeBmGpu = "AMD_ROME_BM_GPU",
        GenericBm = "GENERIC_BM",
        IntelIcelakeBm = "INTEL_ICELAKE_BM",
        IntelSkylakeBm = "INTEL_SKYLAKE_BM",
        AmdVm = "AMD_VM",
        IntelVm = "INTEL_VM",
    }
}

wire_enum! {
    /// The kinds of machine whose platform can be changed.
    UpdatablePlatformType {
        AmdVm = "AMD_VM",
        IntelVm = "INTEL_VM",
    }
}

/// The platform of an instance: as it is asked for at launch, and as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlatformConfig {
    pub is_measured_boot_enabled: Option<bool>,
    pub is_memory_encryption_enabled: Option<bool>,
    pub is_secure_boot_enabled: Option<bool>,
    pub is_symmetric_multi_threading_enabled: Option<bool>,
    pub is_trusted_platform_module_enabled: Option<bool>,
    pub r#type: PlatformType,
}

/// As it is asked for at launch.
pub type AmdVmLaunchInstancePlatformConfig = PlatformConfig;

/// As it is answered.
pub type AmdVmPlatformConfig = PlatformConfig;

/// What can be changed of a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateInstancePlatformConfig {
    pub is_symmetric_multi_threading_enabled: Option<bool>,
    pub r#type: UpdatablePlatformType,
}

/// Under the name of the published model.
pub type AmdVmUpdateInstancePlatformConfig = UpdateInstancePlatformConfig;
