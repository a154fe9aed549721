//! The agent in the guest (QEMU's `qemu-ga`), asked through a channel of the machine.
//!
//! Whatever comes from there was written by the guest, hence perhaps by an attacker: every line is
//! bounded, every answer has a deadline, and what was left of an earlier conversation is skipped by
//! asking for a number that only this one knows.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{AGENT_LINE_BYTES_MAX, AGENT_STALE_BYTES_MAX, AGENT_TIMEOUT, THAW_RETRY_DELAY};

/// No part of UTF-8 and so of no JSON: ends whatever half a request or answer stands before it.
const DELIMITER: u8 = 0xff;

/// A conversation with the agent. QEMU has one at a time; others wait for its end.
#[derive(Debug)]
pub(crate) struct Agent {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    number: u32,
}

/// Whether an error means that QEMU itself is gone and no guest of it is left.
pub(crate) fn nobody_listens(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), ConnectionRefused | NotFound)
}

impl Agent {
    /// Reaches the channel; says nothing of whether an agent is at its other end.
    pub(crate) async fn connect(socket: &Path) -> std::io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let number = clock.subsec_nanos() ^ std::process::id();
        Ok(Self { reader: BufReader::new(reader), writer, number })
    }

    /// Waits until the agent is listening and whatever it was asked before is answered.
    pub(crate) async fn synchronize(&mut self) -> Result<()> {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        let work = async {
            let request =
                json!({ "execute": "guest-sync-delimited", "arguments": { "id": number } });
            self.send(&request, true).await?;
            let mut skipped = 0;
            loop {
                let line = read_line(&mut self.reader, AGENT_LINE_BYTES_MAX).await?;
                skipped += line.len();
                if skipped > AGENT_STALE_BYTES_MAX {
                    return Err(violation("too much came before the first answer"));
                }
                let answer = line.rsplit(|byte| *byte == DELIMITER).next().unwrap_or_default();
                let answer = serde_json::from_slice::<Value>(answer).unwrap_or_default();
                if answer["return"] == number {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(AGENT_TIMEOUT, work).await.unwrap_or_else(|_| Err(silent()))
    }

    /// Freezes the filesystems; their number.
    pub(crate) async fn freeze(&mut self, timeout: Duration) -> Result<u64> {
        let frozen = self.execute("guest-fsfreeze-freeze", timeout).await?;
        frozen.as_u64().ok_or_else(|| violation("no number of frozen filesystems"))
    }

    /// Thaws what is frozen, and asks again whether it is so.
    pub(crate) async fn thaw(&mut self) -> Result<()> {
        self.execute("guest-fsfreeze-thaw", AGENT_TIMEOUT).await?;
        if self.is_frozen().await? { Err(violation("frozen after it thawed")) } else { Ok(()) }
    }

    /// Whether the agent has frozen filesystems.
    pub(crate) async fn is_frozen(&mut self) -> Result<bool> {
        let status = self.execute("guest-fsfreeze-status", AGENT_TIMEOUT).await?;
        match status.as_str() {
            Some("thawed") => Ok(false),
            Some("frozen") => Ok(true),
            _ => Err(violation("neither frozen nor thawed")),
        }
    }

    async fn execute(&mut self, command: &str, timeout: Duration) -> Result<Value> {
        let work = async {
            self.send(&json!({ "execute": command }), false).await?;
            let line = read_line(&mut self.reader, AGENT_LINE_BYTES_MAX).await?;
            let mut answer: Value = serde_json::from_slice(&line)
                .map_err(|error| Error::because(ErrorKind::Protocol, "not JSON", error))?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            let reason = answer["error"]["desc"].as_str().unwrap_or("no reason given");
            Err(Error::new(ErrorKind::Refused, format!("{command}: {}", bounded(reason))))
        };
        tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn send(&mut self, request: &Value, delimited: bool) -> Result<()> {
        let mut line = if delimited { vec![DELIMITER] } else { Vec::new() };
        line.extend_from_slice(request.to_string().as_bytes());
        line.push(b'\n');
        self.writer.write_all(&line).await.map_err(|error| {
            Error::because(ErrorKind::Protocol, "cannot write to the agent's channel", error)
        })
    }
}

fn silent() -> Error {
    Error::new(ErrorKind::TimedOut, "the agent in the guest does not answer")
}

fn violation(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the agent in the guest: {what}"))
}

/// What a guest says is shown to people, in part and without control characters.
fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// One line without its end.
pub(crate) async fn read_line(
    reader: &mut BufReader<impl AsyncRead + Unpin>,
    bytes_max: usize,
) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf().await.map_err(|error| {
            Error::because(ErrorKind::Protocol, "cannot read from a channel", error)
        })?;
        if available.is_empty() {
            return Err(Error::new(ErrorKind::NotRunning, "the other end of a channel is gone"));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > bytes_max {
            return Err(Error::new(ErrorKind::Protocol, "a line is too long"));
        }
        line.extend_from_slice(&available[..taken]);
        reader.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// Thaws until the agent confirms it, however often that takes; `agent` is a conversation that was
/// begun. Gives up when QEMU is gone, and its guest with it.
pub(crate) async fn thaw_for_certain(socket: &Path, mut agent: Option<Agent>) {
    let mut failures = 0_u64;
    loop {
        if agent.is_none() {
            match Agent::connect(socket).await {
                Ok(connected) => agent = Some(connected),
                Err(error) if nobody_listens(&error) => return,
                Err(error) => tracing::warn!(%error, "cannot reach the agent's channel"),
            }
        }
        if let Some(agent) = &mut agent {
            let thawed = async {
                // Also waits for the end of a freeze that was given up.
                agent.synchronize().await?;
                agent.thaw().await
            };
            match thawed.await {
                Ok(()) => return,
                Err(error) if failures.is_multiple_of(64) => {
                    tracing::warn!(%error, "the guest is not thawed yet");
                }
                Err(_) => {}
            }
        }
        failures += 1;
        // A new conversation: the old one may have been cut in the middle of an answer.
        agent = None;
        tokio::time::sleep(THAW_RETRY_DELAY).await;
    }
}
