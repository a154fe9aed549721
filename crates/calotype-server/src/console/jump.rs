//! The outer door: a client with the key of a console connection is led to its instance's room.

use std::sync::{Arc, Weak};

use calotype_api::ocid::Ocid;
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelOpenFailure};
use tokio::sync::{Semaphore, watch};

use super::limits::CHANNELS_MAX;
use super::pass::{Pass, answer};
use super::room::Room;
use super::tasks::Tasks;
use crate::region::Region;

pub(super) struct Jump {
    region: Weak<Region>,
    config: Arc<Config>,
    /// Told the console connection as soon as its key was shown.
    entered: watch::Sender<Option<Ocid>>,
    pass: Option<Pass>,
    channels: Arc<Semaphore>,
    tasks: Tasks,
}

impl Jump {
    pub(super) fn new(
        region: Weak<Region>,
        config: Arc<Config>,
        entered: watch::Sender<Option<Ocid>>,
    ) -> Self {
        let channels = Arc::new(Semaphore::new(CHANNELS_MAX));
        Self { region, config, entered, pass: None, channels, tasks: Tasks::default() }
    }
}

impl Handler for Jump {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(answer(Pass::of(&self.region, user, offer.public_key).await.is_some()))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        self.pass = Pass::of(&self.region, user, key.public_key).await;
        if let Some(pass) = &self.pass {
            self.entered.send_replace(Some(pass.connection.clone()));
        }
        Ok(answer(self.pass.is_some()))
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let pass = self.pass.clone().filter(|pass| pass.instance.as_str() == host);
        let Some(pass) = pass else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        let Ok(place) = Arc::clone(&self.channels).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        reply.accept().await;
        let (config, room) = (Arc::clone(&self.config), Room::new(self.region.clone(), pass));
        self.tasks.spawn(async move {
            let ended = async {
                russh::server::run_stream(config, channel.into_stream(), room).await?.await
            };
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a room was left with an error");
            }
            drop(place);
        });
        Ok(())
    }
}
