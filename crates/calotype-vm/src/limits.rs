//! Every limit of this crate, in one place.

use std::time::Duration;

/// The console log is never larger; when it would be, its older half is dropped.
pub const CONSOLE_LOG_BYTES_MAX: u64 = 1 << 20;

/// Pieces of the console's output that a terminal may be late with, each of at most 16 KiB.
pub(crate) const CONSOLE_OUTPUTS_KEPT: usize = 64;
/// Pieces that are typed and that the guest has not taken yet.
pub(crate) const CONSOLE_INPUTS_QUEUED_MAX: usize = 16;

/// qcow2 layers of one boot disk: each costs every read of the guest a lookup.
pub const LAYERS_MAX: usize = 32;

/// Network interfaces of one machine.
pub const NICS_MAX: usize = 8;

/// Longest path of a UNIX socket that Linux binds: `sun_path` less its closing NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The oldest QEMU whose `-netdev stream` this crate needs.
pub(crate) const QEMU_VERSION_MIN: (u32, u32) = (7, 2);

/// A QMP line: the longest that QEMU was seen to send (query-block of deep chains) is well below.
pub(crate) const QMP_LINE_BYTES_MAX: usize = 4 << 20;
/// QMP commands that wait for QEMU at the same time.
pub(crate) const QMP_COMMANDS_QUEUED_MAX: usize = 64;
/// Events kept for a subscriber that is slow.
pub(crate) const QMP_EVENTS_KEPT: usize = 64;
/// Most commands answer in a millisecond; a host that swaps may take longer.
pub(crate) const QMP_TIMEOUT: Duration = Duration::from_secs(20);
/// Changing the block graph waits for the guest's requests in flight, hence for the block server.
pub(crate) const QMP_GRAPH_TIMEOUT: Duration = Duration::from_mins(2);
/// Between two attempts to reach a control socket.
pub(crate) const RECONNECT_DELAY: Duration = Duration::from_millis(200);

/// From the order to freeze a guest's filesystems to the order to thaw them, whatever happens.
pub const FREEZE_MAX: Duration = Duration::from_secs(10);

/// A line of the agent in the guest: what it answers to what it is asked here is far shorter.
pub(crate) const AGENT_LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of an earlier conversation that may come before the agent's first answer.
pub(crate) const AGENT_STALE_BYTES_MAX: usize = 1 << 20;
/// The agent's answer to anything but a freeze. It looks at its channel ten times a second when
/// nobody was there before, and its guest may be busy.
pub(crate) const AGENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts to thaw.
pub(crate) const THAW_RETRY_DELAY: Duration = Duration::from_millis(200);
/// How long a seal waits for the agent to confirm the thaw; the guard goes on asking.
pub(crate) const THAW_WAIT_MAX: Duration = Duration::from_secs(15);
/// From the start of the process that guards a freeze to its first word, without the freeze itself.
pub(crate) const GUARD_TIMEOUT: Duration = Duration::from_secs(20);
/// A line between the service and the process that guards a freeze: paths and messages.
pub(crate) const GUARD_LINE_BYTES_MAX: usize = 64 << 10;

/// From the start of the QEMU process to its control sockets answering.
pub(crate) const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Between two looks for a control socket that a starting QEMU has not made yet.
pub(crate) const START_POLL: Duration = Duration::from_millis(10);
/// From SIGKILL to the process being gone; more means that the kernel holds it in I/O.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of what QEMU prints is kept for an error message.
pub(crate) const STDERR_BYTES_MAX: usize = 8 << 10;

/// The KVM probe boots a sector of ours; real hardware does it in well under a second.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// QEMU holds a guest's reads this long while the block server is away, and fails them after.
/// A day: an operator who repairs a host overnight finds the guests as they were.
pub(crate) const NBD_RECONNECT_SECONDS: u32 = 24 * 3600;
/// QEMU waits this long for the block server when a machine starts.
pub(crate) const NBD_OPEN_SECONDS: u32 = 10;

/// A request of one NBD client; also what the server tells it.
pub(crate) const NBD_REQUEST_BYTES_MAX: u32 = 32 << 20;
/// A piece of a structured reply: bounds the memory of a connection that asks for much.
pub(crate) const NBD_PIECE_BYTES_MAX: usize = 1 << 20;
/// Requests of one connection that are carried out together.
pub(crate) const NBD_BATCH_REQUESTS_MAX: usize = 64;
/// Room for a batch of requests.
pub(crate) const NBD_READ_BUFFER_BYTES: usize = 4096;
/// Replies are written when they have grown to this: later ones would keep the client waiting.
pub(crate) const NBD_OUTBOX_BYTES: usize = 64 << 10;
/// Pieces of replies that are written together, less than the kernel takes at once.
pub(crate) const NBD_OUTBOX_PARTS_MAX: usize = 128;
/// Pieces of the disk up to this are copied next to their header: cheaper than to hand on two pieces.
pub(crate) const NBD_COPIED_BYTES_MAX: usize = 8 << 10;
/// Pieces of one connection that are read ahead of its replies: bounds its memory to so many chunks.
pub(crate) const NBD_AHEAD_PIECES_MAX: usize = 32;
/// Threads that read ahead, for all connections of a server.
pub(crate) const NBD_POOL_THREADS_MAX: usize = 8;
/// Pieces that wait for these threads; with more the connections read for themselves.
pub(crate) const NBD_POOL_QUEUE_MAX: usize = 1024;
/// What the server tells clients to prefer: the size of a chunk of the store.
pub(crate) const NBD_PREFERRED_BYTES: u32 = 64 << 10;
/// Data of one negotiation option: the longest export name and a few information requests.
pub(crate) const NBD_OPTION_BYTES_MAX: u32 = 8 << 10;
/// Longest export name that the protocol allows.
pub(crate) const NBD_NAME_BYTES_MAX: usize = 4096;
/// Options that one client may send before it must have chosen an export.
pub(crate) const NBD_OPTIONS_MAX: usize = 64;
/// Extents in one answer to a block status request.
pub(crate) const NBD_EXTENTS_MAX: usize = 2048;
/// Connections served at the same time, over all exports.
pub(crate) const NBD_CONNECTIONS_MAX: usize = 4096;
/// A client that has not chosen an export by then is dropped.
pub(crate) const NBD_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a block server that is dropped waits for its connections to let go of their disks.
pub(crate) const NBD_CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a guard waits for the mark of a freeze that another still holds.
pub(crate) const MARK_WAIT_MAX: Duration = Duration::from_secs(3);

/// Between two tries to take it.
pub(crate) const MARK_INTERVAL: Duration = Duration::from_millis(20);
