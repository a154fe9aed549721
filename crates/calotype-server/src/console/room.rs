//! The inner door, behind which an instance's serial console and screen are.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::CHANNELS_MAX;
use super::pass::{Pass, answer};
use super::serial;
use super::tasks::Tasks;
use crate::region::Region;

/// The port of the screen.
const VNC_PORT: u32 = 5900;

/// Names of the instance as seen from the room.
const LOCAL_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

pub(super) struct Room {
    region: Weak<Region>,
    pass: Pass,
    channels: Arc<Semaphore>,
    /// Sessions that have not asked for the console yet.
    waiting: HashMap<ChannelId, (Channel<Msg>, OwnedSemaphorePermit)>,
    tasks: Tasks,
}

impl Room {
    pub(super) fn new(region: Weak<Region>, pass: Pass) -> Self {
        let channels = Arc::new(Semaphore::new(CHANNELS_MAX));
        Self { region, pass, channels, waiting: HashMap::new(), tasks: Tasks::default() }
    }

    /// Where QEMU shows the screen, if the guest runs.
    async fn screen(&self) -> Option<UnixStream> {
        let machine = self.region.upgrade()?.guests.machine(&self.pass.instance)?;
        match UnixStream::connect(machine.vnc_socket()).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                let instance = &self.pass.instance;
                tracing::warn!(%error, %instance, "the guest has no screen: start it anew");
                None
            }
        }
    }
}

impl Handler for Room {
    type Error = russh::Error;

    // The user name is whatever the caller is called at home.

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(answer(self.pass.is_of(offer.public_key)))
    }

    async fn auth_publickey(
        &mut self,
        _user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(answer(self.pass.is_of(key.public_key)))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Ok(place) = Arc::clone(&self.channels).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        self.waiting.insert(channel.id(), (channel, place));
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _terminal: &str,
        _columns: u32,
        _rows: u32,
        _width_pixels: u32,
        _height_pixels: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // The terminal is at the other end of the serial line.
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((channel, place)) = self.waiting.remove(&channel) else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel.id())?;
        let (region, instance) = (self.region.clone(), self.pass.instance.clone());
        self.tasks.spawn(async move {
            let mut stream = channel.into_stream();
            // An error means that the client is gone.
            let _ = serial::attend(&region, &instance, &mut stream).await;
            drop(place);
        });
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // There is a console, and nobody to run commands.
        session.channel_failure(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.waiting.remove(&channel);
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let is_here = host == self.pass.instance.as_str() || LOCAL_NAMES.contains(&host);
        if !is_here || port != VNC_PORT {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        let Ok(place) = Arc::clone(&self.channels).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let Some(mut screen) = self.screen().await else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        reply.accept().await;
        self.tasks.spawn(async move {
            let mut stream = channel.into_stream();
            // Either end may go at any time.
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut screen).await;
            drop(place);
        });
        Ok(())
    }
}
