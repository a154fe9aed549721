//! Delete an empty compartment: it is renamed, so that its name can be used again, and DELETED. One whose deletion fails is
//! ACTIVE again.

use std::sync::Arc;

use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, resource, seed};
use crate::app::identity::{CompartmentRecord, kept, removed};
use crate::region::Region;

/// Random bytes in the name of a deleted compartment: eight letters and digits.
const SUFFIX_BYTES: usize = 5;

/// What a deletion must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteCompartment {
    compartment_id: Ocid,
    parent_id: Ocid,
    suffix: String,
}

impl DeleteCompartment {
    /// The deletion of `compartment`, which is DELETING in the job's batch.
    pub fn new(compartment: &CompartmentRecord, parent_id: &Ocid) -> Self {
        let random = Uuid::new_v4();
        Self {
            compartment_id: compartment.resource.id.clone(),
            parent_id: parent_id.clone(),
            suffix: BASE32_NOPAD.encode(&random.as_bytes()[..SUFFIX_BYTES]).to_lowercase(),
        }
    }
}

impl Seeded for DeleteCompartment {
    fn seed(&self, region: &Region) -> Seed {
        let id = &self.compartment_id;
        let resources = vec![resource("compartment", "compartments", ActionType::Deleted, id)];
        // Listed with the parent: nothing is in a deleted compartment.
        seed(region, "DELETE_COMPARTMENT", &self.parent_id, resources)
    }
}

impl Workflow for DeleteCompartment {
    type Environment = Arc<Region>;

    const NAME: &'static str = "delete_compartment";

    const STEPS: &'static [Step<Self>] = &[Step {
        name: "remove",
        weight: 1,
        run: |context| Box::pin(remove(context)),
        undo: Some(|context| Box::pin(keep(context))),
    }];
}

type Context = StepContext<DeleteCompartment>;

async fn remove(context: &mut Context) -> Result<(), StepError> {
    let state = &context.state;
    let batch = removed(&context.environment.db, &state.compartment_id, &state.suffix).await?;
    context.write(batch);
    Ok(())
}

async fn keep(context: &mut Context) -> Result<(), StepError> {
    let batch = kept(&context.environment.db, &context.state.compartment_id).await?;
    context.write(batch);
    Ok(())
}
