//! From a file of any format to a disk: the format is found out, compared with what was declared,
//! and only then is the file opened.

use super::{Ends, FORMATS, Format, FormatName};
use crate::limits::END_BYTES;
use crate::{Disk, Error, ErrorKind, Result, Source};

/// How large an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLimits {
    /// The disk that a guest sees.
    pub virtual_size_bytes_max: u64,
    /// The file, and what it unpacks to.
    pub file_size_bytes_max: u64,
}

impl OpenLimits {
    fn check(&self, virtual_size_bytes: u64, file_size_bytes: u64) -> Result<()> {
        if virtual_size_bytes <= self.virtual_size_bytes_max
            && file_size_bytes <= self.file_size_bytes_max
        {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::OutOfBounds,
            format!(
                "disk of {virtual_size_bytes} bytes in a file of {file_size_bytes} bytes; \
                 at most {} and {} are taken",
                self.virtual_size_bytes_max, self.file_size_bytes_max
            ),
        ))
    }
}

/// Opens a disk of a stranger, whatever its format, and believes nothing it says.
///
/// A format that is not the `declared` one is [`ErrorKind::InvalidFormat`], a size beyond `limits`
/// [`ErrorKind::OutOfBounds`].
pub fn open(
    source: Box<dyn Source>,
    declared: Option<FormatName>,
    limits: &OpenLimits,
) -> Result<(FormatName, Box<dyn Disk>)> {
    let file_size_bytes = source.length_bytes();
    limits.check(0, file_size_bytes)?;
    let detected = detect(source.as_ref())?;
    if let Some(declared) = declared
        && declared != detected
    {
        return Err(invalid(format!("declared as {declared}, and is {detected}")));
    }
    let disk = (row(detected)?.open)(source)?;
    limits.check(disk.size_bytes(), file_size_bytes)?;
    Ok((detected, disk))
}

/// The format of a file, told from its ends alone.
///
/// A file with the marks of two formats is [`ErrorKind::InvalidFormat`]: whoever looks at it later
/// might see the other one.
pub fn detect(source: &dyn Source) -> Result<FormatName> {
    let length = source.length_bytes().min(END_BYTES) as usize;
    let mut first = vec![0; length];
    let mut last = vec![0; length];
    let read = |offset, buf: &mut [u8]| {
        source.read_at(offset, buf).map_err(|error| Error::io("reading the ends of a file", error))
    };
    read(0, &mut first)?;
    read(source.length_bytes() - length as u64, &mut last)?;
    let ends = Ends { first: &first, last: &last };

    let mut matching = FORMATS.iter().filter(|format| (format.matches)(&ends));
    match (matching.next(), matching.next()) {
        (Some(first), Some(second)) => Err(invalid(format!(
            "a file with the marks of two formats, {} and {}",
            first.name, second.name
        ))),
        (Some(only), None) => Ok(only.name),
        (None, _) => Ok(FormatName::Raw),
    }
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
