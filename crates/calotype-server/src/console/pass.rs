//! What lets a client in: a console connection, and the one key that it was made for.

use std::sync::Weak;

use calotype_api::console_connections::ConsoleConnectionState;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use russh::keys::PublicKey;
use russh::server::Auth;

use crate::app::console_connections::ConsoleConnectionRecord;
use crate::db;
use crate::records::InstanceRecord;
use crate::region::Region;

/// An ACTIVE console connection of an instance that is there.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) connection: Ocid,
    pub(super) instance: Ocid,
    key: PublicKey,
}

impl Pass {
    /// The pass of the connection with that id, if it has that key. Nobody learns which was wrong.
    pub(super) async fn of(region: &Weak<Region>, user: &str, key: &PublicKey) -> Option<Self> {
        let region = region.upgrade()?;
        match Self::find(&region, user).await {
            Ok(pass) => pass.filter(|pass| pass.is_of(key)),
            Err(error) => {
                tracing::error!(%error, "a console connection cannot be read");
                None
            }
        }
    }

    async fn find(region: &Region, user: &str) -> Result<Option<Self>, db::Error> {
        let Some(record) = region.db.get::<ConsoleConnectionRecord>(user).await? else {
            return Ok(None);
        };
        let resource = &record.resource;
        let instance = region.db.get::<InstanceRecord>(resource.instance_id.as_str()).await?;
        let there = instance
            .is_some_and(|instance| instance.resource.lifecycle_state != InstanceState::Terminated);
        if resource.lifecycle_state != ConsoleConnectionState::Active || !there {
            return Ok(None);
        }
        // It was read when the connection was made.
        let Ok(key) = PublicKey::from_openssh(&record.public_key) else { return Ok(None) };
        let (connection, instance) = (resource.id.clone(), resource.instance_id.clone());
        Ok(Some(Self { connection, instance, key }))
    }

    /// Whether this is its key.
    pub(super) fn is_of(&self, key: &PublicKey) -> bool {
        self.key.key_data() == key.key_data()
    }
}

/// The answer to whoever shows a key.
pub(super) fn answer(is_right: bool) -> Auth {
    if is_right { Auth::Accept } else { Auth::reject() }
}
