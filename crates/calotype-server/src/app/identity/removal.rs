//! Compartments that are deleted: only empty ones, and each can be recovered.

use calotype_api::error::ApiError;
use calotype_api::identity::CompartmentState;
use calotype_api::ocid::Ocid;

use super::compartments::{
    CompartmentRecord, NAME_LENGTH_MAX, active_compartment, changeable, claim, parent, unclaim,
};
use super::tree::{check_nesting, line};
use crate::app::images::lifecycle::FamilyMember;
use crate::app::objects::CopyRecord;
use crate::app::{Context, load, submit_visible};
use crate::db::{Batch, Contents, Db, Document as _, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::WorkRequestRecord;
use crate::jobs::delete_compartment::DeleteCompartment;

/// What a compartment must not have to be deleted: all but what is gone and still shown, tells what was done, or goes with
/// another document.
const CONTENTS: Contents = Contents {
    but_states: &["DELETED", "TERMINATED"],
    but_kinds: &[WorkRequestRecord::KIND, CopyRecord::KIND, FamilyMember::KIND],
};

/// `DeleteCompartment`.
pub async fn delete_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut compartment = changeable(&context, &request).await?;
    let batch = plan_deletion(&context.region.db, &mut compartment).await?;
    let job = DeleteCompartment::new(&compartment, &parent(&compartment)?);
    submit_visible(&context, job, batch, Reply::accepted()).await
}

/// That the compartment is empty holds in the very batch that makes it DELETING, after which nothing comes into it: see
/// [`only_into_active`](super::only_into_active).
pub(super) async fn plan_deletion(
    db: &Db,
    compartment: &mut Versioned<CompartmentRecord>,
) -> Result<Batch, ApiError> {
    let id = &compartment.resource.id;
    if let Some((kind, inside)) = db.inside(id.as_str(), CONTENTS).await? {
        return Err(ApiError::conflict(format!(
            "Compartment {id} cannot be deleted while it has something in it, such as the {} {inside}: delete or move \
             everything first",
            kind.replace('_', " ")
        )));
    }
    compartment.value.resource.lifecycle_state = CompartmentState::Deleting;
    Ok(Batch::new().require_empty(&compartment.value, CONTENTS).replace(compartment))
}

/// What makes a compartment that is DELETING a DELETED one, of another name: its own is free again. Done twice, it does
/// nothing more.
pub(crate) async fn removed(db: &Db, id: &Ocid, suffix: &str) -> Result<Batch, ApiError> {
    let Some(mut compartment) = deleting(db, id).await? else { return Ok(Batch::new()) };
    let batch = unclaim(db, Batch::new(), &compartment).await?;
    let resource = &mut compartment.value.resource;
    resource.name.truncate(NAME_LENGTH_MAX - 1 - suffix.len());
    resource.name = format!("{}.{suffix}", resource.name);
    resource.lifecycle_state = CompartmentState::Deleted;
    Ok(batch.replace(&compartment))
}

/// What makes a compartment that is DELETING an ACTIVE one again.
pub(crate) async fn kept(db: &Db, id: &Ocid) -> Result<Batch, ApiError> {
    let Some(mut compartment) = deleting(db, id).await? else { return Ok(Batch::new()) };
    compartment.value.resource.lifecycle_state = CompartmentState::Active;
    Ok(Batch::new().replace(&compartment))
}

async fn deleting(db: &Db, id: &Ocid) -> Result<Option<Versioned<CompartmentRecord>>, ApiError> {
    let found = db.get::<CompartmentRecord>(id.as_str()).await?;
    Ok(found.filter(|one| one.resource.lifecycle_state == CompartmentState::Deleting))
}

/// `RecoverCompartment`: a deleted one is ACTIVE again, under the name that it has now.
pub async fn recover_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = request.path("compartmentId")?;
    let mut compartment: Versioned<CompartmentRecord> = load(&context, &id).await?;
    request.check_etag(&compartment.etag())?;
    let state = compartment.resource.lifecycle_state;
    if state != CompartmentState::Deleted {
        return Err(ApiError::incorrect_state(format!("compartment {id} is {state}, not DELETED")));
    }
    let (db, above) = (&context.region.db, parent(&compartment)?);
    let Ok(parent) = active_compartment(db, &above).await else {
        let first =
            format!("Compartment {above}, in which it lies, is deleted: recover that first");
        return Err(ApiError::incorrect_state(first));
    };
    check_nesting(line(db, &above).await?.len())?;
    let claim = claim(db, &above, &compartment.resource.name, &id, context.now).await?;
    compartment.value.resource.lifecycle_state = CompartmentState::Active;
    let batch = Batch::new().require(&parent).insert(&claim).replace(&compartment);
    let reply = Reply::ok(&compartment.resource)?.etag(compartment.next_etag());
    context.commit(batch, reply).await
}
