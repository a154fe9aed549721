//! `ChangeInstanceCompartment`.

use calotype_api::error::ApiError;
use calotype_api::instance_actions::ChangeInstanceCompartmentDetails;
use calotype_api::instances::InstanceState;
use calotype_api::work_requests::ActionType;

use super::load;
use crate::app::{Context, identity};
use crate::db::Batch;
use crate::http::{Reply, Request};
use crate::jobs::{resource, seed};

/// `ChangeInstanceCompartment`: the instance alone moves, as in OCI. Its boot volume, its network card
/// and its console histories stay where they are.
pub async fn change_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: ChangeInstanceCompartmentDetails = request.json()?;
    let mut instance = load(&context, &request.path("instanceId")?).await?;
    request.check_etag(&instance.etag())?;
    identity::compartment_exists(&context, &details.compartment_id).await?;
    let id = instance.resource.id.clone();
    match instance.resource.lifecycle_state {
        InstanceState::Running | InstanceState::Stopped => {}
        InstanceState::Terminating | InstanceState::Terminated => {
            return Err(ApiError::not_authorized_or_not_found());
        }
        _ => return Err(ApiError::instance_busy(&id)),
    }
    instance.value.resource.compartment_id = details.compartment_id.clone();
    let resources = vec![resource("instance", "instances", ActionType::Updated, &id)];
    let seed =
        seed(&context.region, "Change Instance Compartment", &details.compartment_id, resources);
    let reply = Reply::accepted().etag(instance.next_etag());
    crate::app::done_visible(&context, seed, Batch::new().replace(&instance), reply).await
}
