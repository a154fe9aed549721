//! Deletions of compartments and of tag keys, killed at, repeated and unwound at every step.

use calotype_api::Ocid;
use calotype_api::identity::{Compartment, CompartmentState};
use calotype_api::tag_definitions::{Tag, TagState};
use calotype_api::tags::{DefinedTags, FreeformTags};
use calotype_server::app::identity::CompartmentRecord;
use calotype_server::app::tags::TagRecord;
use calotype_server::db::{Batch, Versioned};
use calotype_server::jobs::delete_compartment::DeleteCompartment;
use calotype_server::jobs::delete_tag::DeleteTag;
use calotype_server::jobs::harness::Outcome;
use calotype_server::records::ImageRecord;
use calotype_server::region::Region;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::json;

use crate::{Scene, Stage, all, check, platform_image};

fn compartment(id: Ocid, parent: &Ocid) -> Compartment {
    Compartment {
        id,
        compartment_id: Some(parent.clone()),
        defined_tags: DefinedTags::new(),
        description: "for a test".into(),
        freeform_tags: FreeformTags::new(),
        inactive_status: None,
        is_accessible: true,
        lifecycle_state: CompartmentState::Deleting,
        name: "team".into(),
        time_created: Timestamp::now().into(),
    }
}

/// Deleted under another name, or as it was.
fn is_deleted_or_active(region: &Region, outcome: Outcome) -> BoxFuture<'_, Result<(), String>> {
    Box::pin(async move {
        let compartments = all::<CompartmentRecord>(region).await;
        let team = compartments.iter().find(|one| one.resource.compartment_id.is_some());
        let team = &team.ok_or("the compartment is gone")?.resource;
        let renamed = team.name.strip_prefix("team.").is_some_and(|suffix| suffix.len() == 8);
        let right = match (outcome, team.lifecycle_state) {
            (Outcome::Succeeded, CompartmentState::Deleted) => renamed,
            (Outcome::Failed, CompartmentState::Active) => team.name == "team",
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("{team:?}")) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deletion_of_a_compartment_survives_everything() {
    check(async || {
        let stage = Stage::empty().await;
        let (id, root) = (stage.region().new_id("compartment"), stage.region().tenancy.clone());
        let record = CompartmentRecord { resource: compartment(id, &root) };
        let job = DeleteCompartment::new(&record, &root);
        let scene = Scene::new(stage, job, Batch::new().insert(&record));
        Scene { also: Some(is_deleted_or_active), ..scene }
    })
    .await;
}

fn tag(region: &Region) -> TagRecord {
    TagRecord {
        resource: Tag {
            id: region.new_global_id("tagdefinition"),
            compartment_id: region.tenancy.clone(),
            defined_tags: DefinedTags::new(),
            description: "for a test".into(),
            freeform_tags: FreeformTags::new(),
            is_cost_tracking: None,
            is_retired: true,
            lifecycle_state: TagState::Deleting,
            name: "Stage".into(),
            tag_namespace_id: region.new_global_id("tagnamespace"),
            tag_namespace_name: "Operations".into(),
            time_created: Timestamp::now().into(),
            validator: None,
        },
    }
}

/// Gone, and taken from what had it: the deletion is finished even when it fails. Other tags are left.
fn no_tag_is_left(region: &Region, _: Outcome) -> BoxFuture<'_, Result<(), String>> {
    Box::pin(async move {
        if let Some(tag) = all::<TagRecord>(region).await.first() {
            return Err(format!("{:?} is left", tag.value));
        }
        let images = all::<ImageRecord>(region).await;
        let tags: Vec<_> = images.iter().map(|image| json!(image.resource.defined_tags)).collect();
        let right = tags == [json!({"Operations": {"CostCenter": "42"}}), json!({})];
        if right { Ok(()) } else { Err(format!("{tags:?}")) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deletion_of_a_tag_key_survives_everything() {
    check(async || {
        let (stage, image) = Stage::with_image().await;
        let record = tag(stage.region());
        // Two that have it, one of them another tag besides.
        let mut tagged: Versioned<ImageRecord> = image;
        tagged.value.resource.defined_tags =
            serde_json::from_value(json!({"operations": {"stage": "lab"}})).unwrap();
        let mut other = platform_image(stage.region());
        other.resource.lifecycle_state = calotype_api::images::ImageState::Deleted;
        let both = json!({"Operations": {"Stage": "live", "CostCenter": "42"}});
        other.resource.defined_tags = serde_json::from_value(both).unwrap();
        let batch = Batch::new().insert(&record).insert(&other).replace(&tagged);
        let scene = Scene::new(stage, DeleteTag::new(&record), batch);
        Scene { also: Some(no_tag_is_left), ..scene }
    })
    .await;
}
