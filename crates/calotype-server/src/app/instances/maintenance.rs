//! Maintenance of the hosts below instances: this region schedules none, and says so.

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::ocid::Ocid;

use super::load;
use crate::app::{Context, identity, page_of};
use crate::http::{Reply, Request};

/// `ListInstanceMaintenanceEvents`.
pub async fn list_maintenance_events(
    context: Context,
    request: Request,
) -> Result<Reply, ApiError> {
    identity::compartment_exists(&context, &request.required_query("compartmentId")?).await?;
    if let Some(id) = request.query::<Ocid>("instanceId")? {
        load(&context, &id).await?;
    }
    page_of::<()>(&request, &[])
}

/// `GetInstanceMaintenanceReboot`.
pub async fn get_maintenance_reboot(context: Context, request: Request) -> Result<Reply, ApiError> {
    let instance = load(&context, &request.path("instanceId")?).await?;
    let id = &instance.resource.id;
    let message = format!("No maintenance reboot of instance {id} is scheduled");
    Err(ApiError::new(ErrorCode::NotFound, message))
}
