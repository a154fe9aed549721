//! Compressed clusters: each is inflated by itself, and must give exactly one cluster.

use std::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::header::corrupt;
use crate::limits::ZSTD_WINDOW_BITS_MAX;
use crate::{Error, Result, Source};

/// How all compressed clusters of a file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Deflate without a header, in spite of its name.
    Zlib,
    Zstd,
}

/// Where the bytes of a compressed cluster are. Their length is known to a sector only, so that
/// others may follow within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deflated {
    pub(super) start: u64,
    pub(super) length_bytes: u64,
}

impl fmt::Display for Deflated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "qcow2 compressed cluster at {:#x}", self.start)
    }
}

/// The state of a decompressor, used again for one cluster after the other.
pub(super) struct Inflater {
    engine: Engine,
    input: Vec<u8>,
}

enum Engine {
    Zlib(Box<DecompressorOxide>),
    Zstd(Box<Decoder<'static>>),
}

impl Inflater {
    pub(super) fn new(compression: Compression) -> Result<Self> {
        let engine = match compression {
            Compression::Zlib => Engine::Zlib(Box::default()),
            Compression::Zstd => {
                let mut decoder = Decoder::new().map_err(zstd_failed)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_BITS_MAX))
                    .map_err(zstd_failed)?;
                Engine::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { engine, input: Vec::new() })
    }

    /// Fills `cluster` with what `deflated` inflates to.
    pub(super) fn inflate(
        &mut self,
        source: &dyn Source,
        deflated: Deflated,
        cluster: &mut [u8],
    ) -> Result<()> {
        // At most two clusters: the entry has no more bits for the length.
        self.input.resize(deflated.length_bytes as usize, 0);
        source
            .read_at(deflated.start, &mut self.input)
            .map_err(|error| Error::io(format!("reading {deflated}"), error))?;
        match &mut self.engine {
            Engine::Zlib(state) => inflate_zlib(state, &self.input, cluster, deflated),
            Engine::Zstd(decoder) => inflate_zstd(decoder, &self.input, cluster, deflated),
        }
    }
}

fn inflate_zlib(
    state: &mut DecompressorOxide,
    input: &[u8],
    cluster: &mut [u8],
    deflated: Deflated,
) -> Result<()> {
    state.init();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, length) = decompress(state, input, cluster, 0, flags);
    match status {
        TINFLStatus::Done if length == cluster.len() => Ok(()),
        TINFLStatus::Done => Err(too_short(deflated, length, cluster.len())),
        TINFLStatus::HasMoreOutput => Err(too_long(deflated, cluster.len())),
        _ => Err(corrupt(format!("{deflated} is damaged after {length} bytes"))),
    }
}

fn inflate_zstd(
    decoder: &mut Decoder<'_>,
    input: &[u8],
    cluster: &mut [u8],
    deflated: Deflated,
) -> Result<()> {
    let wanted = cluster.len();
    decoder.reinit().map_err(zstd_failed)?;
    let mut input = InBuffer::around(input);
    let mut output = OutBuffer::around(cluster);
    loop {
        let before = (input.pos(), output.pos());
        let hint = decoder.run(&mut input, &mut output).map_err(|error| {
            corrupt(format!("{deflated} is damaged after {} bytes", output.pos()))
                .with_source(error)
        })?;
        match (hint, output.pos() == wanted) {
            (0, true) => return Ok(()),
            (0, false) => return Err(too_short(deflated, output.pos(), wanted)),
            _ if before != (input.pos(), output.pos()) => {}
            (_, true) => return Err(too_long(deflated, wanted)),
            (_, false) => return Err(too_short(deflated, output.pos(), wanted)),
        }
    }
}

fn too_short(deflated: Deflated, length: usize, wanted: usize) -> Error {
    corrupt(format!("{deflated} inflates to {length} bytes, not {wanted}"))
}

fn too_long(deflated: Deflated, wanted: usize) -> Error {
    corrupt(format!("{deflated} inflates to more than {wanted} bytes"))
}

fn zstd_failed(error: std::io::Error) -> Error {
    Error::io("starting a zstd decompressor", error)
}
