//! Decides between KVM and TCG by running guest code, never by what `/dev/kvm` promises.

use std::fmt;

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceleratorChoice {
    /// KVM where a guest really runs on it, TCG otherwise.
    #[default]
    Auto,
    /// KVM, or an error.
    Kvm,
    /// QEMU's own translator, even where KVM works.
    Tcg,
}

/// What guests run on, and why; `Display` is one line for logs and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accelerator {
    /// The processor's own virtualisation.
    Kvm {
        /// How it was chosen.
        reason: String,
    },
    /// QEMU's translator: slower, never a different result.
    Tcg {
        /// Why not KVM.
        reason: String,
    },
}

impl Accelerator {
    /// `KVM` or `TCG`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kvm { .. } => "KVM",
            Self::Tcg { .. } => "TCG",
        }
    }

    /// Why this one.
    pub fn reason(&self) -> &str {
        match self {
            Self::Kvm { reason } | Self::Tcg { reason } => reason,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name(), self.reason())
    }
}
