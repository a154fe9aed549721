//! The process that guards a freeze: it freezes a guest's filesystems, and whatever happens to
//! whoever wanted it, it thaws them. See [`crate::freeze`] for the whole.
//!
//! It ends when the agent has confirmed the thaw, or QEMU is gone. `kill -9` is all that stops it,
//! and then whoever started it sees its pipe close.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::agent::{Agent, read_line, thaw_for_certain};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::{Mark, Order, Report, THAW};
use crate::limits::{GUARD_LINE_BYTES_MAX, GUARD_TIMEOUT, MARK_INTERVAL, MARK_WAIT_MAX};

/// Guards one freeze: takes its order from standard input and reports on standard output. For a
/// program of which [`crate::HypervisorConfig::freeze_guard`] is the command line.
///
/// # Errors
/// When there is no order that can be followed; nothing is frozen then.
pub async fn run() -> Result<()> {
    let pipe = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(pipe::Receiver::from_owned_fd)
        .map_err(|error| Error::because(ErrorKind::Io, "standard input is no pipe", error))?;
    let mut input = BufReader::new(pipe);
    let order = tokio::time::timeout(GUARD_TIMEOUT, read_line(&mut input, GUARD_LINE_BYTES_MAX));
    let order = order.await.map_err(|_| Error::new(ErrorKind::TimedOut, "no order came"))??;
    let order: Order = serde_json::from_slice(&order)
        .map_err(|error| Error::because(ErrorKind::Protocol, "no order", error))?;
    // The end of whoever's session this was is not ours. An error: it is our own already.
    let _ = rustix::process::setsid();
    let mut orders = Orders::new(input)?;
    guard(&order, &mut orders, report).await
}

/// Standard output may be closed: then the service is gone, and standard input says so too.
fn report(report: &Report) {
    if let Ok(line) = serde_json::to_string(report) {
        let mut output = std::io::stdout().lock();
        let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    }
}

/// What may end a freeze.
struct Orders {
    input: BufReader<pipe::Receiver>,
    signals: [Signal; 3],
}

impl Orders {
    fn new(input: BufReader<pipe::Receiver>) -> Result<Self> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Error::because(ErrorKind::Io, "cannot listen for signals", error))
        };
        let signals = [
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self { input, signals })
    }

    /// `true` when it was the word to thaw.
    async fn end(&mut self) -> bool {
        let [terminate, interrupt, hangup] = &mut self.signals;
        tokio::select! {
            line = read_line(&mut self.input, GUARD_LINE_BYTES_MAX) => {
                line.is_ok_and(|line| line == THAW.as_bytes())
            }
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
            _ = hangup.recv() => false,
        }
    }
}

/// Who thaws what an earlier guard has left holds the mark for a moment.
async fn take(mark: &Path) -> Result<Option<Mark>> {
    let begin = Instant::now();
    loop {
        match Mark::take(mark)? {
            None if begin.elapsed() < MARK_WAIT_MAX => tokio::time::sleep(MARK_INTERVAL).await,
            taken => return Ok(taken),
        }
    }
}

async fn guard(order: &Order, orders: &mut Orders, mut say: impl FnMut(&Report)) -> Result<()> {
    let refused = |agent_answers: bool, why: String| Report::Refused { agent_answers, why };
    let Some(mark) = take(&order.mark).await? else {
        say(&refused(true, "the guest is being frozen already".into()));
        return Ok(());
    };
    let mut agent = match greet(order).await {
        Ok(agent) => agent,
        Err(error) => {
            say(&refused(false, error.to_string()));
            return Ok(());
        }
    };
    match agent.is_frozen().await {
        Ok(false) => {}
        Ok(true) => {
            say(&refused(true, "its filesystems are frozen already".into()));
            return Ok(());
        }
        Err(error) => {
            say(&refused(true, error.to_string()));
            return Ok(());
        }
    }
    mark.set().map_err(Error::io("write", &order.mark))?;
    let limit = Duration::from_millis(order.frozen_max_ms);
    let begin = Instant::now();
    let deadline = begin + limit;
    let frozen = tokio::select! {
        frozen = agent.freeze(limit) => frozen,
        _ = orders.end() => Err(Error::new(ErrorKind::NotFrozen, "it was called off")),
    };
    let last = match frozen {
        Ok(filesystems) => {
            let after_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            mark.set_frozen();
            say(&Report::Frozen { filesystems, after_ms });
            let in_time = tokio::time::timeout_at(deadline, orders.end()).await.unwrap_or(false);
            Report::Thawed { in_time }
        }
        Err(error) => refused(true, error.to_string()),
    };
    thaw_for_certain(&order.socket, Some(agent)).await;
    mark.clear();
    say(&last);
    Ok(())
}

/// A conversation with the agent, which is there and listens.
async fn greet(order: &Order) -> Result<Agent> {
    let connected = Agent::connect(&order.socket).await;
    let mut agent = connected.map_err(Error::io("reach", &order.socket))?;
    agent.synchronize().await?;
    Ok(agent)
}
