//! Updates that start the guest anew, killed at, repeated and unwound at every step.

use calotype_api::Ocid;
use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::images::VolumeType;
use calotype_api::instances::{InstanceState, UpdateInstanceDetails};
use calotype_server::app::instances::Update;
use calotype_server::db::Batch;
use calotype_server::jobs::harness::Outcome;
use calotype_server::jobs::power_instance::{Action, PowerInstance};
use calotype_server::jobs::update_instance::UpdateInstance;
use calotype_server::records::{BootVolumeRecord, InstanceRecord};
use calotype_server::region::Region;
use calotype_vm::DiskBus;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::{Scene, Stage, all, check};

async fn update(stage: Stage, id: &Ocid, details: Value) -> Scene<UpdateInstance> {
    let instance = stage.load::<InstanceRecord>(id).await;
    let details: UpdateInstanceDetails = serde_json::from_value(details).unwrap();
    let Update { batch, job, .. } =
        Update::prepare(&stage.context(), instance, details).await.unwrap();
    assert!(job.has_work());
    Scene::new(stage, job, batch)
}

/// The one instance, and all volumes.
async fn world(region: &Region) -> (InstanceRecord, Vec<BootVolumeRecord>) {
    let mut instances = all::<InstanceRecord>(region).await;
    let volumes = all::<BootVolumeRecord>(region).await;
    let volumes = volumes.into_iter().map(|volume| volume.value).collect();
    (instances.pop().unwrap().value, volumes)
}

/// Running with other devices, or running as before.
fn has_other_devices(region: &Region, outcome: Outcome) -> BoxFuture<'_, Result<(), String>> {
    Box::pin(async move {
        let (instance, _) = world(region).await;
        let resource = &instance.resource;
        let machine = region.guests.machine(&resource.id).ok_or("no guest runs")?;
        let buses = (resource.launch_options.boot_volume_type, machine.spec().boot_disk.bus);
        let right = match outcome {
            Outcome::Succeeded => (Some(VolumeType::Iscsi), DiskBus::Scsi),
            Outcome::Failed => (Some(VolumeType::Paravirtualized), DiskBus::Virtio),
        };
        // After its last step an update is done, whatever is made to fail then.
        let done = (Some(VolumeType::Iscsi), DiskBus::Scsi);
        if buses == right || buses == done { Ok(()) } else { Err(format!("has {buses:?}")) }
    })
}

/// On a new disk with the old one gone, or on the old one with the new one gone.
fn has_one_disk(region: &Region, _: Outcome) -> BoxFuture<'_, Result<(), String>> {
    Box::pin(async move {
        let (instance, volumes) = world(region).await;
        let alive: Vec<_> = volumes.iter().filter(|volume| volume.is_alive()).collect();
        let [volume] = alive[..] else { return Err(format!("{} volumes", alive.len())) };
        let right = volume.resource.id == instance.boot_volume_id
            && volume.instance_id.as_ref() == Some(&instance.resource.id)
            && volume.resource.lifecycle_state == BootVolumeState::Available;
        if right { Ok(()) } else { Err(format!("{volume:?}")) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn other_devices_for_a_running_instance_survive_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        let details = json!({"launchOptions": {"bootVolumeType": "ISCSI"}});
        let scene = update(stage, &id, details).await;
        Scene { also: Some(has_other_devices), ..scene }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_boot_volume_for_a_running_instance_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        let image = stage.load::<InstanceRecord>(&id).await.value.resource.image_id;
        let details = json!({"sourceDetails": {"sourceType": "image", "imageId": image}});
        let scene = update(stage, &id, details).await;
        Scene { also: Some(has_one_disk), ..scene }
    })
    .await;
}

async fn stopped() -> (Stage, Ocid) {
    let (stage, id) = Stage::with_instance().await;
    let mut instance = stage.load::<InstanceRecord>(&id).await;
    instance.value.resource.lifecycle_state = InstanceState::Stopping;
    let job = PowerInstance::new(&instance, Action::Stop, &stage.config.guests);
    stage.run(job, Batch::new().replace(&instance)).await;
    (stage, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_preserved_is_free_and_can_be_swapped_in_again() {
    let (stage, id) = stopped().await;
    let first = stage.load::<InstanceRecord>(&id).await.value;
    let (image, volume) = (first.resource.image_id, first.boot_volume_id);
    let by_image = json!({"sourceDetails":
        {"sourceType": "image", "imageId": image, "isPreserveBootVolumeEnabled": true}});
    let by_volume = json!({"sourceDetails":
        {"sourceType": "bootVolume", "bootVolumeId": volume}});
    for (details, volumes) in [(by_image, 2), (by_volume, 1)] {
        let instance = stage.load::<InstanceRecord>(&id).await;
        let details = serde_json::from_value(details).unwrap();
        let Update { batch, job, .. } =
            Update::prepare(&stage.context(), instance, details).await.unwrap();
        stage.run(job, batch).await;
        let (instance, all) = world(stage.region()).await;
        assert_eq!(instance.resource.lifecycle_state, InstanceState::Stopped);
        assert_eq!(all.iter().filter(|volume| volume.is_alive()).count(), volumes);
        stage.is_sound().await.unwrap();
    }
    assert_eq!(stage.load::<InstanceRecord>(&id).await.boot_volume_id, volume);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_instance_is_not_restarted_by_who_avoids_downtime() {
    let (stage, id) = Stage::with_instance().await;
    let prepare = async |details: Value| {
        let instance = stage.load::<InstanceRecord>(&id).await;
        let details = serde_json::from_value(details).unwrap();
        Update::prepare(&stage.context(), instance, details).await
    };
    let refused = prepare(json!({
        "launchOptions": {"bootVolumeType": "ISCSI"},
        "updateOperationConstraint": "AVOID_DOWNTIME",
    }))
    .await
    .err()
    .unwrap();
    assert!(refused.message.starts_with("updateOperationConstraint"), "{}", refused.message);
    let harmless = prepare(json!({
        "faultDomain": "FAULT-DOMAIN-3",
        "updateOperationConstraint": "AVOID_DOWNTIME",
    }));
    assert!(!harmless.await.unwrap().job.has_work());
    let refused = prepare(json!({"shape": "BM.Standard.E4.128"})).await.err().unwrap();
    assert!(!refused.message.is_empty());
}
