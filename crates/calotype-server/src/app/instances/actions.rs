//! `InstanceAction`: power, and a knock at the guest's door.

use calotype_api::error::ApiError;
use calotype_api::instance_actions::{InstancePowerActionDetails, PowerActionType};
use calotype_api::instances::InstanceState;

use super::load;
use crate::app::{Context, shapes};
use crate::db::{Batch, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::power_instance::{Action, PowerInstance};
use crate::records::InstanceRecord;

/// `InstanceAction`.
pub async fn action(context: Context, request: Request) -> Result<Reply, ApiError> {
    let name: String = request.required_query("action")?;
    if !request.body.is_empty() {
        check_details(&name, &request.json()?)?;
    }
    let mut instance = load(&context, &request.path("instanceId")?).await?;
    request.check_etag(&instance.etag())?;
    if name.eq_ignore_ascii_case("SENDDIAGNOSTICINTERRUPT") {
        return interrupt(&context, &instance).await;
    }
    let action = Action::parse(&name)?;
    instance.value.resource.lifecycle_state = next_state(&instance, action)?;
    if action == Action::Start {
        let InstanceRecord { resource, .. } = &instance.value;
        let id = Some(&resource.id);
        shapes::check_room(&context, &resource.shape, &resource.shape_config, id)?;
    }
    let job = PowerInstance::new(&instance, action, &context.region.config.guests);
    let batch = Batch::new().replace(&instance);
    let reply = Reply::ok(&instance.resource)?.etag(instance.next_etag());
    crate::app::submit(&context, job, batch, reply).await
}

/// Refuses details of another action, and what could not be done as they say.
fn check_details(action: &str, details: &InstancePowerActionDetails) -> Result<(), ApiError> {
    let kind = details.action_type;
    if !kind.as_str().eq_ignore_ascii_case(action) {
        let is = format!("is {kind}, but the action is {action}");
        return Err(ApiError::invalid_parameter("actionType", is));
    }
    let of_migration = details.delete_local_storage.is_some() || details.time_scheduled.is_some();
    if kind != PowerActionType::RebootMigrate && of_migration {
        let must = "deleteLocalStorage and timeScheduled are of rebootMigrate only";
        return Err(ApiError::invalid_parameter("actionType", format!("is {kind}: {must}")));
    }
    // Instances have no local storage, and migrate without leaving this host: now.
    crate::app::refuse_given(&[("timeScheduled", details.time_scheduled.is_some())])
}

/// What the instance is while the action goes on.
fn next_state(instance: &InstanceRecord, action: Action) -> Result<InstanceState, ApiError> {
    let id = &instance.resource.id;
    match instance.resource.lifecycle_state {
        InstanceState::Stopped if action == Action::Start => {
            if instance.boot_volume_detached {
                return Err(ApiError::incorrect_state(format!(
                    "instance {id} has no boot volume: attach one first"
                )));
            }
            Ok(InstanceState::Starting)
        }
        InstanceState::Running if action != Action::Start => Ok(InstanceState::Stopping),
        state @ (InstanceState::Running | InstanceState::Stopped) => {
            let impossible = format!("instance {id} is {state}: {action} is not possible");
            Err(ApiError::incorrect_state(impossible))
        }
        InstanceState::Terminating | InstanceState::Terminated => {
            Err(ApiError::not_authorized_or_not_found())
        }
        _ => Err(ApiError::instance_busy(id)),
    }
}

/// Raises a non-maskable interrupt in the guest: what it makes of it, a crash dump, is its own affair.
async fn interrupt(
    context: &Context,
    instance: &Versioned<InstanceRecord>,
) -> Result<Reply, ApiError> {
    let id = &instance.resource.id;
    let state = instance.resource.lifecycle_state;
    let machine = match (state, context.region.guests.machine(id)) {
        (InstanceState::Terminating | InstanceState::Terminated, _) => {
            return Err(ApiError::not_authorized_or_not_found());
        }
        (InstanceState::Running, Some(machine)) => machine,
        _ => {
            return Err(ApiError::incorrect_state(format!(
                "instance {id} is {state}: only a RUNNING one can be interrupted"
            )));
        }
    };
    machine.inject_nmi().await.map_err(|error| {
        tracing::error!(%error, instance = %id, "the guest could not be interrupted");
        ApiError::internal()
    })?;
    context.commit(Batch::new(), Reply::ok(&instance.resource)?.etag(instance.etag())).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(action: &str, details: serde_json::Value) -> Result<(), ApiError> {
        check_details(action, &serde_json::from_value(details).unwrap())
    }

    #[test]
    fn details_must_be_those_of_the_action() {
        assert!(check("RESET", json!({"actionType": "reset"})).is_ok());
        let dense = json!({"actionType": "softreset", "allowDenseRebootMigration": true});
        assert!(check("SOFTRESET", dense).is_ok());
        let local = json!({"actionType": "rebootMigrate", "deleteLocalStorage": true});
        assert!(check("REBOOTMIGRATE", local).is_ok());
        assert!(check("STOP", json!({"actionType": "reset"})).is_err());
        assert!(
            check("RESET", json!({"actionType": "reset", "deleteLocalStorage": true})).is_err()
        );
    }

    #[test]
    fn nothing_is_done_later() {
        let later = json!({"actionType": "rebootMigrate", "timeScheduled": "2026-01-01T00:00:00Z"});
        let refused = check("REBOOTMIGRATE", later).unwrap_err();
        assert!(refused.message.contains("timeScheduled"), "{}", refused.message);
    }
}
