//! A TCP flow of a guest as an ordinary asynchronous byte stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::port::Port;
use crate::stack::FlowKey;

/// One end of a flow; the guest holds the other. Dropping it without `shutdown` resets the flow.
pub(crate) struct GuestStream {
    port: Arc<Port>,
    key: FlowKey,
    handle: SocketHandle,
    /// Our half is closed: the flow may end in peace.
    finished: bool,
}

impl GuestStream {
    /// Wraps a flow that the stack has just begun. The stream is its only user.
    pub(crate) fn new(port: Arc<Port>, key: FlowKey, handle: SocketHandle) -> Self {
        Self { port, key, handle, finished: false }
    }

    /// Waits until the guest has answered; an error if it refuses.
    pub(crate) async fn established(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let mut stack = self.port.stack();
            let socket = stack.socket(self.handle);
            match socket.state() {
                State::SynSent | State::SynReceived => {
                    socket.register_send_waker(cx.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }

    /// Ends the flow with a reset, whatever was agreed before.
    pub(crate) fn reset(mut self) {
        self.finished = false;
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut stack = self.port.stack();
        let space = buffer.initialize_unfilled();
        if let Some(size) = stack.read_tail(self.key, space) {
            buffer.advance(size);
            return Poll::Ready(Ok(()));
        }
        let socket = stack.socket(self.handle);
        if matches!(socket.state(), State::SynSent | State::SynReceived) {
            socket.register_recv_waker(cx.waker());
            return Poll::Pending;
        }
        match socket.recv_slice(space) {
            Ok(0) if !space.is_empty() => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Ok(size) => {
                buffer.advance(size);
                drop(stack);
                self.port.wake(); // The window is larger now.
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut stack = self.port.stack();
        let socket = stack.socket(self.handle);
        if matches!(socket.state(), State::SynSent | State::SynReceived) {
            socket.register_send_waker(cx.waker());
            return Poll::Pending;
        }
        match socket.send_slice(data) {
            Ok(0) if !data.is_empty() => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Ok(size) => {
                drop(stack);
                self.port.wake();
                Poll::Ready(Ok(size))
            }
            Err(_) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.port.stack().socket(self.handle).close();
        self.finished = true;
        self.port.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for GuestStream {
    fn drop(&mut self) {
        self.port.stack().abandon(self.key, !self.finished);
        self.port.wake();
    }
}
