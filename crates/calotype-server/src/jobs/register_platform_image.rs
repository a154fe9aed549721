//! Register: a disk file of the operator becomes an image that everybody sees.

use std::sync::Arc;

use calotype_api::ocid::Ocid;
use calotype_api::work_requests::ActionType;
use calotype_disk::Disk;
use calotype_disk::raw::Raw;
use calotype_store::FileSource;
use serde::{Deserialize, Serialize};

use super::commit::{self, commit};
use super::records::image;
use super::{Seed, Seeded, Step, StepContext, StepError, Workflow, resource, seed};
use crate::db::Batch;
use crate::error::Error;
use crate::records::ImageRecord;
use crate::region::Region;

/// What a registration must remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RegisterPlatformImage {
    image_id: Ocid,
    tenancy: Ocid,
    file: String,
}

impl RegisterPlatformImage {
    /// The registration of `image`, whose disk is `file` in the `platform-images` directory.
    pub fn new(image: &ImageRecord, file: String, tenancy: &Ocid) -> Self {
        Self { image_id: image.resource.id.clone(), tenancy: tenancy.clone(), file }
    }
}

impl Seeded for RegisterPlatformImage {
    fn seed(&self, region: &Region) -> Seed {
        let resources = vec![resource("image", "images", ActionType::Created, &self.image_id)];
        seed(region, "Register Platform Image", &self.tenancy, resources)
    }
}

impl Workflow for RegisterPlatformImage {
    type Environment = Arc<Region>;

    const NAME: &'static str = "register_platform_image";

    const STEPS: &'static [Step<Self>] = &[
        Step {
            name: "reserve",
            weight: 1,
            run: |_| Box::pin(async { Ok(()) }),
            undo: Some(|context| {
                let id = context.state.image_id.clone();
                Box::pin(commit::discard(context, id))
            }),
        },
        Step {
            name: "commit",
            weight: 95,
            run: |context| Box::pin(read(context)),
            undo: Some(|context| Box::pin(commit::forget(context))),
        },
        Step {
            name: "publish",
            weight: 4,
            run: |context| {
                let id = context.state.image_id.clone();
                Box::pin(commit::publish_alone(context, id))
            },
            undo: None,
        },
    ];
}

type Context = StepContext<RegisterPlatformImage>;

async fn read(context: &mut Context) -> Result<(), StepError> {
    let region = Arc::clone(&context.environment);
    let file = region.paths.platform_images().join(format!("{}.raw", context.state.file));
    let open = move || {
        let source = FileSource::open(&file).map_err(|source| Error::io("open", &file, source))?;
        Ok(Arc::new(Raw::open(Box::new(source))?) as Arc<dyn Disk>)
    };
    let committed = commit(context, open, None).await?;
    let mut image = image(&region, &context.state.image_id).await?;
    image.value.manifest = Some(committed.manifest);
    image.value.size_bytes = committed.size_bytes;
    context.log(commit::summary(&committed));
    // The image is a root of collection before the commit stops protecting what it wrote.
    context.save(Batch::new().replace(&image)).await
}
