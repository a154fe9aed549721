//! A walk over the headers of a tar archive: the members' data is passed over, not read.
//!
//! Of the format's many dialects those are understood that writers of archives use: ustar, GNU's long
//! names and large sizes, and pax. Everything that is not a plain file is refused.

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::limits::ARCHIVE_EXTENSION_BYTES_MAX;
use crate::{Error, ErrorKind, Result, Source};

const BLOCK_BYTES: u64 = 512;
/// Of a name in an error.
const SHOWN_CHARACTERS: usize = 100;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    name: [u8; 100],
    _mode_and_owner: [u8; 24],
    size: [u8; 12],
    _mtime: [u8; 12],
    checksum: [u8; 8],
    kind: u8,
    _link_name: [u8; 100],
    magic: [u8; 8],
    _owner_and_device: [u8; 80],
    prefix: [u8; 155],
    _padding: [u8; 12],
}

/// A plain file of the archive.
pub(super) struct Member {
    /// Without folders.
    pub(super) name: String,
    /// Where its bytes are.
    pub(super) offset: u64,
    pub(super) size_bytes: u64,
}

impl Member {
    /// The name for an error: quoted, and no longer than need be.
    pub(super) fn shown(&self) -> String {
        shown(&self.name)
    }
}

/// The plain files of an archive, in their order.
pub(super) struct Walk<'a> {
    source: &'a dyn Source,
    offset: u64,
    /// Headers that may still come, those of extensions among them.
    headers_left: usize,
    /// What was said of the next member before its own header.
    next: Extension,
    ended: bool,
}

/// What pax headers and GNU's long names say of the member that follows.
#[derive(Default)]
struct Extension {
    name: Option<String>,
    size_bytes: Option<u64>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a dyn Source, headers_max: usize) -> Self {
        let next = Extension::default();
        Self { source, offset: 0, headers_left: headers_max, next, ended: false }
    }

    fn member(&mut self) -> Result<Option<Member>> {
        while let Some((header, size_bytes)) = self.header()? {
            let offset = self.offset;
            let size_bytes = match header.kind {
                b'x' | b'g' | b'L' => size_bytes,
                _ => self.next.size_bytes.take().unwrap_or(size_bytes),
            };
            self.skip(size_bytes)?;
            match header.kind {
                b'x' => self.read_pax(offset, size_bytes)?,
                b'g' => self.read_global_pax(offset, size_bytes)?,
                b'L' => self.next.name = Some(self.read_name(offset, size_bytes)?),
                kind => {
                    let name = match self.next.name.take() {
                        Some(name) => name,
                        None => header_name(&header)?,
                    };
                    let name = check_name(&name)?;
                    if check_kind(kind, &name)? {
                        return Ok(Some(Member { name, offset, size_bytes }));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The header at the offset and the size in it; none at the end of the archive.
    fn header(&mut self) -> Result<Option<(RawHeader, u64)>> {
        let left = self.source.length_bytes().saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        if left < BLOCK_BYTES {
            return Err(corrupt(format!("archive cut short in the header at {}", self.offset)));
        }
        let mut block = [0; BLOCK_BYTES as usize];
        self.read(self.offset, &mut block)?;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let wrong = || corrupt(format!("no member's header at {} of the archive", self.offset));
        let header = RawHeader::read_from_bytes(&block).map_err(|_| wrong())?;
        if !header.magic.starts_with(b"ustar") || number(&header.checksum) != Some(sum(&block)) {
            return Err(wrong());
        }
        let size_bytes = number(&header.size).ok_or_else(wrong)?;
        self.headers_left = self.headers_left.checked_sub(1).ok_or_else(|| {
            Error::new(ErrorKind::OutOfBounds, "archive of more headers than two members need")
        })?;
        self.offset += BLOCK_BYTES;
        Ok(Some((header, size_bytes)))
    }

    /// Passes over the data of a member, all of which must be there.
    fn skip(&mut self, size_bytes: u64) -> Result<()> {
        let length = self.source.length_bytes();
        let end = self.offset.checked_add(size_bytes).filter(|&end| end <= length);
        let next = end.and_then(|end| end.checked_next_multiple_of(BLOCK_BYTES));
        self.offset = next
            .ok_or_else(|| {
                corrupt(format!(
                    "member of {size_bytes} bytes at {}, in an archive of {length} bytes",
                    self.offset
                ))
            })?
            .min(length);
        Ok(())
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.source
            .read_at(offset, buf)
            .map_err(|error| Error::io(format!("reading the archive at {offset}"), error))
    }

    fn read_extension(&self, offset: u64, size_bytes: u64) -> Result<Vec<u8>> {
        if size_bytes > ARCHIVE_EXTENSION_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::OutOfBounds,
                format!(
                    "extended header of {size_bytes} bytes in the archive, over \
                     {ARCHIVE_EXTENSION_BYTES_MAX}"
                ),
            ));
        }
        let mut bytes = vec![0; size_bytes as usize];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn read_name(&self, offset: u64, size_bytes: u64) -> Result<String> {
        let bytes = self.read_extension(offset, size_bytes)?;
        text(until_nul(&bytes))
    }

    fn read_pax(&mut self, offset: u64, size_bytes: u64) -> Result<()> {
        let bytes = self.read_extension(offset, size_bytes)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (key, value, behind) = pax_record(rest)
                .ok_or_else(|| corrupt(format!("pax header at {offset} of the archive")))?;
            match key {
                b"path" => self.next.name = Some(text(value)?),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    let wrong = || corrupt(format!("size in the pax header at {offset}"));
                    self.next.size_bytes = Some(size.ok_or_else(wrong)?);
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(invalid("sparse member in the archive".into()));
                }
                _ => {}
            }
            rest = behind;
        }
        Ok(())
    }

    /// What is said of all members must not be a name or a size.
    fn read_global_pax(&mut self, offset: u64, size_bytes: u64) -> Result<()> {
        let before = std::mem::take(&mut self.next);
        self.read_pax(offset, size_bytes)?;
        let said = std::mem::replace(&mut self.next, before);
        if said.name.is_some() || said.size_bytes.is_some() {
            return Err(invalid("one name or size for all members of the archive".into()));
        }
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Member>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let member = self.member().transpose();
        self.ended = !matches!(member, Some(Ok(_)));
        member
    }
}

/// Whether a member is a plain file; what is passed over is the folder that all are in.
fn check_kind(kind: u8, name: &str) -> Result<bool> {
    match kind {
        b'0' | 0 if !name.is_empty() => Ok(true),
        b'5' if name.is_empty() => Ok(false),
        b'1' | b'2' | b'K' => Err(invalid(format!("link {} in the archive", shown(name)))),
        b'5' => Err(invalid(format!("folder {} in the archive", shown(name)))),
        b'S' => Err(invalid(format!("sparse member {} in the archive", shown(name)))),
        _ => Err(invalid(format!("member {} of type {kind:#x} in the archive", shown(name)))),
    }
}

/// The name without `./` before it; other folders are refused.
fn check_name(name: &str) -> Result<String> {
    let refused = |why| Err(invalid(format!("member {} {why} in the archive", shown(name))));
    if name.starts_with('/') {
        return refused("with an absolute name");
    }
    if name.split('/').any(|part| part == "..") {
        return refused("with a name that leads outside");
    }
    let parts: Vec<_> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    match parts.as_slice() {
        [] => Ok(String::new()),
        [only] => Ok((*only).to_owned()),
        _ => refused("in a folder"),
    }
}

fn header_name(header: &RawHeader) -> Result<String> {
    let name = text(until_nul(&header.name))?;
    // GNU's dialect, which has two blanks behind the magic, uses the prefix for something else.
    let prefix = until_nul(&header.prefix);
    if prefix.is_empty() || header.magic.starts_with(b"ustar ") {
        return Ok(name);
    }
    Ok(format!("{}/{name}", text(prefix)?))
}

/// A number in octal digits, or in the 63 bits that GNU's dialect has for large ones.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
        let low = u64::from_be_bytes(low.try_into().ok()?);
        return high.iter().all(|&byte| byte == 0).then_some(low);
    }
    let digits = std::str::from_utf8(until_nul(field)).ok()?.trim_matches(' ');
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// The sum of all bytes, with blanks in place of the sum itself.
fn sum(block: &[u8]) -> u64 {
    let plain = |(index, &byte): (usize, &u8)| match index {
        148..156 => u64::from(b' '),
        _ => u64::from(byte),
    };
    block.iter().enumerate().map(plain).sum()
}

/// The first record, `length key=value\n`, and what follows it.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(bytes.get(..blank)?).ok()?.parse().ok()?;
    let (record, behind) = bytes.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, behind))
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec())
        .map_err(|error| invalid("name of a member of the archive".into()).with_source(error))
}

fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(SHOWN_CHARACTERS).collect::<String>())
}

fn corrupt(context: String) -> Error {
    Error::new(ErrorKind::Corrupt, context)
}

fn invalid(context: String) -> Error {
    Error::new(ErrorKind::InvalidFormat, context)
}
