//! The ways to capture an instance, and how a client says which it wants.

use calotype_api::error::ApiError;
use calotype_api::tags::FreeformTags;
use calotype_vm::Consistency;
use serde::{Deserialize, Serialize};

/// The free-form tag of a new image that says how a running instance is captured: `shutdown` (as
/// without it), `crash-consistent` or `quiesced`.
pub const CAPTURE_TAG: &str = "calotype.capture";

/// What happens to an instance while it is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It is stopped and stays so.
    Stopped,
    /// It is shut down, and started again when its disk is sealed: OCI's way.
    Shutdown,
    /// It runs on. The image is what a cut of power would leave.
    CrashConsistent,
    /// It runs on, its filesystems frozen for a moment. The image's filesystems are clean.
    Quiesced,
}

impl Way {
    /// How a running instance is to be captured into an image with these tags.
    pub fn asked(tags: Option<&FreeformTags>) -> Result<Self, ApiError> {
        match tags.and_then(|tags| tags.get(CAPTURE_TAG)).map(String::as_str) {
            None | Some("shutdown") => Ok(Self::Shutdown),
            Some("crash-consistent") => Ok(Self::CrashConsistent),
            Some("quiesced") => Ok(Self::Quiesced),
            Some(_) => Err(ApiError::invalid_parameter(
                "freeformTags",
                format!("{CAPTURE_TAG} must be shutdown, crash-consistent or quiesced"),
            )),
        }
    }

    /// How the disk of a guest that runs on is sealed; `None` if the guest does not run on.
    pub(crate) fn live(self) -> Option<Consistency> {
        match self {
            Self::Stopped | Self::Shutdown => None,
            Self::CrashConsistent => Some(Consistency::Crash),
            Self::Quiesced => Some(Consistency::Quiesced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_chooses_and_without_one_all_is_as_in_oci() {
        let asked = |value: &str| {
            Way::asked(Some(&FreeformTags::from([(CAPTURE_TAG.to_owned(), value.to_owned())])))
        };
        assert_eq!(Way::asked(None), Ok(Way::Shutdown));
        assert_eq!(Way::asked(Some(&FreeformTags::new())), Ok(Way::Shutdown));
        assert_eq!(asked("shutdown"), Ok(Way::Shutdown));
        assert_eq!(asked("crash-consistent"), Ok(Way::CrashConsistent));
        assert_eq!(asked("quiesced"), Ok(Way::Quiesced));
        for wrong in ["", "QUIESCED", "stopped", "live"] {
            let refused = asked(wrong).unwrap_err();
            assert_eq!(refused.status(), 400);
            let allowed = "calotype.capture must be shutdown, crash-consistent or quiesced";
            assert!(refused.message.contains(allowed), "{refused}");
        }
    }
}
