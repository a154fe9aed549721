//! Every bound of the consoles: generous for a person at a terminal, small for everybody else.

use std::time::Duration;

/// Clients at once that have shown no key yet.
pub(super) const STRANGERS_MAX: usize = 32;

/// Sessions at once.
pub(super) const SESSIONS_MAX: usize = 64;

/// Time to exchange keys and to show the right one.
pub(super) const AUTHENTICATION_TIME_MAX: Duration = Duration::from_secs(30);

/// Keys refused before a client is.
pub(super) const ATTEMPTS_MAX: usize = 6;

/// How long a refusal takes, whatever was wrong.
pub(super) const REJECTION_TIME: Duration = Duration::from_millis(300);

/// How long a session lasts. OCI's figure.
pub(super) const SESSION_TIME_MAX: Duration = Duration::from_hours(24);

/// Between two questions whether the client is still there.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);

/// Questions that may stay without an answer.
pub(super) const KEEPALIVES_MAX: usize = 3;

/// Time to say farewell.
pub(super) const FAREWELL_TIME_MAX: Duration = Duration::from_secs(2);

/// Channels of one client at once, at each of its two doors: consoles, screens.
pub(super) const CHANNELS_MAX: usize = 4;

/// What a client may send before it is read.
pub(super) const WINDOW_BYTES: u32 = 256 << 10;

/// One packet.
pub(super) const PACKET_BYTES_MAX: u32 = 32 << 10;

/// Packets of one channel that wait.
pub(super) const PACKETS_QUEUED_MAX: usize = 16;

/// Deletions that a session may be late to hear of.
pub(super) const DELETIONS_KEPT: usize = 64;

/// What is read at once of what a person types.
pub(super) const TYPED_BYTES: usize = 4 << 10;

/// Between two looks for a guest that is off.
pub(super) const GUEST_INTERVAL: Duration = Duration::from_millis(500);
