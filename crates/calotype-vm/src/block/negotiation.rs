//! The handshake: fixed newstyle, until the client has chosen an export or gone.

use std::io::{self, Read, Write};
use std::sync::Arc;

use calotype_disk::Disk;

use super::ResolveDisk;
use super::wire::{
    ALLOCATION, ALLOCATION_ID, INIT_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, answer, export,
    handshake, info, option, read_u16, read_u32, read_u64, violation,
};
use crate::limits::{
    NBD_NAME_BYTES_MAX, NBD_OPTION_BYTES_MAX, NBD_OPTIONS_MAX, NBD_PREFERRED_BYTES,
    NBD_REQUEST_BYTES_MAX,
};

/// What a client chose.
pub(super) struct Chosen {
    pub(super) name: String,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) features: Features,
}

/// What client and server agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Features {
    /// Replies come in typed chunks.
    pub(super) structured: bool,
    /// `base:allocation` may be asked for.
    pub(super) allocation: bool,
}

/// `None` when the client left in good order.
pub(super) fn negotiate(
    reader: &mut impl Read,
    writer: &mut impl Write,
    resolve: &ResolveDisk,
) -> io::Result<Option<Chosen>> {
    let mut greeting = INIT_MAGIC.to_be_bytes().to_vec();
    greeting.extend(OPTION_MAGIC.to_be_bytes());
    greeting.extend((handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES).to_be_bytes());
    writer.write_all(&greeting)?;
    let flags = read_u32(reader)?;
    let known = u32::from(handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES);
    if flags & !known != 0 || flags & u32::from(handshake::FIXED_NEWSTYLE) == 0 {
        return Err(violation("unknown handshake flags"));
    }
    let no_zeroes = flags & u32::from(handshake::NO_ZEROES) != 0;
    let mut negotiation = Negotiation {
        writer,
        resolve,
        no_zeroes,
        structured: false,
        allocation_of: None,
        found: None,
    };
    for _ in 0..NBD_OPTIONS_MAX {
        if read_u64(reader)? != OPTION_MAGIC {
            return Err(violation("not an option"));
        }
        let (number, length) = (read_u32(reader)?, read_u32(reader)?);
        if length > NBD_OPTION_BYTES_MAX {
            if number == option::EXPORT_NAME {
                return Err(violation("the export name is too long"));
            }
            // Worth an answer, not worth the reading: the client cannot go on anyway.
            negotiation.answer(number, answer::TOO_BIG, &[])?;
            return Err(violation("an option is too long"));
        }
        let mut data = vec![0; length as usize];
        reader.read_exact(&mut data)?;
        match negotiation.option(number, &data)? {
            Step::Next => {}
            Step::Chosen(chosen) => return Ok(Some(chosen)),
            Step::Leave => return Ok(None),
        }
    }
    Err(violation("too many options"))
}

enum Step {
    Next,
    Chosen(Chosen),
    Leave,
}

struct Negotiation<'a, W> {
    writer: &'a mut W,
    resolve: &'a ResolveDisk,
    no_zeroes: bool,
    structured: bool,
    /// The export that `base:allocation` was set for; it holds for no other.
    allocation_of: Option<String>,
    /// The export that was found last: clients ask for one several times, and opening it may set
    /// something in motion.
    found: Option<(String, Arc<dyn Disk>)>,
}

impl<W: Write> Negotiation<'_, W> {
    fn option(&mut self, number: u32, data: &[u8]) -> io::Result<Step> {
        match number {
            option::EXPORT_NAME => return self.choose_by_name(data),
            option::ABORT => {
                // The client may be gone already.
                let _ = self.answer(number, answer::ACK, &[]);
                return Ok(Step::Leave);
            }
            option::INFO | option::GO => return self.inform(number, data),
            // Names are not for browsing.
            option::LIST if data.is_empty() => self.answer(number, answer::ACK, &[])?,
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                self.answer(number, answer::ACK, &[])?;
            }
            option::LIST | option::STRUCTURED_REPLY => {
                self.answer(number, answer::INVALID, b"this option has no data")?;
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => {
                self.contexts(number, data)?;
            }
            _ => self.answer(number, answer::UNSUPPORTED, &[])?,
        }
        Ok(Step::Next)
    }

    fn answer(&mut self, number: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        let mut reply = Vec::with_capacity(20 + data.len());
        reply.extend(OPTION_REPLY_MAGIC.to_be_bytes());
        reply.extend(number.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend((data.len() as u32).to_be_bytes());
        reply.extend(data);
        self.writer.write_all(&reply)
    }

    fn find(&mut self, name: &str) -> Option<Arc<dyn Disk>> {
        if self.found.as_ref().is_none_or(|(found, _)| found != name) {
            self.found = (self.resolve)(name).map(|disk| (name.to_owned(), disk));
        }
        self.found.as_ref().map(|(_, disk)| Arc::clone(disk))
    }

    fn size_and_flags(&self, disk: &dyn Disk) -> [u8; 10] {
        let mut flags =
            export::HAS_FLAGS | export::READ_ONLY | export::CAN_MULTI_CONN | export::SEND_CACHE;
        if self.structured {
            flags |= export::SEND_DF;
        }
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&disk.size_bytes().to_be_bytes());
        bytes[8..].copy_from_slice(&flags.to_be_bytes());
        bytes
    }

    fn chosen(&self, name: String, disk: Arc<dyn Disk>) -> Step {
        let allocation = self.structured && self.allocation_of.as_ref() == Some(&name);
        let features = Features { structured: self.structured, allocation };
        Step::Chosen(Chosen { name, disk, features })
    }

    /// The old way, which knows no refusal but hanging up.
    fn choose_by_name(&mut self, data: &[u8]) -> io::Result<Step> {
        let name = std::str::from_utf8(data).map_err(|_| violation("the name is not UTF-8"))?;
        let disk = self.find(name).ok_or_else(|| violation("no such export"))?;
        let mut reply = self.size_and_flags(&*disk).to_vec();
        if !self.no_zeroes {
            reply.extend([0; 124]);
        }
        self.writer.write_all(&reply)?;
        Ok(self.chosen(name.to_owned(), disk))
    }

    fn inform(&mut self, number: u32, mut data: &[u8]) -> io::Result<Step> {
        let Some((name, wanted)) = parse_information_request(&mut data) else {
            self.answer(number, answer::INVALID, b"malformed request")?;
            return Ok(Step::Next);
        };
        let Some(disk) = self.find(&name) else {
            self.answer(number, answer::UNKNOWN, b"no such export")?;
            return Ok(Step::Next);
        };
        let mut size = info::EXPORT.to_be_bytes().to_vec();
        size.extend(self.size_and_flags(&*disk));
        self.answer(number, answer::INFO, &size)?;
        if wanted.contains(&info::BLOCK_SIZE) {
            let mut sizes = info::BLOCK_SIZE.to_be_bytes().to_vec();
            for size in [1, NBD_PREFERRED_BYTES, NBD_REQUEST_BYTES_MAX] {
                sizes.extend(size.to_be_bytes());
            }
            self.answer(number, answer::INFO, &sizes)?;
        }
        self.answer(number, answer::ACK, &[])?;
        Ok(if number == option::GO { self.chosen(name, disk) } else { Step::Next })
    }

    fn contexts(&mut self, number: u32, mut data: &[u8]) -> io::Result<()> {
        if number == option::SET_META_CONTEXT {
            self.allocation_of = None;
        }
        if !self.structured {
            return self.answer(number, answer::INVALID, b"needs structured replies");
        }
        let Some((name, queries)) = parse_context_request(&mut data) else {
            return self.answer(number, answer::INVALID, b"malformed request");
        };
        if self.find(&name).is_none() {
            return self.answer(number, answer::UNKNOWN, b"no such export");
        }
        let listing = number == option::LIST_META_CONTEXT;
        let asked = |query: &String| query == ALLOCATION || (listing && query == "base:");
        if queries.iter().any(asked) || (listing && queries.is_empty()) {
            let mut context = ALLOCATION_ID.to_be_bytes().to_vec();
            context.extend(ALLOCATION.as_bytes());
            self.answer(number, answer::META_CONTEXT, &context)?;
            if !listing {
                self.allocation_of = Some(name);
            }
        }
        self.answer(number, answer::ACK, &[])
    }
}

/// Name and the numbers of the wanted pieces of information. The data is bounded, hence so are they.
fn parse_information_request(data: &mut &[u8]) -> Option<(String, Vec<u16>)> {
    let name = parse_text(data)?;
    let count = read_u16(data).ok()?;
    let wanted = (0..count).map(|_| read_u16(data).ok()).collect::<Option<_>>()?;
    data.is_empty().then_some((name, wanted))
}

fn parse_context_request(data: &mut &[u8]) -> Option<(String, Vec<String>)> {
    let name = parse_text(data)?;
    let count = read_u32(data).ok()?;
    let queries = (0..count).map(|_| parse_text(data)).collect::<Option<_>>()?;
    data.is_empty().then_some((name, queries))
}

fn parse_text(data: &mut &[u8]) -> Option<String> {
    let length = read_u32(data).ok()? as usize;
    let (text, rest) = data.split_at_checked(length)?;
    *data = rest;
    (length <= NBD_NAME_BYTES_MAX).then_some(())?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests;
