//! QEMU's control protocol: commands, answers and events, one JSON value per line.
//!
//! One task owns the connection. It connects again when the connection breaks, for as long as the
//! process lives; commands in flight then fail, since nobody knows whether they were carried out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{
    QMP_COMMANDS_QUEUED_MAX, QMP_EVENTS_KEPT, QMP_LINE_BYTES_MAX, QMP_TIMEOUT, RECONNECT_DELAY,
    START_POLL,
};
use crate::process::Process;

/// Something that QEMU reports by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `SHUTDOWN`, `POWERDOWN`, `RESET`, `STOP`, `RESUME`, `BLOCK_IO_ERROR`, ….
    pub name: String,
    /// What comes with it.
    pub data: Value,
}

/// The control of one QEMU. Dropping it closes the connection and leaves the process alone.
#[derive(Debug)]
pub(crate) struct Qmp {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    task: JoinHandle<()>,
}

struct Command {
    name: &'static str,
    arguments: Value,
    reply: oneshot::Sender<Result<Value>>,
}

impl Qmp {
    pub(crate) fn new(socket: PathBuf, process: Arc<Process>) -> Self {
        let (commands, queue) = mpsc::channel(QMP_COMMANDS_QUEUED_MAX);
        let (events, _) = broadcast::channel(QMP_EVENTS_KEPT);
        let task = tokio::spawn(run(socket, process, queue, events.clone()));
        Self { commands, events, task }
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Carries out one command; waits for a connection when there is none yet.
    pub(crate) async fn execute(&self, name: &'static str, arguments: Value) -> Result<Value> {
        self.execute_within(QMP_TIMEOUT, name, arguments).await
    }

    pub(crate) async fn execute_within(
        &self,
        timeout: Duration,
        name: &'static str,
        arguments: Value,
    ) -> Result<Value> {
        let (reply, answer) = oneshot::channel();
        let work = async {
            let command = Command { name, arguments, reply };
            self.commands.send(command).await.map_err(|_| gone(name))?;
            answer.await.map_err(|_| gone(name))?
        };
        tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
            let seconds = timeout.as_secs();
            Err(Error::new(
                ErrorKind::TimedOut,
                format!("QEMU did not answer {name} in {seconds} s"),
            ))
        })
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn gone(name: &str) -> Error {
    Error::new(ErrorKind::NotRunning, format!("cannot {name}: the QEMU process is gone"))
}

fn violation(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("QEMU's control socket: {what}"))
}

async fn run(
    socket: PathBuf,
    process: Arc<Process>,
    mut queue: mpsc::Receiver<Command>,
    events: broadcast::Sender<Event>,
) {
    let serve = async {
        let mut delay = START_POLL;
        loop {
            match Session::open(&socket).await {
                Ok(mut session) => {
                    delay = START_POLL;
                    let error = session.serve(&mut queue, &events).await;
                    tracing::debug!(%error, socket = %socket.display(), "QMP connection closed");
                }
                Err(error) => {
                    tracing::trace!(%error, socket = %socket.display(), "QMP not reachable");
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RECONNECT_DELAY);
        }
    };
    tokio::select! {
        () = serve => {}
        () = process.exited() => {}
    }
    // Dropping the queue and the session drops every reply channel, which callers see as `gone`.
}

/// One connection, past its greeting.
struct Session {
    lines: Lines,
    writer: OwnedWriteHalf,
    pending: HashMap<u64, (&'static str, oneshot::Sender<Result<Value>>)>,
    next_id: u64,
}

impl Session {
    async fn open(socket: &Path) -> Result<Self> {
        let negotiate = async {
            let stream = UnixStream::connect(socket).await.map_err(Error::io("reach", socket))?;
            let (reader, writer) = stream.into_split();
            let mut session = Self {
                lines: Lines { reader: BufReader::new(reader), line: Vec::new() },
                writer,
                pending: HashMap::new(),
                next_id: 0,
            };
            let greeting = session.lines.next().await?;
            if greeting.get("QMP").is_none() {
                return Err(violation("no greeting"));
            }
            session.send("qmp_capabilities", json!({}), 0).await?;
            let answer = session.lines.next().await?;
            if answer.get("return").is_none() {
                return Err(violation("capabilities were refused"));
            }
            Ok(session)
        };
        // A QEMU that is starting listens before it answers; the caller tries again.
        tokio::time::timeout(QMP_TIMEOUT, negotiate)
            .await
            .unwrap_or_else(|_| Err(violation("no greeting in time")))
    }

    async fn send(&mut self, name: &str, arguments: Value, id: u64) -> Result<()> {
        let mut line = json!({ "execute": name, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        self.writer.write_all(line.as_bytes()).await.map_err(|error| {
            Error::because(ErrorKind::Protocol, format!("cannot send {name} to QEMU"), error)
        })
    }

    /// Returns why the connection ended.
    async fn serve(
        &mut self,
        queue: &mut mpsc::Receiver<Command>,
        events: &broadcast::Sender<Event>,
    ) -> Error {
        let error = loop {
            // Both branches are safe to cancel: a line in pieces stays in `lines`.
            let step = tokio::select! {
                command = queue.recv() => match command {
                    Some(command) => self.begin(command).await,
                    None => Err(violation("nobody holds it any more")),
                },
                message = self.lines.next() => message.map(|value| self.take(value, events)),
            };
            if let Err(error) = step {
                break error;
            }
        };
        for (_, (name, reply)) in self.pending.drain() {
            let _ = reply.send(Err(violation(&format!("closed during {name}"))));
        }
        error
    }

    async fn begin(&mut self, command: Command) -> Result<()> {
        if command.reply.is_closed() {
            // Its caller gave up while there was no connection, and must not be obeyed late.
            return Ok(());
        }
        self.next_id += 1;
        let id = self.next_id;
        self.pending.insert(id, (command.name, command.reply));
        self.send(command.name, command.arguments, id).await
    }

    fn take(&mut self, mut message: Value, events: &broadcast::Sender<Event>) {
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let event = Event { name: name.to_owned(), data: message["data"].take() };
            // No subscriber is no error.
            let _ = events.send(event);
            return;
        }
        let Some(id) = message.get("id").and_then(Value::as_u64) else { return };
        let Some((name, reply)) = self.pending.remove(&id) else { return };
        let answer = message.get_mut("return").map(Value::take).ok_or_else(|| {
            let reason = message["error"]["desc"].as_str().unwrap_or("no reason given");
            Error::new(ErrorKind::Refused, format!("QEMU refused {name}: {reason}"))
        });
        // The caller may have given up.
        let _ = reply.send(answer);
    }
}

/// Reads values, a line each, of bounded length.
struct Lines {
    reader: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Lines {
    /// Safe to cancel.
    async fn next(&mut self) -> Result<Value> {
        loop {
            let available = self.reader.fill_buf().await.map_err(|error| {
                Error::because(ErrorKind::Protocol, "cannot read QEMU's control socket", error)
            })?;
            if available.is_empty() {
                return Err(violation("closed by QEMU"));
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            self.line.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if self.line.len() > QMP_LINE_BYTES_MAX {
                return Err(violation("a line is too long"));
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                return serde_json::from_slice(&line)
                    .map_err(|error| Error::because(ErrorKind::Protocol, "not JSON", error));
            }
        }
    }
}

#[cfg(test)]
mod tests;
