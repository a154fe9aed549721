//! From a file of any format to a disk: the format is found out, compared with what was declared,
//! and only then is the file opened.

use super::{BothEnds, Ends, FORMATS, Format, FormatName, marks};
use crate::unpacked::{Packing, unpack};
use crate::{Disk, Error, ErrorKind, Export, Result, Source};

/// How large an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLimits {
    /// The disk that a guest sees.
    pub virtual_size_bytes_max: u64,
    /// The file, and what it unpacks to.
    pub file_size_bytes_max: u64,
}

impl OpenLimits {
    /// Refuses a file, whatever is in it.
    pub(crate) fn check_file(&self, file_size_bytes: u64) -> Result<()> {
        if file_size_bytes <= self.file_size_bytes_max {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::OutOfBounds,
            format!(
                "file of {file_size_bytes} bytes; at most {} are taken",
                self.file_size_bytes_max
            ),
        ))
    }

    /// Refuses a disk by its size; its file was checked.
    fn check_disk(&self, virtual_size_bytes: u64, file_size_bytes: u64) -> Result<()> {
        if virtual_size_bytes <= self.virtual_size_bytes_max {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::OutOfBounds,
            format!(
                "disk of {virtual_size_bytes} bytes in a file of {file_size_bytes} bytes; at most \
                 {} and {} are taken",
                self.virtual_size_bytes_max, self.file_size_bytes_max
            ),
        ))
    }
}

/// Opens a disk of a stranger, whatever its format, compressed or not, and believes nothing it says.
///
/// A format that is not the `declared` one is [`ErrorKind::InvalidFormat`], a size beyond `limits`
/// [`ErrorKind::OutOfBounds`]. A compressed file is unpacked once here, to count it.
pub fn open(
    source: Box<dyn Source>,
    declared: Option<FormatName>,
    limits: &OpenLimits,
) -> Result<(FormatName, Box<dyn Disk>)> {
    open_unpacked(unpack(source, limits)?, declared, limits)
}

/// Opens a disk that must not be compressed as a whole.
pub(crate) fn open_unpacked(
    source: Box<dyn Source>,
    declared: Option<FormatName>,
    limits: &OpenLimits,
) -> Result<(FormatName, Box<dyn Disk>)> {
    let file_size_bytes = source.length_bytes();
    limits.check_file(file_size_bytes)?;
    let detected = detect(source.as_ref())?;
    if let Some(declared) = declared
        && declared != detected
    {
        return Err(invalid(format!("declared as {declared}, and is {detected}")));
    }
    let disk = (row(detected)?.open)(source)?;
    limits.check_disk(disk.size_bytes(), file_size_bytes)?;
    Ok((detected, disk))
}

/// Looks at a disk's extents and says how its file of that format will be written.
///
/// A format that is only read is [`ErrorKind::UnsupportedFeature`].
pub fn plan(name: FormatName, disk: &dyn Disk) -> Result<Box<dyn Export>> {
    match row(name)?.plan {
        Some(plan) => plan(disk),
        None => Err(Error::new(ErrorKind::UnsupportedFeature, format!("{name} is not written"))),
    }
}

/// The format of a file, told from its ends alone.
///
/// A file with the marks of two formats is [`ErrorKind::InvalidFormat`]: whoever looks at it later
/// might see the other one. So is one that is compressed, of which [`open`] looks inside. What is
/// known to be no disk, or an encrypted one, is [`ErrorKind::UnsupportedFeature`].
pub fn detect(source: &dyn Source) -> Result<FormatName> {
    let both = BothEnds::read(source)?;
    let ends = both.ends();
    if let Some(packing) = Packing::of(ends.first) {
        return Err(invalid(format!("{packing} data where a disk is expected")));
    }
    let mut matching = FORMATS.iter().filter(|format| (format.matches)(&ends));
    let found = matching.next().map_or(FormatName::Raw, |format| format.name);
    if let Some(second) = matching.next() {
        return Err(two_formats(found.as_str(), second.name));
    }
    marks::refuse(&ends)?;
    Ok(found)
}

/// Refuses a file that is `first` already and has the marks of a disk's format as well.
pub(crate) fn refuse_two_formats(ends: &Ends<'_>, first: &str) -> Result<()> {
    match marked(ends) {
        Some(second) => Err(two_formats(first, second)),
        None => Ok(()),
    }
}

/// The first format whose marks a file has.
pub(crate) fn marked(ends: &Ends<'_>) -> Option<FormatName> {
    FORMATS.iter().find(|format| (format.matches)(ends)).map(|format| format.name)
}

fn two_formats(first: &str, second: FormatName) -> Error {
    invalid(format!("a file with the marks of two formats, {first} and {second}"))
}

fn row(name: FormatName) -> Result<&'static Format> {
    FORMATS
        .iter()
        .find(|format| format.name == name)
        .ok_or_else(|| Error::new(ErrorKind::UnsupportedFeature, format!("{name} is not read")))
}

fn invalid(context: String) -> Error {
    Error::new(ErrorKind::InvalidFormat, context)
}
