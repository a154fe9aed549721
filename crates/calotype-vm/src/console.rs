//! Keeps the newest output of a machine's serial console, bounded, across restarts of the service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::limits::{CONSOLE_LOG_BYTES_MAX, RECONNECT_DELAY};
use crate::process::Process;

const READ_BYTES: usize = 16 << 10;

/// A running copy from the serial socket into the log. Dropping it stops the copy.
#[derive(Debug)]
pub(crate) struct Console {
    finished: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Console {
    /// Copies from `first`, then from every later connection to `socket`, until the process ends.
    /// Nothing that QEMU prints while connected is lost, also not what it printed last.
    pub(crate) fn spawn(
        first: Option<UnixStream>,
        socket: PathBuf,
        log: PathBuf,
        process: Arc<Process>,
    ) -> Self {
        let (done, finished) = watch::channel(false);
        let task = tokio::spawn(async move {
            if let Err(error) = copy(first, &socket, &log, &process).await {
                tracing::warn!(%error, log = %log.display(), "the serial console is not logged");
            }
            let _ = done.send(true);
        });
        Self { finished, task }
    }

    /// Resolves when the process has ended and its last words are in the log.
    pub(crate) async fn finished(&self) {
        // An error means that the task is gone, which is finished as well.
        let _ = self.finished.clone().wait_for(|done| *done).await;
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(
    first: Option<UnixStream>,
    socket: &Path,
    log: &Path,
    process: &Process,
) -> Result<()> {
    let mut log = Log::open(log).await?;
    let mut stream = first;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if let Some(mut open) = stream.take() {
            // Ends with the connection, which ends with the process.
            while let Ok(count @ 1..) = open.read(&mut buffer).await {
                log.append(&buffer[..count]).await?;
            }
        }
        tokio::select! {
            () = process.exited() => return Ok(()),
            connected = UnixStream::connect(socket) => stream = connected.ok(),
        }
        if stream.is_none() {
            tokio::select! {
                () = process.exited() => return Ok(()),
                () = tokio::time::sleep(RECONNECT_DELAY) => {}
            }
        }
    }
}

/// An append-only file that forgets its older half when it is full.
struct Log {
    path: PathBuf,
    file: File,
    length_bytes: u64,
}

impl Log {
    async fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .await
            .map_err(Error::io("open", path))?;
        let metadata = file.metadata().await.map_err(Error::io("look at", path))?;
        Ok(Self { path: path.to_path_buf(), file, length_bytes: metadata.len() })
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.length_bytes + bytes.len() as u64 > CONSOLE_LOG_BYTES_MAX {
            self.forget_older_half().await?;
        }
        let written = async {
            self.file.write_all(bytes).await?;
            self.file.flush().await
        };
        written.await.map_err(Error::io("write", &self.path))?;
        self.length_bytes += bytes.len() as u64;
        Ok(())
    }

    /// By replacing the file, so that a reader sees the old content or the new.
    async fn forget_older_half(&mut self) -> Result<()> {
        let content = tokio::fs::read(&self.path).await.map_err(Error::io("read", &self.path))?;
        let half = usize::try_from(CONSOLE_LOG_BYTES_MAX / 2).unwrap_or(usize::MAX);
        let newest = &content[content.len().saturating_sub(half)..];
        // Begin at a line, unless there is none.
        let begin = newest.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let fresh = self.path.with_extension("new");
        tokio::fs::write(&fresh, &newest[begin..]).await.map_err(Error::io("write", &fresh))?;
        tokio::fs::rename(&fresh, &self.path).await.map_err(Error::io("replace", &self.path))?;
        *self = Self::open(&self.path).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_log_stays_bounded_and_keeps_the_newest_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let mut log = Log::open(&path).await.unwrap();
        let mut number = 0;
        while number < 3 * CONSOLE_LOG_BYTES_MAX / 64 {
            let lines: Vec<String> = (number..number + 64).map(|n| format!("{n:063}\n")).collect();
            log.append(lines.concat().as_bytes()).await.unwrap();
            number += 64;
            let length = std::fs::metadata(&path).unwrap().len();
            assert!(length <= CONSOLE_LOG_BYTES_MAX);
            assert_eq!(length, log.length_bytes);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(*numbers.last().unwrap(), number - 1);
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        assert!(text.len() as u64 >= CONSOLE_LOG_BYTES_MAX / 2);
    }

    #[tokio::test]
    async fn a_log_that_exists_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        std::fs::write(&path, "before\n").unwrap();
        Log::open(&path).await.unwrap().append(b"after\n").await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }
}
