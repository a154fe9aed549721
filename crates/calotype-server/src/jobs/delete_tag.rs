//! Delete a tag key: takes the tag from whatever has it, then the key is gone. It only goes forward: undoing is to finish it.

use std::sync::Arc;

use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use serde::{Deserialize, Serialize};

use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, resource, seed};
use crate::app::tags::{TagRecord, removal, strip};
use crate::region::Region;

/// What a deletion must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteTag {
    tag_id: Ocid,
    compartment_id: Ocid,
    namespace: String,
    key: String,
}

impl DeleteTag {
    /// The deletion of `tag`, which is DELETING in the job's batch.
    pub fn new(tag: &TagRecord) -> Self {
        Self {
            tag_id: tag.resource.id.clone(),
            compartment_id: tag.resource.compartment_id.clone(),
            namespace: tag.resource.tag_namespace_name.clone(),
            key: tag.resource.name.clone(),
        }
    }
}

impl Seeded for DeleteTag {
    fn seed(&self, region: &Region) -> Seed {
        let resources =
            vec![resource("tagDefinition", "tagDefinitions", ActionType::Deleted, &self.tag_id)];
        // The word of identity's own work requests.
        seed(region, "DELETE_TAG_DEFINITION", &self.compartment_id, resources)
    }
}

impl Workflow for DeleteTag {
    type Environment = Arc<Region>;

    const NAME: &'static str = "delete_tag";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "strip",
            weight: 9,
            run: |context| Box::pin(take_off(context)),
            undo: Some(|context| Box::pin(finish(context))),
        },
        Step { name: "remove", weight: 1, run: |context| Box::pin(remove(context)), undo: None },
    ];
}

type Context = StepContext<DeleteTag>;

async fn take_off(context: &mut Context) -> Result<(), StepError> {
    let state = &context.state;
    let stripped = strip(&context.environment.db, &state.namespace, &state.key).await?;
    context.log(format!("The tag was taken from {stripped} resources"));
    Ok(())
}

async fn remove(context: &mut Context) -> Result<(), StepError> {
    let batch = removal(&context.environment.db, &context.state.tag_id).await?;
    context.write(batch);
    Ok(())
}

async fn finish(context: &mut Context) -> Result<(), StepError> {
    take_off(context).await?;
    remove(context).await
}
