//! Inflating what a file holds, into room of a known size: never more comes out than was asked for.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_COMPUTE_ADLER32, TINFL_FLAG_PARSE_ZLIB_HEADER,
    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// Inflates a zlib stream (RFC 1950) into `to`; the length that came out. `None` when the stream is
/// damaged, cut short or longer than `to`. The state is used again for one stream after the other.
pub(crate) fn inflate_zlib(
    state: &mut DecompressorOxide,
    stream: &[u8],
    to: &mut [u8],
) -> Option<usize> {
    state.init();
    let flags = TINFL_FLAG_PARSE_ZLIB_HEADER
        | TINFL_FLAG_COMPUTE_ADLER32
        | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, length) = decompress(state, stream, to, 0, flags);
    (status == TINFLStatus::Done).then_some(length)
}
