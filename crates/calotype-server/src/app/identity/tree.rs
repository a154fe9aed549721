//! The tree of compartments: what lies above one, how deep it is, and how a part of it is moved.

use calotype_api::error::ApiError;
use calotype_api::identity::{CompartmentState, MoveCompartmentDetails};
use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use jiff::Timestamp;

use super::compartments::{
    CompartmentRecord, active_compartment, changeable, claim, parent, unclaim,
};
use crate::app::{Context, done_visible};
use crate::db::{Batch, Db, Query, Versioned};
use crate::http::{Reply, Request};
use crate::jobs::{resource, seed};

/// Compartments below each other, the root not counted.
pub(super) const DEPTH_MAX: usize = 6;
/// Compartments above each other that are looked at. One that is made in the same instant in which what is above it is
/// moved down may come to lie deeper than the limit.
const LINE_MAX: usize = 2 * DEPTH_MAX;

/// The compartment and all above it, up to the root.
pub async fn ancestry(db: &Db, compartment: &Ocid) -> Result<Vec<Ocid>, ApiError> {
    let line = line(db, compartment).await?;
    Ok(line.into_iter().map(|record| record.value.resource.id).collect())
}

/// The records of a compartment and of all above it, up to the root.
pub(super) async fn line(
    db: &Db,
    compartment: &Ocid,
) -> Result<Vec<Versioned<CompartmentRecord>>, ApiError> {
    let mut line: Vec<Versioned<CompartmentRecord>> = Vec::new();
    let mut next = Some(compartment.clone());
    while let Some(id) = next.take().filter(|_| line.len() <= LINE_MAX) {
        let Some(record) = db.get::<CompartmentRecord>(id.as_str()).await? else { break };
        next.clone_from(&record.resource.compartment_id);
        line.push(record);
    }
    Ok(line)
}

/// How many levels of compartments lie below one.
async fn height(db: &Db, compartment: &Ocid) -> Result<usize, ApiError> {
    let mut level = vec![compartment.clone()];
    for height in 0..LINE_MAX {
        let mut below = Vec::new();
        for id in &level {
            let children = Query::new().compartment(id.as_str());
            db.for_each::<CompartmentRecord>(children, |child| {
                let resource = child.value.resource;
                if resource.lifecycle_state != CompartmentState::Deleted {
                    below.push(resource.id);
                }
            })
            .await?;
        }
        if below.is_empty() {
            return Ok(height);
        }
        level = below;
    }
    Ok(LINE_MAX)
}

/// Refuses what would lie, or have something below it, so many levels below the root.
pub(super) fn check_nesting(levels: usize) -> Result<(), ApiError> {
    if levels <= DEPTH_MAX {
        return Ok(());
    }
    let limit = format!("Compartments can be nested at most {DEPTH_MAX} deep");
    Err(ApiError::limit_exceeded(limit))
}

/// `MoveCompartment`: with everything in it and below it.
pub async fn move_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let MoveCompartmentDetails { target_compartment_id: target } = request.json()?;
    let mut compartment = changeable(&context, &request).await?;
    let batch = plan_move(&context.region.db, &mut compartment, &target, context.now).await?;
    let id = &compartment.resource.id;
    let resources = vec![resource("compartment", "compartments", ActionType::Updated, id)];
    let seed = seed(&context.region, "MOVE_COMPARTMENT", &target, resources);
    done_visible(&context, seed, batch, Reply::accepted()).await
}

pub(super) async fn plan_move(
    db: &Db,
    compartment: &mut Versioned<CompartmentRecord>,
    target: &Ocid,
    now: Timestamp,
) -> Result<Batch, ApiError> {
    active_compartment(db, target).await?;
    let id = compartment.resource.id.clone();
    let above = line(db, target).await?;
    let refused = |what| Err(ApiError::invalid_parameter("targetCompartmentId", what));
    if above.iter().any(|record| record.resource.id == id) {
        return refused("is the compartment itself, or lies below it");
    }
    if parent(compartment)? == *target {
        return refused("is where the compartment lies already");
    }
    check_nesting(above.len() + height(db, &id).await?)?;
    let claim = claim(db, target, &compartment.resource.name, &id, now).await?;
    let mut batch = unclaim(db, Batch::new(), compartment).await?.insert(&claim);
    // None of them is moved below this one meanwhile.
    for record in &above {
        batch = batch.require(record);
    }
    compartment.value.resource.compartment_id = Some(target.clone());
    Ok(batch.replace(compartment))
}
