//! Instance console connections: a key that may reach an instance's serial console and screen over SSH.
//! The sessions themselves are in [`crate::console`].

use calotype_api::console_connections::{
    ConsoleConnectionState, CreateInstanceConsoleConnectionDetails, InstanceConsoleConnection,
    UpdateInstanceConsoleConnectionDetails,
};
use calotype_api::error::ApiError;
use calotype_api::instances::InstanceState;
use calotype_api::ocid::Ocid;
use jiff::Timestamp;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey};
use serde::{Deserialize, Serialize};

use super::{Context, identity, instances, tags};
use crate::config::Config;
use crate::db::{self, Batch, Document, Query, Versioned};
use crate::http::{Reply, Request};
use crate::region::Region;

/// Characters of a public key: those of 16,384 bits have 2,800.
const PUBLIC_KEY_LENGTH_MAX: usize = 8 * 1024;
/// Bits of an RSA key.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=16_384;
/// Connections that an instance can have at once.
const CONNECTIONS_MAX: u64 = 8;

/// A console connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsoleConnectionRecord {
    /// The connection as clients see it.
    pub resource: InstanceConsoleConnection,
    /// The key that may connect, as OpenSSH writes it.
    pub public_key: String,
    /// When it was made.
    pub time_created: Timestamp,
    /// When it was deleted.
    pub time_deleted: Option<Timestamp>,
}

impl Document for ConsoleConnectionRecord {
    const KIND: &'static str = "console_connection";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.resource.instance_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn state(&self) -> Option<String> {
        Some(self.resource.lifecycle_state.as_str().to_owned())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

/// `CreateInstanceConsoleConnection`: ACTIVE at once, for an instance that runs or does not.
pub async fn create(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CreateInstanceConsoleConnectionDetails = request.json()?;
    let key = rsa_key(&details.public_key)?;
    let instance = instances::load(&context, &details.instance_id).await?;
    if matches!(
        instance.resource.lifecycle_state,
        InstanceState::Terminating | InstanceState::Terminated
    ) {
        return Err(ApiError::not_authorized_or_not_found());
    }
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags);
    let compartment = &instance.resource.compartment_id;
    let defined_tags = tags::on_create(&context, compartment, freeform, defined).await?;
    let id = context.region.new_id("instanceconsoleconnection");
    let (serial, screen) = commands(&context.region.config, &id, &details.instance_id);
    let record = Versioned::first(ConsoleConnectionRecord {
        resource: InstanceConsoleConnection {
            id,
            compartment_id: instance.resource.compartment_id.clone(),
            connection_string: serial,
            defined_tags,
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            freeform_tags: details.freeform_tags.unwrap_or_default(),
            instance_id: details.instance_id,
            lifecycle_state: ConsoleConnectionState::Active,
            service_host_key_fingerprint: context.region.consoles.host_key_fingerprint(),
            vnc_connection_string: screen,
        },
        public_key: key.to_openssh().map_err(|_| ApiError::internal())?,
        time_created: context.now,
        time_deleted: None,
    });
    check_count(&context, &record.resource.instance_id).await?;
    let reply = Reply::ok(&record.resource)?.etag(record.etag());
    context.commit(Batch::new().require(&instance).create(&record), reply).await
}

/// A key that consoles can be opened with.
fn rsa_key(text: &str) -> Result<PublicKey, ApiError> {
    let wrong = |what: String| ApiError::invalid_parameter("publicKey", what);
    if text.len() > PUBLIC_KEY_LENGTH_MAX {
        let length = text.len();
        return Err(wrong(format!(
            "has {length} characters; the limit is {PUBLIC_KEY_LENGTH_MAX}"
        )));
    }
    // Of a file with several keys the first counts, as in OCI.
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let key = PublicKey::from_openssh(first)
        .map_err(|error| wrong(format!("is no public key in OpenSSH's form: {error}")))?;
    let KeyData::Rsa(rsa) = key.key_data() else {
        let kind = key.algorithm();
        return Err(wrong(format!("is of the kind {kind}, but must be an RSA key (ssh-rsa)")));
    };
    let bits = rsa.key_size();
    if !RSA_BITS.contains(&bits) {
        let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
        return Err(wrong(format!("has {bits} bits, but must have from {least} to {most}")));
    }
    Ok(key)
}

async fn check_count(context: &Context, instance: &Ocid) -> Result<(), ApiError> {
    let active = Query::new()
        .parent(instance.to_string())
        .state(ConsoleConnectionState::Active.as_str().to_owned());
    let there = context.region.db.count::<ConsoleConnectionRecord>(&active).await?;
    if there < CONNECTIONS_MAX {
        return Ok(());
    }
    Err(ApiError::limit_exceeded(format!(
        "instance {instance} has {there} console connections, which is the limit: delete one"
    )))
}

/// The commands that open the serial console and the screen.
fn commands(config: &Config, connection: &Ocid, instance: &Ocid) -> (String, String) {
    let (host, port) = (config.console_host(), config.console_port());
    let proxy = format!("ssh -o ProxyCommand='ssh -W %h:%p -p {port} {connection}@{host}'");
    let serial = format!("{proxy} {instance}");
    let screen = format!("{proxy} -N -L localhost:5900:{instance}:5900 {instance}");
    (serial, screen)
}

/// `GetInstanceConsoleConnection`. A deleted one is still answered for a while, as DELETED. The published
/// answer has no etag: it comes with what is made and changed.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let record = load(&context, &request).await?;
    Reply::ok(&record.resource)
}

/// `ListInstanceConsoleConnections`.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let instance = request.query::<Ocid>("instanceId")?;
    super::list(&context, &request, &compartment, |record: &ConsoleConnectionRecord| {
        let wanted = record.resource.lifecycle_state != ConsoleConnectionState::Deleted
            && instance.as_ref().is_none_or(|id| *id == record.resource.instance_id);
        wanted.then(|| record.resource.clone())
    })
    .await
}

/// `UpdateInstanceConsoleConnection`: tags.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateInstanceConsoleConnectionDetails = request.json()?;
    let mut record = load_active(&context, &request).await?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(
        &context,
        (&record.resource.freeform_tags, &record.resource.defined_tags),
        freeform,
        defined,
    )
    .await?;
    if let Some(tags) = details.freeform_tags {
        record.value.resource.freeform_tags = tags;
    }
    if let Some(tags) = details.defined_tags {
        record.value.resource.defined_tags = tags;
    }
    super::replace(&context, record, |record| Reply::ok(&record.resource)).await
}

/// `DeleteInstanceConsoleConnection`: its sessions end at once.
pub async fn delete(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut record = load_active(&context, &request).await?;
    record.value.resource.lifecycle_state = ConsoleConnectionState::Deleted;
    record.value.time_deleted = Some(context.now);
    let id = record.resource.id.clone();
    let reply = context.commit(Batch::new().replace(&record), Reply::no_content()).await?;
    context.region.consoles.close(&id);
    Ok(reply)
}

/// Deletes all connections of an instance that ends. Idempotent.
pub async fn end_all(region: &Region, instance: &Ocid, now: Timestamp) -> Result<(), db::Error> {
    let active =
        Query::new().parent(instance.as_str()).state(ConsoleConnectionState::Active.as_str());
    for mut record in region.db.list_all::<ConsoleConnectionRecord>(active).await? {
        record.value.resource.lifecycle_state = ConsoleConnectionState::Deleted;
        record.value.time_deleted = Some(now);
        region.db.apply(Batch::new().replace(&record)).await?;
        region.consoles.close(&record.resource.id);
    }
    Ok(())
}

async fn load(
    context: &Context,
    request: &Request,
) -> Result<Versioned<ConsoleConnectionRecord>, ApiError> {
    super::load(context, &request.path("instanceConsoleConnectionId")?).await
}

async fn load_active(
    context: &Context,
    request: &Request,
) -> Result<Versioned<ConsoleConnectionRecord>, ApiError> {
    let record = load(context, request).await?;
    request.check_etag(&record.etag())?;
    if record.resource.lifecycle_state != ConsoleConnectionState::Active {
        return Err(ApiError::not_authorized_or_not_found());
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti me";

    #[test]
    fn a_key_that_is_not_rsa_is_refused_by_its_kind() {
        let refused = rsa_key(ED25519).unwrap_err();
        assert!(refused.message.contains("ssh-ed25519"), "{}", refused.message);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(rsa_key("ssh-rsa").is_err());
        assert!(rsa_key("ssh-rsa AAAA me").is_err());
        let refused = rsa_key(&"a".repeat(PUBLIC_KEY_LENGTH_MAX + 1)).unwrap_err();
        assert!(refused.message.contains("the limit is 8192"), "{}", refused.message);
    }
}
