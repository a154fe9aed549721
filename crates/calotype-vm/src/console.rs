//! The serial console: its newest output is kept, bounded, across restarts of the service, and terminals can be
//! opened on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::limits::{
    CONSOLE_INPUTS_QUEUED_MAX, CONSOLE_LOG_BYTES_MAX, CONSOLE_OUTPUTS_KEPT, RECONNECT_DELAY,
};
use crate::process::Process;

const READ_BYTES: usize = 16 << 10;

/// A running copy from the serial socket into the log. Dropping it stops the copy.
#[derive(Debug)]
pub(crate) struct Console {
    finished: watch::Receiver<bool>,
    output: broadcast::Sender<Arc<[u8]>>,
    input: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

/// A terminal on a machine's serial console.
#[derive(Debug)]
pub struct ConsoleSession {
    /// What the guest shows. Whoever is late with reading it loses the oldest.
    pub output: broadcast::Receiver<Arc<[u8]>>,
    /// Takes what is typed; waits while the guest does not.
    pub input: mpsc::Sender<Vec<u8>>,
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
        let output = broadcast::Sender::new(CONSOLE_OUTPUTS_KEPT);
        let (input, typed) = mpsc::channel(CONSOLE_INPUTS_QUEUED_MAX);
        let mut terminals = Terminals { output: output.clone(), typed };
        let task = tokio::spawn(async move {
            if let Err(error) = copy(first, &socket, &log, &process, &mut terminals).await {
                tracing::warn!(%error, log = %log.display(), "the serial console is not logged");
            }
            let _ = done.send(true);
        });
        Self { finished, output, input, task }
    }

    /// A terminal on it.
    pub(crate) fn open(&self) -> ConsoleSession {
        ConsoleSession { output: self.output.subscribe(), input: self.input.clone() }
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

/// The other end of all terminals.
struct Terminals {
    output: broadcast::Sender<Arc<[u8]>>,
    typed: mpsc::Receiver<Vec<u8>>,
}

async fn copy(
    first: Option<UnixStream>,
    socket: &Path,
    log: &Path,
    process: &Process,
    terminals: &mut Terminals,
) -> Result<()> {
    let mut log = Log::open(log).await?;
    let mut stream = first;
    loop {
        if let Some(open) = stream.take() {
            // Ends with the connection, which ends with the process.
            terminals.connect(open, &mut log).await?;
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

impl Terminals {
    /// Carries bytes both ways. The guest is listened to also while it does not take what is typed.
    async fn connect(&mut self, stream: UnixStream, log: &mut Log) -> Result<()> {
        let (mut reader, mut writer) = stream.into_split();
        let mut buffer = vec![0; READ_BYTES];
        let mut typed = Vec::new();
        loop {
            tokio::select! {
                read = reader.read(&mut buffer) => match read {
                    Ok(count @ 1..) => {
                        log.append(&buffer[..count]).await?;
                        // Nobody listens if there is no terminal.
                        let _ = self.output.send(buffer[..count].into());
                    }
                    _ => return Ok(()),
                },
                Some(more) = self.typed.recv(), if typed.is_empty() => typed = more,
                written = writer.write(&typed), if !typed.is_empty() => match written {
                    Ok(count @ 1..) => drop(typed.drain(..count)),
                    _ => return Ok(()),
                },
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
