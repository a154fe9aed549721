//! The formats that are read and written: one file a format, one row in [`FORMATS`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::END_BYTES;
use crate::{Disk, Error, Export, Result, Source};

mod blocks;
mod marks;
mod open;
pub mod qcow2;
pub mod raw;
pub mod vdi;
pub mod vhd;
mod vhdx;
pub mod vmdk;

pub(crate) use marks::TAR_MARK;
pub use open::{OpenLimits, detect, open, plan};
pub(crate) use open::{marked, open_unpacked, refuse_two_formats};

/// The table of formats. One of them has no marks: what matches no other is raw.
pub const FORMATS: &[Format] = &[
    Format { name: FormatName::Raw, matches: |_| false, open: raw::open, plan: Some(raw::plan) },
    Format {
        name: FormatName::Qcow2,
        matches: qcow2::matches,
        open: qcow2::open,
        plan: Some(qcow2::plan_compressed),
    },
    Format {
        name: FormatName::Vmdk,
        matches: vmdk::matches,
        open: vmdk::open,
        plan: Some(vmdk::plan_stream),
    },
    Format { name: FormatName::Vdi, matches: vdi::matches, open: vdi::open, plan: Some(vdi::plan) },
    Format {
        name: FormatName::Vhd,
        matches: vhd::matches,
        open: vhd::open,
        plan: Some(vhd::plan_dynamic),
    },
    Format { name: FormatName::Vhdx, matches: vhdx::matches, open: vhdx::open, plan: None },
];

/// A format, by the name that the API and people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FormatName {
    /// The bytes of the disk, as they are.
    Raw,
    /// QEMU's own.
    Qcow2,
    /// VMware's: `monolithicSparse` or `streamOptimized`.
    Vmdk,
    /// `VirtualBox`'s.
    Vdi,
    /// Virtual PC's and Hyper-V's first: QEMU calls it `vpc`.
    Vhd,
    /// Hyper-V's second.
    Vhdx,
}

impl FormatName {
    /// The name in capitals, as `sourceImageType` and `exportFormat` have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "RAW",
            Self::Qcow2 => "QCOW2",
            Self::Vmdk => "VMDK",
            Self::Vdi => "VDI",
            Self::Vhd => "VHD",
            Self::Vhdx => "VHDX",
        }
    }
}

impl fmt::Display for FormatName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Both ends of a file, which tell its format: each at most [`crate::limits::END_BYTES`], and
/// overlapping in a short file.
pub struct Ends<'a> {
    /// From the first byte on.
    pub first: &'a [u8],
    /// Up to the last byte.
    pub last: &'a [u8],
}

/// Both ends of a file, read.
pub(crate) struct BothEnds {
    pub(crate) first: Vec<u8>,
    last: Vec<u8>,
}

impl BothEnds {
    pub(crate) fn read(source: &dyn Source) -> Result<Self> {
        let length = source.length_bytes().min(END_BYTES);
        let read = |offset| {
            let mut bytes = vec![0; length as usize];
            source
                .read_at(offset, &mut bytes)
                .map_err(|error| Error::io("reading the ends of a file", error))?;
            Ok(bytes)
        };
        Ok(Self { first: read(0)?, last: read(source.length_bytes() - length)? })
    }

    pub(crate) fn ends(&self) -> Ends<'_> {
        Ends { first: &self.first, last: &self.last }
    }
}

/// Opens a file whose format was found out, and believes nothing it says.
type Open = fn(Box<dyn Source>) -> Result<Box<dyn Disk>>;

/// Looks at a disk's extents, reads no data, and says how its file will be written.
type Plan = fn(&dyn Disk) -> Result<Box<dyn Export>>;

/// A row of the table of formats.
pub struct Format {
    /// Its name.
    pub name: FormatName,
    /// Whether a file has the marks of it; raw has none.
    pub matches: fn(&Ends<'_>) -> bool,
    /// How it is read.
    pub open: Open,
    /// How it is written, if it is.
    pub plan: Option<Plan>,
}
