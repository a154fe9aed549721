//! The cable to QEMU: framing, reconnecting, and the task that moves every frame of a port.
//!
//! ```text
//!            connect, again and again
//!   down ------------------------------> up
//!     ^   end of file, error, bad length  |
//!     +-----------------------------------+
//! ```
//!
//! In both states the stack's timers run, so that flows into a guest that is gone end in time.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::limits::{FRAME_SIZE_MAX, LINK_READ_SIZE, RECONNECT_DELAY_MAX, RECONNECT_DELAY_MIN};
use crate::port::Port;
use crate::router;

/// Bytes of the big-endian length before each frame.
pub(crate) const PREFIX_SIZE: usize = 4;

/// Keeps the port's link for as long as the task lives.
pub(crate) async fn run(port: Arc<Port>, path: PathBuf, mut neighbours: mpsc::Receiver<Bytes>) {
    let mut delay = Duration::ZERO;
    loop {
        let stream = connect(&port, &path, &mut neighbours, delay).await;
        tracing::debug!(vnic = %port.vnic.id, "link up");
        port.stack().link_up();
        let end = Session::new(&port, stream).run(&mut neighbours).await;
        port.stack().link_down();
        tracing::debug!(vnic = %port.vnic.id, reason = %end, "link down");
        // Also a QEMU that accepts and closes again and again must cost next to nothing.
        delay = RECONNECT_DELAY_MIN;
    }
}

/// Tries until QEMU listens, for the first time after `delay`. Meanwhile neighbours' frames are
/// lost and flows time out.
async fn connect(
    port: &Port,
    path: &Path,
    neighbours: &mut mpsc::Receiver<Bytes>,
    mut delay: Duration,
) -> UnixStream {
    loop {
        let retry_at = Instant::now() + delay;
        loop {
            while neighbours.try_recv().is_ok() {}
            let stack_wants = port.stack().poll();
            tokio::select! {
                () = sleep_until(retry_at) => break,
                () = after(stack_wants) => {}
                () = port.woken() => {}
            }
        }
        if let Ok(stream) = UnixStream::connect(path).await {
            return stream;
        }
        delay = (delay * 2).clamp(RECONNECT_DELAY_MIN, RECONNECT_DELAY_MAX);
    }
}

/// Waits for `delay`, or for ever.
async fn after(delay: Option<Duration>) {
    match delay {
        Some(delay) => sleep(delay).await,
        None => std::future::pending().await,
    }
}

/// One connection to QEMU.
struct Session<'a> {
    port: &'a Arc<Port>,
    stream: UnixStream,
    incoming: Incoming,
    /// Frames being written, taken from the stack's outbox as a whole.
    outgoing: Vec<u8>,
    written: usize,
}

impl<'a> Session<'a> {
    fn new(port: &'a Arc<Port>, stream: UnixStream) -> Self {
        let (outgoing, written) = (Vec::new(), 0);
        Self { port, stream, incoming: Incoming::new(), outgoing, written }
    }

    /// Moves frames until the link ends; answers why.
    async fn run(mut self, neighbours: &mut mpsc::Receiver<Bytes>) -> io::Error {
        loop {
            let (stack_wants, has_room) = self.pump(neighbours);
            if let Err(end) = self.write() {
                return end;
            }
            if self.outgoing.is_empty() && !self.port.stack().out.is_empty() {
                continue;
            }
            let mut interest = Interest::READABLE;
            if !self.outgoing.is_empty() {
                interest |= Interest::WRITABLE;
            }
            tokio::select! {
                ready = self.stream.ready(interest) => match ready {
                    Ok(ready) if ready.is_readable() || ready.is_read_closed() => {
                        if let Err(end) = self.read() {
                            return end;
                        }
                    }
                    Ok(_) => {}
                    Err(end) => return end,
                },
                frame = neighbours.recv(), if has_room => {
                    if let Some(frame) = frame {
                        self.port.stack().out.push_frame(&frame);
                    }
                }
                () = self.port.woken() => {}
                () = after(stack_wants) => {}
            }
        }
    }

    /// Lets the stack work. Answers when it wants to work again, and whether there is still room.
    fn pump(&mut self, neighbours: &mut mpsc::Receiver<Bytes>) -> (Option<Duration>, bool) {
        let mut stack = self.port.stack();
        while stack.out.has_room() {
            let Ok(frame) = neighbours.try_recv() else { break };
            stack.out.push_frame(&frame);
        }
        let stack_wants = stack.poll();
        if self.outgoing.is_empty() {
            stack.out.take(&mut self.outgoing);
        }
        (stack_wants, stack.out.has_room())
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.outgoing.len() {
            match self.stream.try_write(&self.outgoing[self.written..]) {
                Ok(size) => self.written += size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        match self.stream.try_read(self.incoming.space()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(size) => self.incoming.filled(size),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut stack = self.port.stack();
        while let Some(frame) = self.incoming.next_frame()? {
            router::receive(self.port, &mut stack, &self.incoming.bytes[frame]);
        }
        Ok(())
    }
}

/// Bytes read from the link and not yet taken as frames.
struct Incoming {
    bytes: Vec<u8>,
    /// The part of `bytes` that holds unread input.
    filled: Range<usize>,
}

impl Incoming {
    fn new() -> Self {
        const { assert!(LINK_READ_SIZE >= 2 * (PREFIX_SIZE + FRAME_SIZE_MAX)) };
        Self { bytes: vec![0; LINK_READ_SIZE], filled: 0..0 }
    }

    /// Where to read to. Never empty after all whole frames were taken, because less than one
    /// frame is then left and the buffer holds two.
    fn space(&mut self) -> &mut [u8] {
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.bytes.len() - self.filled.end < PREFIX_SIZE + FRAME_SIZE_MAX {
            self.bytes.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        &mut self.bytes[self.filled.end..]
    }

    fn filled(&mut self, size: usize) {
        self.filled.end += size;
    }

    /// The place of the next whole frame, if there is one. An impossible length means that both
    /// sides no longer agree where frames begin: there is no way on.
    fn next_frame(&mut self) -> io::Result<Option<Range<usize>>> {
        let Some(prefix) = self.bytes[self.filled.clone()].first_chunk::<PREFIX_SIZE>() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes(*prefix) as usize;
        if size > FRAME_SIZE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame length out of bounds"));
        }
        if self.filled.len() < PREFIX_SIZE + size {
            return Ok(None);
        }
        let start = self.filled.start + PREFIX_SIZE;
        self.filled.start = start + size;
        Ok(Some(start..start + size))
    }
}
