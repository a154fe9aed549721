//! Database systems: instances that the administrator has marked as such, because their disks are not all that there is of
//! the database. No image is made of them, as in OCI. The mark is a system tag, which every client shows and none can set; their
//! boot volumes have it, too, and keep it in other instances.

use calotype_api::error::ApiError;
use calotype_api::tags::DefinedTags;
use serde::Deserialize;
use serde_json::Value;

use super::load;
use crate::app::Context;
use crate::db::Batch;
use crate::http::{Reply, Request};
use crate::records::BootVolumeRecord;

/// Namespace and key of the mark.
const NAMESPACE: &str = "calotype";
const KEY: &str = "database-system";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MarkDetails {
    is_database_system: bool,
}

/// `MarkDatabaseSystem`: sets the mark, or takes it off.
pub async fn mark_database_system(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: MarkDetails = request.json()?;
    let mut instance = load(&context, &request.path("instanceId")?).await?;
    request.check_etag(&instance.etag())?;
    mark(&mut instance.value.resource.system_tags, details.is_database_system);
    let mut batch = Batch::new();
    if !instance.boot_volume_detached {
        let volume = &instance.boot_volume_id;
        let mut volume = crate::app::load::<BootVolumeRecord>(&context, volume).await?;
        mark(&mut volume.value.resource.system_tags, details.is_database_system);
        batch = batch.replace(&volume);
    }
    let reply = Reply::ok(&instance.resource)?.etag(instance.next_etag());
    context.commit(batch.replace(&instance), reply).await
}

fn mark(tags: &mut DefinedTags, is_database_system: bool) {
    let keys = tags.entry(NAMESPACE.to_owned()).or_default();
    if is_database_system {
        keys.insert(KEY.to_owned(), Value::String("true".to_owned()));
    } else {
        keys.remove(KEY);
    }
    tags.retain(|_, keys| !keys.is_empty());
}

/// Whether what has these system tags is marked.
pub fn is_database_system(system_tags: &DefinedTags) -> bool {
    system_tags.get(NAMESPACE).is_some_and(|keys| keys.contains_key(KEY))
}
