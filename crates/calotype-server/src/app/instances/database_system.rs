//! Database systems: instances that the administrator has marked as such, because their disks are not all that there is of
//! the database. No image is made of them, as in OCI. The mark is a system tag, which every client shows and none can set.

use calotype_api::error::ApiError;
use calotype_api::instances::Instance;
use serde::Deserialize;
use serde_json::Value;

use super::load;
use crate::app::Context;
use crate::http::{Reply, Request};

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
    let tags = &mut instance.value.resource.system_tags;
    let keys = tags.entry(NAMESPACE.to_owned()).or_default();
    if details.is_database_system {
        keys.insert(KEY.to_owned(), Value::String("true".to_owned()));
    } else {
        keys.remove(KEY);
    }
    tags.retain(|_, keys| !keys.is_empty());
    crate::app::replace(&context, instance, |record| Reply::ok(&record.resource)).await
}

/// Whether the instance is marked.
pub fn is_database_system(instance: &Instance) -> bool {
    instance.system_tags.get(NAMESPACE).is_some_and(|keys| keys.contains_key(KEY))
}
