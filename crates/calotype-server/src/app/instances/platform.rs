//! The platform of an instance. One is told as it is; what this region does not have is refused rather than kept
//! without effect.

use calotype_api::error::ApiError;
use calotype_api::platform_config::{
    PlatformConfig, PlatformType, UpdatablePlatformType, UpdateInstancePlatformConfig,
};

use crate::app::shapes::Offer;

/// The platform of an instance of that shape, of which this was asked for; none if nothing was.
pub(super) fn chosen(
    offer: &Offer,
    asked: Option<PlatformConfig>,
) -> Result<Option<PlatformConfig>, ApiError> {
    let Some(asked) = asked else { return Ok(None) };
    is_of(offer, asked.r#type)?;
    // "Shielded instances do not support custom images", as OCI's manual says.
    let shielded = "cannot be true: there are no shielded instances here, as their disks could not be captured";
    let encrypted = "cannot be true: this host does not encrypt the memory of its guests";
    for (field, given, why) in [
        ("isMeasuredBootEnabled", asked.is_measured_boot_enabled, shielded),
        ("isSecureBootEnabled", asked.is_secure_boot_enabled, shielded),
        ("isTrustedPlatformModuleEnabled", asked.is_trusted_platform_module_enabled, shielded),
        ("isMemoryEncryptionEnabled", asked.is_memory_encryption_enabled, encrypted),
    ] {
        if given == Some(true) {
            return Err(ApiError::invalid_parameter(&format!("platformConfig.{field}"), why));
        }
    }
    has_all_threads(asked.is_symmetric_multi_threading_enabled)?;
    Ok(Some(plain(asked.r#type)))
}

/// What is asked of the platform of an instance that is there already, whatever shape it gets.
pub(super) fn changed(
    offer: &Offer,
    has: Option<PlatformConfig>,
    asked: Option<UpdateInstancePlatformConfig>,
) -> Result<Option<PlatformConfig>, ApiError> {
    let Some(asked) = asked else {
        // Another shape may be of another kind.
        return Ok(has.and_then(|_| kind_of(offer)).map(plain));
    };
    let kind = match asked.r#type {
        UpdatablePlatformType::AmdVm => PlatformType::AmdVm,
        UpdatablePlatformType::IntelVm => PlatformType::IntelVm,
    };
    is_of(offer, kind)?;
    has_all_threads(asked.is_symmetric_multi_threading_enabled)?;
    Ok(Some(plain(kind)))
}

/// What every virtual machine here has.
fn plain(kind: PlatformType) -> PlatformConfig {
    PlatformConfig {
        is_measured_boot_enabled: Some(false),
        is_memory_encryption_enabled: Some(false),
        is_secure_boot_enabled: Some(false),
        is_symmetric_multi_threading_enabled: Some(true),
        is_trusted_platform_module_enabled: Some(false),
        r#type: kind,
    }
}

/// The kind of platform that a shape has; Arm's has none to configure.
fn kind_of(offer: &Offer) -> Option<PlatformType> {
    let processor = offer.shape.processor_description.as_deref().unwrap_or_default();
    match processor {
        text if text.contains("AMD") => Some(PlatformType::AmdVm),
        text if text.contains("Intel") => Some(PlatformType::IntelVm),
        _ => None,
    }
}

fn is_of(offer: &Offer, asked: PlatformType) -> Result<(), ApiError> {
    let must = match kind_of(offer) {
        Some(kind) if kind == asked => return Ok(()),
        Some(kind) => format!("is {asked}, but must be {kind} for shape {}", offer.name()),
        None => format!("is {asked}, but shape {} has no platform to configure", offer.name()),
    };
    Err(ApiError::invalid_parameter("platformConfig.type", must))
}

fn has_all_threads(asked: Option<bool>) -> Result<(), ApiError> {
    if asked != Some(false) {
        return Ok(());
    }
    Err(ApiError::invalid_parameter(
        "platformConfig.isSymmetricMultiThreadingEnabled",
        "cannot be false: an OCPU is always all its threads here; ask for fewer OCPUs",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::shapes;

    fn asked(kind: PlatformType) -> PlatformConfig {
        PlatformConfig {
            is_measured_boot_enabled: None,
            is_memory_encryption_enabled: None,
            is_secure_boot_enabled: None,
            is_symmetric_multi_threading_enabled: None,
            is_trusted_platform_module_enabled: None,
            r#type: kind,
        }
    }

    #[test]
    fn what_every_machine_has_is_granted_and_told() {
        let amd = shapes::find("VM.Standard.E4.Flex").unwrap();
        assert_eq!(chosen(amd, None).unwrap(), None);
        let told = chosen(amd, Some(asked(PlatformType::AmdVm))).unwrap();
        assert_eq!(told, Some(plain(PlatformType::AmdVm)));
        let intel = shapes::find("VM.Standard3.Flex").unwrap();
        let moved = changed(intel, told, None).unwrap();
        assert_eq!(moved, Some(plain(PlatformType::IntelVm)));
        let arm = shapes::find("VM.Standard.A1.Flex").unwrap();
        assert_eq!(changed(arm, moved, None).unwrap(), None);
    }

    #[test]
    fn what_no_machine_here_has_is_refused_by_its_name() {
        let amd = shapes::find("VM.Standard.E4.Flex").unwrap();
        let refused = |config| chosen(amd, Some(config)).unwrap_err().message;
        let kind = PlatformType::AmdVm;
        let secure = PlatformConfig { is_secure_boot_enabled: Some(true), ..asked(kind) };
        assert!(refused(secure).contains("isSecureBootEnabled"));
        let encrypted = PlatformConfig { is_memory_encryption_enabled: Some(true), ..asked(kind) };
        assert!(refused(encrypted).contains("isMemoryEncryptionEnabled"));
        let single =
            PlatformConfig { is_symmetric_multi_threading_enabled: Some(false), ..asked(kind) };
        assert!(refused(single).contains("isSymmetricMultiThreadingEnabled"));
        assert!(refused(asked(PlatformType::GenericBm)).contains("must be AMD_VM"));
    }
}
