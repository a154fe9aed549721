//! The `.oci` archive: a tar of one disk and of what is known about it.

mod metadata;
mod tar;
mod write;

use std::sync::Arc;

pub use metadata::{
    AdditionalMetadata, Capability, ExternalLaunchOptions, ImageCapabilityData, ImageMetadata,
    MemoryConstraints, OcpuConstraints, ShapeCompatibility,
};
pub use write::plan;

use crate::formats::{BothEnds, OpenLimits, TAR_MARK, marked, open_unpacked, refuse_two_formats};
use crate::limits::{ARCHIVE_HEADERS_MAX, ARCHIVE_METADATA_BYTES_MAX};
use crate::source::Part;
use crate::unpacked::unpack;
use crate::{Disk, Error, ErrorKind, FormatName, Result, Source};
use tar::{Member, Walk};

/// The member that describes the image.
pub const METADATA_NAME: &str = "image_metadata.json";
/// How the name of the other one ends, in letters of any case; real exports say `output.QCOW2`.
const DISK_ENDING: &str = ".qcow2";

/// An `.oci` archive.
pub struct OciArchive {
    /// What it says of its disk.
    pub metadata: ImageMetadata,
    /// The disk, a qcow2 file inside.
    pub disk: Box<dyn Disk>,
}

/// Whether a file that is not compressed is an archive, told from its start alone.
pub fn is_archive(source: &dyn Source) -> Result<bool> {
    let both = BothEnds::read(source)?;
    let (offset, mark) = TAR_MARK;
    Ok(both.first.get(offset..).is_some_and(|rest| rest.starts_with(mark)))
}

impl OciArchive {
    /// Opens a stranger's archive, compressed or not, with its members in any order.
    ///
    /// The archive must hold the two members and nothing else: links, folders, further members
    /// and names with a path are [`ErrorKind::InvalidFormat`], as is metadata that is malformed. Sizes
    /// that leave the archive are [`ErrorKind::Corrupt`]. Of the disk only the header is read here.
    pub fn open(source: Box<dyn Source>, limits: &OpenLimits) -> Result<Self> {
        let source = unpack(source, limits)?;
        let both = BothEnds::read(source.as_ref())?;
        if !is_archive(source.as_ref())?
            && let Some(other) = marked(&both.ends())
        {
            return Err(invalid(format!("no .oci archive, but {other}: its format must be said")));
        }
        refuse_two_formats(&both.ends(), "tar")?;
        let source: Arc<dyn Source> = source.into();
        let (metadata, disk) = read_members(&source)?;
        let (_, disk) = open_unpacked(Box::new(disk), Some(FormatName::Qcow2), limits)?;
        Ok(Self { metadata, disk })
    }
}

/// The metadata, and where the disk is.
fn read_members(source: &Arc<dyn Source>) -> Result<(ImageMetadata, Part)> {
    let mut metadata = None;
    let mut disk = None;
    for member in Walk::new(source.as_ref(), ARCHIVE_HEADERS_MAX) {
        let member = member?;
        if member.name == METADATA_NAME {
            if metadata.replace(read_metadata(source.as_ref(), &member)?).is_some() {
                return Err(invalid(format!("two members {METADATA_NAME} in the archive")));
            }
        } else if is_disk(&member.name) {
            let part = Part::new(Arc::clone(source), member.offset, member.size_bytes);
            if disk.replace(part).is_some() {
                return Err(invalid(format!("a second disk {} in the archive", member.shown())));
            }
        } else {
            return Err(invalid(format!("unexpected member {} in the archive", member.shown())));
        }
    }
    match (metadata, disk) {
        (Some(metadata), Some(disk)) => Ok((metadata, disk)),
        (None, _) => Err(invalid(format!("no {METADATA_NAME} in the archive"))),
        (_, None) => Err(invalid("no disk named *.qcow2 in the archive".into())),
    }
}

fn is_disk(name: &str) -> bool {
    let start = name.len().checked_sub(DISK_ENDING.len());
    start.is_some_and(|start| {
        start > 0 && name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(DISK_ENDING))
    })
}

fn read_metadata(source: &dyn Source, member: &Member) -> Result<ImageMetadata> {
    let size_bytes = member.size_bytes;
    if size_bytes > ARCHIVE_METADATA_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::OutOfBounds,
            format!("{METADATA_NAME} of {size_bytes} bytes, over {ARCHIVE_METADATA_BYTES_MAX}"),
        ));
    }
    let mut bytes = vec![0; size_bytes as usize];
    source
        .read_at(member.offset, &mut bytes)
        .map_err(|error| Error::io(format!("reading {METADATA_NAME}"), error))?;
    ImageMetadata::from_json(&bytes)
}

fn invalid(context: String) -> Error {
    Error::new(ErrorKind::InvalidFormat, context)
}
