//! Delete: the image is gone for clients at once; here the space that only it needed is given back.

use std::sync::Arc;

use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use serde::{Deserialize, Serialize};

use super::{Seed, Seeded, Step, Workflow, collect, resource, seed};
use crate::records::ImageRecord;
use crate::region::Region;

/// What a deletion must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteImage {
    image_id: Ocid,
    compartment_id: Option<Ocid>,
    /// Whether its disk is kept, for it may be restored.
    #[serde(default)]
    is_in_bin: bool,
}

impl DeleteImage {
    /// The deletion of `image`, which is DELETED in the job's batch.
    pub fn new(image: &ImageRecord) -> Self {
        Self {
            image_id: image.resource.id.clone(),
            compartment_id: image.resource.compartment_id.clone(),
            is_in_bin: image.needs_disk(),
        }
    }
}

impl Seeded for DeleteImage {
    fn seed(&self, region: &Region) -> Seed {
        let resources = vec![resource("image", "images", ActionType::Deleted, &self.image_id)];
        let compartment = self.compartment_id.as_ref().unwrap_or(&region.tenancy);
        seed(region, "Delete Image", compartment, resources)
    }
}

impl Workflow for DeleteImage {
    type Environment = Arc<Region>;

    const NAME: &'static str = "delete_image";

    const STEPS: &'static [Step<Self>] = &[Step {
        name: "collect",
        weight: 1,
        run: |context| {
            Box::pin(async {
                if !context.state.is_in_bin {
                    collect::now(&context.environment).await;
                }
                Ok(())
            })
        },
        undo: None,
    }];
}
