//! Answers that are sent as they are read: ranges of content that is never in memory as a whole.
//!
//! Every piece is read on a thread that may block, some ahead of the client, and no thread waits for a
//! client: what one that is slow costs is the pieces that were read for it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use calotype_disk::Source;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use super::limits::{DOWNLOAD_FIRST_BYTES, DOWNLOAD_PIECE_BYTES, DOWNLOAD_PIECES_AHEAD};

/// The body of any answer.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// Content of which an answer has all or a range.
#[derive(Clone)]
pub struct Content {
    source: Arc<dyn Source>,
    range: Range<u64>,
}

impl Content {
    pub(super) fn whole(source: Arc<dyn Source>) -> Self {
        let range = 0..source.length_bytes();
        Self { source, range }
    }

    pub(super) fn part(&self, range: Range<u64>) -> Self {
        Self { source: Arc::clone(&self.source), range }
    }

    /// Bytes of the answer.
    pub(super) fn length_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Bytes of the whole, whatever part the answer has.
    pub(super) fn whole_bytes(&self) -> u64 {
        self.source.length_bytes()
    }

    pub(super) fn into_body(self) -> AnswerBody {
        let Self { source, range } = self;
        let pieces = stream::iter(pieces(range)).map(move |piece| {
            let source = Arc::clone(&source);
            let reading = tokio::task::spawn_blocking(move || read(&*source, piece));
            async move { reading.await.unwrap_or_else(|error| Err(io::Error::other(error))) }
        });
        let ahead = pieces.buffered(DOWNLOAD_PIECES_AHEAD);
        StreamBody::new(ahead.map(|piece| piece.map(Frame::data))).boxed_unsync()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Content({:?} of {} bytes)", self.range, self.whole_bytes())
    }
}

fn read(source: &dyn Source, piece: Range<u64>) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(piece.end - piece.start).map_err(io::Error::other)?];
    // The connection ends before the length that was promised: so the client learns of it.
    source.read_at(piece.start, &mut bytes).inspect_err(|error| {
        tracing::error!(%error, ?piece, "content could not be read while it was being sent");
    })?;
    Ok(bytes.into())
}

/// A small one first, so that the first byte is there soon.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    let mut position = range.start;
    let mut length = DOWNLOAD_FIRST_BYTES;
    std::iter::from_fn(move || {
        // Ends where a piece of the whole ends, so that nothing below is read for two of them.
        let end = ((position / length + 1) * length).min(range.end);
        let piece = position..end;
        position = end;
        length = DOWNLOAD_PIECE_BYTES;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_the_range_in_order(start in 0_u64..3_000_000, length in 0_u64..3_000_000) {
            let mut position = start;
            for piece in pieces(start..start + length) {
                prop_assert_eq!(piece.start, position);
                prop_assert!(piece.end > position && piece.end - position <= DOWNLOAD_PIECE_BYTES);
                position = piece.end;
            }
            prop_assert_eq!(position, start + length);
        }
    }
}
