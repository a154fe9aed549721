//! Work requests: how clients follow what takes long.

use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::WorkRequestSummary;
use serde::Serialize;

use super::{Context, identity};
use crate::http::{Reply, Request};
use crate::jobs::WorkRequestRecord;

/// `GetWorkRequest`.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let record = load(&context, &request).await?;
    Reply::ok(&record.resource)
}

/// `ListWorkRequests`, newest first, optionally those of one resource. Identity's own are among them.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    list_touching(&context, &request, "resourceId").await
}

/// `ListWorkRequests` of identity. Without a resource it cannot be told from the other, which shows these as well.
pub async fn list_of_identity(context: Context, request: Request) -> Result<Reply, ApiError> {
    list_touching(&context, &request, "resourceIdentifier").await
}

async fn list_touching(
    context: &Context,
    request: &Request,
    parameter: &'static str,
) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(context, &compartment).await?;
    let resource = request.query::<Ocid>(parameter)?;
    super::list(context, request, &compartment, |record: &WorkRequestRecord| {
        let touches = |id: &Ocid| record.resource.resources.iter().any(|one| one.identifier == *id);
        resource.as_ref().is_none_or(touches).then(|| summary(record))
    })
    .await
}

fn summary(record: &WorkRequestRecord) -> WorkRequestSummary {
    let request = record.resource.clone();
    WorkRequestSummary {
        id: request.id,
        compartment_id: request.compartment_id,
        operation_type: request.operation_type,
        percent_complete: request.percent_complete,
        status: request.status,
        time_accepted: request.time_accepted,
        time_finished: request.time_finished,
        time_started: request.time_started,
    }
}

/// `ListWorkRequestLogs`.
pub async fn list_logs(context: Context, request: Request) -> Result<Reply, ApiError> {
    let record = load(&context, &request).await?;
    in_order(&request, record.value.logs)
}

/// `ListWorkRequestErrors`.
pub async fn list_errors(context: Context, request: Request) -> Result<Reply, ApiError> {
    let record = load(&context, &request).await?;
    in_order(&request, record.value.errors)
}

/// Entries oldest first, unless the request wants them the other way round.
fn in_order<T: Serialize>(request: &Request, mut entries: Vec<T>) -> Result<Reply, ApiError> {
    if request.query::<String>("sortOrder")?.as_deref() == Some("DESC") {
        entries.reverse();
    }
    super::page_of(request, &entries)
}

async fn load(
    context: &Context,
    request: &Request,
) -> Result<crate::db::Versioned<WorkRequestRecord>, ApiError> {
    super::load(context, &request.path("workRequestId")?).await
}
