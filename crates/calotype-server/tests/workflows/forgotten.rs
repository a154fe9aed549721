//! What is over is forgotten in its time, with a real instance.

use calotype_api::instances::InstanceState;
use calotype_server::app::network::VnicRecord;
use calotype_server::db::Batch;
use calotype_server::jobs::terminate_instance::TerminateInstance;
use calotype_server::records::{BootVolumeRecord, InstanceRecord};
use calotype_server::retention::forget;
use jiff::{SignedDuration, Timestamp};

use crate::{Stage, all};

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_instance_is_forgotten_after_a_day_with_its_volume_and_network_card() {
    let (stage, id) = Stage::with_instance().await;
    let mut instance = stage.load::<InstanceRecord>(&id).await;
    instance.value.resource.lifecycle_state = InstanceState::Terminating;
    let job = TerminateInstance::new(&instance, false);
    stage.run(job, Batch::new().replace(&instance)).await;

    let (region, now) = (stage.region(), Timestamp::now());
    forget(&region.db, now + SignedDuration::from_hours(23)).await.unwrap();
    let kept = stage.load::<InstanceRecord>(&id).await;
    assert_eq!(kept.resource.lifecycle_state, InstanceState::Terminated);
    forget(&region.db, now + SignedDuration::from_hours(25)).await.unwrap();
    assert!(all::<InstanceRecord>(region).await.is_empty());
    assert!(all::<BootVolumeRecord>(region).await.is_empty());
    assert!(all::<VnicRecord>(region).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_terminated_whose_detached_volume_was_deleted_and_forgotten() {
    let (stage, id) = Stage::with_instance().await;
    let instance = stage.load::<InstanceRecord>(&id).await;
    let mut volume = stage.load::<BootVolumeRecord>(&instance.boot_volume_id).await;
    volume.value.instance_id = None;
    let batch = Batch::new().replace(&volume);
    stage.region().db.apply(batch).await.unwrap();
    let volume = stage.load::<BootVolumeRecord>(&instance.boot_volume_id).await;
    stage.region().db.apply(Batch::new().delete(&volume)).await.unwrap();

    let mut instance = stage.load::<InstanceRecord>(&id).await;
    instance.value.boot_volume_detached = true;
    instance.value.resource.lifecycle_state = InstanceState::Terminating;
    let job = TerminateInstance::new(&instance, false);
    stage.run(job, Batch::new().replace(&instance)).await;
    let ended = stage.load::<InstanceRecord>(&id).await;
    assert_eq!(ended.resource.lifecycle_state, InstanceState::Terminated);
}
