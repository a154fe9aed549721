//! The least pace of a client, by which it brings what it sends and takes what it asked for: one that is slower is as
//! good as gone, and holds a place that others wait for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::limits::{BODY_TIME_MAX, PACE_BYTES};

/// How long a client was waited for since it last did its due.
#[derive(Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: usize,
}

impl Pace {
    /// How long it may still keep us waiting.
    pub(super) fn patience(&self) -> Duration {
        BODY_TIME_MAX.saturating_sub(self.waited)
    }

    /// So many bytes went on, after it was waited for so long.
    pub(super) fn passed(&mut self, bytes: usize, waited: Duration) {
        self.bytes += bytes;
        self.waited += waited;
        if self.bytes >= PACE_BYTES {
            *self = Self::default();
        }
    }
}

/// A connection that ends when its client takes what it is sent slower than one may. The pace is that of the
/// kernel's buffer, which the connection keeps small.
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    waiting: Option<Waiting>,
}

/// For a client that takes nothing now.
struct Waiting {
    since: Instant,
    end: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, pace: Pace::default(), waiting: None }
    }

    /// Passes on what a write came to, unless it has been waited for too long.
    fn paced(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            let waited = self.waiting.take().map(|waiting| waiting.since.elapsed());
            if let Ok(bytes) = written {
                self.pace.passed(bytes, waited.unwrap_or_default());
            }
            return Poll::Ready(written);
        }
        let patience = self.pace.patience();
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            since: Instant::now(),
            end: Box::pin(sleep(patience)),
        });
        ready!(waiting.end.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.paced(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.paced(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    #[test]
    fn who_does_his_due_may_take_for_ever_and_who_does_not_may_not() {
        let (mut steady, mut slow) = (Pace::default(), Pace::default());
        let wait = BODY_TIME_MAX / 4;
        for _ in 0..100 {
            steady.passed(PACE_BYTES / 2, wait);
            assert!(steady.patience() >= wait);
        }
        for _ in 0..4 {
            assert!(slow.patience() >= wait);
            slow.passed(PACE_BYTES / 16, wait);
        }
        assert_eq!(slow.patience(), Duration::ZERO);
    }

    /// Sends so much to a client that is to take it.
    fn sending(bytes: usize) -> (DuplexStream, JoinHandle<io::Result<()>>) {
        let (client, stream) = duplex(64 * 1024);
        let mut stream = Paced::new(stream);
        (client, tokio::spawn(async move { stream.write_all(&vec![b'x'; bytes]).await }))
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_his_due_gets_everything() {
        let begun = Instant::now();
        let (mut client, sent) = sending(32 * PACE_BYTES);
        let mut piece = vec![0; PACE_BYTES / 4];
        for _ in 0..4 * 32 {
            sleep(BODY_TIME_MAX / 5).await;
            client.read_exact(&mut piece).await.unwrap();
        }
        sent.await.unwrap().unwrap();
        assert!(begun.elapsed() > 20 * BODY_TIME_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_his_due_is_not_waited_for() {
        let begun = Instant::now();
        let (mut client, sent) = sending(PACE_BYTES);
        let taking = async {
            let mut piece = vec![0; 64 * 1024];
            loop {
                client.read_exact(&mut piece).await.unwrap();
                sleep(BODY_TIME_MAX / 4).await;
            }
        };
        let error = tokio::select! {
            () = taking => unreachable!("it goes on for ever"),
            sent = sent => sent.unwrap().unwrap_err(),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), BODY_TIME_MAX.as_secs());
    }
}
