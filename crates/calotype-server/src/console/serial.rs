//! A terminal on an instance's serial line, through every restart of its guest.

use std::io;
use std::sync::Weak;

use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use calotype_vm::{ConsoleSession, Machine};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::limits::{GUEST_INTERVAL, TYPED_BYTES};
use crate::records::InstanceRecord;
use crate::region::Region;

/// Why a terminal left a guest.
enum Left {
    /// The client has gone.
    Client,
    /// The guest is off.
    Guest,
}

/// Carries what the guest shows to the client and what the client types to the guest, until the client
/// goes or the instance is terminated.
pub(super) async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
    region: &Weak<Region>,
    instance: &Ocid,
    stream: &mut S,
) -> io::Result<()> {
    let mut told = false;
    while let Some(machine) = next_guest(region, instance).await {
        let Some(machine) = machine else {
            if !std::mem::replace(&mut told, true) {
                stream.write_all(b"\r\n[the instance is off; waiting for it]\r\n").await?;
            }
            if is_left_within(stream).await {
                return Ok(());
            }
            continue;
        };
        told = false;
        let session = machine.open_console();
        if let Left::Client = relay(&machine, session, stream).await? {
            return Ok(());
        }
    }
    stream.write_all(b"\r\n[the instance is terminated]\r\n").await?;
    stream.shutdown().await
}

/// The running guest, if there is one; nothing at all if there will never be one again.
async fn next_guest(region: &Weak<Region>, instance: &Ocid) -> Option<Option<Machine>> {
    let region = region.upgrade()?;
    if let Some(machine) = region.guests.machine(instance) {
        return Some(Some(machine));
    }
    // A catalog that cannot be read now is asked again.
    let Ok(record) = region.db.get::<InstanceRecord>(instance.as_str()).await else {
        return Some(None);
    };
    let state = record?.value.resource.lifecycle_state;
    (state != InstanceState::Terminated).then_some(None)
}

/// Waits a moment; whether the client goes meanwhile. What it types while nobody listens is lost.
async fn is_left_within<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    let mut typed = [0; TYPED_BYTES];
    let reading = async { while stream.read(&mut typed).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(GUEST_INTERVAL, reading).await.is_ok()
}

async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    machine: &Machine,
    session: ConsoleSession,
    stream: &mut S,
) -> io::Result<Left> {
    let ConsoleSession { mut output, input } = session;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let typing = async {
        let mut typed = vec![0; TYPED_BYTES];
        loop {
            match reader.read(&mut typed).await? {
                0 => return Ok(Left::Client),
                // A guest that does not listen stops the client; one that is gone is seen below.
                count => drop(input.send(typed[..count].to_vec()).await),
            }
        }
    };
    let showing = async {
        loop {
            let shown = tokio::select! {
                biased;
                shown = output.recv() => shown,
                () = machine.exited() => break,
            };
            match shown {
                Ok(bytes) => writer.write_all(&bytes).await?,
                Err(RecvError::Lagged(_)) => writer.write_all(b"\r\n[output was lost]\r\n").await?,
                Err(RecvError::Closed) => return Ok(Left::Guest),
            }
            writer.flush().await?;
        }
        // Its last words.
        loop {
            match output.try_recv() {
                Ok(bytes) => writer.write_all(&bytes).await?,
                Err(TryRecvError::Lagged(_)) => {}
                Err(_) => return Ok(Left::Guest),
            }
        }
    };
    tokio::select! {
        left = typing => left,
        left = showing => left,
    }
}
