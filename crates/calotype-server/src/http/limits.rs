//! Every bound of the wire. They are generous for the official clients and small for everybody else.

use std::time::Duration;

/// Connections served at once; more wait in the kernel's queue.
pub(super) const CONNECTIONS_MAX: usize = 1024;

/// Time for a TLS handshake.
pub(super) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Time for a request's headers, and so also for a connection to stay idle between two requests.
pub(super) const HEADERS_TIME_MAX: Duration = Duration::from_mins(1);

/// Time for a request's body, from its first byte to its last.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// What a client must bring of an upload, or take of an answer, in that time, again and again: one that is slower is as
/// good as gone, and holds up those whose turn would be next.
pub(super) const PACE_BYTES: usize = 1024 * 1024;

/// What the kernel holds of an answer that it has not sent yet. It tells in steps of half of that how fast the client
/// takes, so it is well below what must be taken in time.
pub(super) const UNSENT_BYTES_MAX: u32 = 256 * 1024;

/// What is read of content for its first piece, and then for each.
pub(super) const DOWNLOAD_FIRST_BYTES: u64 = 64 * 1024;
pub(super) const DOWNLOAD_PIECE_BYTES: u64 = 256 * 1024;

/// Pieces that are read or wait for the client at the same time: with the connections they bound the memory.
pub(super) const DOWNLOAD_PIECES_AHEAD: usize = 3;

/// Time that requests in progress have to finish when the service stops.
pub(super) const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request's body. Metadata has at most 32,000, and no other part of a body is near to it.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a body that is too long that are taken all the same, so that the client hears why it is refused.
pub(super) const BODY_SKIPPED_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// Time for that.
pub(super) const BODY_SKIP_TIME_MAX: Duration = Duration::from_secs(1);

/// Bytes of a request's path and query.
pub(super) const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a request's headers, names and values.
pub(super) const HEADERS_BYTES_MAX: usize = 24 * 1024;

/// What the HTTP parser accepts at most before it gives up without a proper answer: it must be above the bounds that
/// we answer properly.
pub(super) const PARSER_BYTES_MAX: usize = 64 * 1024;

/// Number of headers at which the HTTP parser gives up.
pub(super) const PARSER_HEADERS_MAX: usize = 256;

/// Characters taken over from the client's `opc-request-id`.
pub(super) const CLIENT_REQUEST_ID_MAX: usize = 64;

/// Signatures of changing requests remembered at once: about 200 changing requests a second.
pub(super) const SIGNATURES_MAX: usize = 65_536;

/// Requests with the same signature, signed in the same second, that are accepted as different.
pub(super) const TWINS_MAX: usize = 64;

/// How long after the first request with a signature a twin of it is accepted.
///
/// A signature has the resolution of its `date`, one second, and does not cover `opc-request-id`: a client that
/// launches three equal instances at once sends the same signature three times.
pub(super) const TWINS_SECONDS_MAX: i64 = 2;
