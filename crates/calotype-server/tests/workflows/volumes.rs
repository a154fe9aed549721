//! Boot volumes that are cloned and grow, killed at, repeated and unwound at every step.

use std::os::unix::fs::MetadataExt as _;

use calotype_api::Ocid;
use calotype_api::boot_volumes::BootVolumeState;
use calotype_api::instances::InstanceState;
use calotype_server::app::boot_volumes::VolumeClone;
use calotype_server::config::Paths;
use calotype_server::db::Batch;
use calotype_server::jobs::clone_boot_volume::CloneBootVolume;
use calotype_server::jobs::grow_boot_volume::GrowBootVolume;
use calotype_server::jobs::harness::Outcome;
use calotype_server::jobs::power_instance::{Action, PowerInstance};
use calotype_server::jobs::terminate_instance::TerminateInstance;
use calotype_server::records::{BootVolumeRecord, InstanceRecord};
use calotype_server::region::Region;
use futures_util::future::BoxFuture;
use serde_json::json;

use crate::{Scene, Stage, all, check, run};

const GROWN_BYTES: u64 = 50 << 30;

/// A stage with a volume at rest, to which something was written.
async fn at_rest(keep_instance: bool) -> (Stage, Ocid) {
    let (stage, id) = Stage::with_instance().await;
    let mut instance = stage.load::<InstanceRecord>(&id).await;
    if keep_instance {
        instance.value.resource.lifecycle_state = InstanceState::Stopping;
        let job = PowerInstance::new(&instance, Action::Stop, &stage.config.guests);
        stage.run(job, Batch::new().replace(&instance)).await;
    } else {
        instance.value.resource.lifecycle_state = InstanceState::Terminating;
        let job = TerminateInstance::new(&instance, true);
        stage.run(job, Batch::new().replace(&instance)).await;
    }
    let volume = stage.load::<BootVolumeRecord>(&instance.boot_volume_id).await;
    let paths = Paths::new(stage.directory.path());
    let overlay = paths.volumes().join(&volume.directory).join(&volume.layers[0]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 7 0 64k", overlay.to_str().unwrap()]);
    (stage, volume.resource.id.clone())
}

async fn clone(stage: Stage, source: &Ocid) -> Scene<CloneBootVolume> {
    let details = json!({
        "compartmentId": stage.region().tenancy,
        "sizeInGBs": 50,
        "sourceDetails": {"type": "bootVolume", "id": source},
    });
    let details = serde_json::from_value(details).unwrap();
    let VolumeClone { batch, job, .. } =
        VolumeClone::prepare(&stage.context(), details).await.unwrap();
    Scene { also: Some(is_cloned_or_not), ..Scene::new(stage, job, batch) }
}

/// A clone that shares the source's blocks, or none; the source whole.
fn is_cloned_or_not(region: &Region, outcome: Outcome) -> BoxFuture<'_, Result<(), String>> {
    Box::pin(async move {
        let volumes = all::<BootVolumeRecord>(region).await;
        let is_clone = |volume: &BootVolumeRecord| volume.resource.source_details.is_some();
        let clone = volumes.iter().find(|volume| is_clone(volume)).ok_or("no clone")?;
        let source = volumes.iter().find(|volume| !is_clone(volume)).ok_or("no source")?;
        if outcome == Outcome::Failed {
            let gone = clone.resource.lifecycle_state == BootVolumeState::Terminated;
            return if gone { Ok(()) } else { Err(format!("{:?}", clone.value)) };
        }
        let (bottom, inode) = ("overlay-1.qcow2", |volume: &BootVolumeRecord, name: &str| {
            let file = region.paths.volumes().join(&volume.directory).join(name);
            std::fs::metadata(file).map(|metadata| metadata.ino()).ok()
        });
        let shared =
            inode(source, bottom).is_some() && inode(source, bottom) == inode(clone, bottom);
        let right = clone.resource.lifecycle_state == BootVolumeState::Available
            && (clone.size_bytes, clone.resource.size_in_gbs) == (GROWN_BYTES, 50)
            && (clone.base, clone.layers.len()) == (source.base, 2)
            && clone.layers[1] == bottom
            && source.layers == ["overlay-2.qcow2", bottom]
            && shared;
        if right { Ok(()) } else { Err(format!("{:?} of {:?}", clone.value, source.value)) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clone_of_a_free_volume_survives_everything() {
    check(async || {
        let (stage, source) = at_rest(false).await;
        clone(stage, &source).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clone_of_a_stopped_instances_volume_survives_everything() {
    check(async || {
        let (stage, source) = at_rest(true).await;
        clone(stage, &source).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_not_written_between_gets_no_longer_by_its_clones() {
    let (stage, source) = at_rest(false).await;
    for _ in 0..3 {
        let details = json!({
            "compartmentId": stage.region().tenancy,
            "sourceDetails": {"type": "bootVolume", "id": source},
        });
        let details = serde_json::from_value(details).unwrap();
        let VolumeClone { batch, job, volume } =
            VolumeClone::prepare(&stage.context(), details).await.unwrap();
        stage.run(job, batch).await;
        let clone = stage.load::<BootVolumeRecord>(&volume.resource.id).await;
        assert_eq!(clone.layers.len(), 2);
        assert_eq!(stage.load::<BootVolumeRecord>(&source).await.layers.len(), 2);
    }
    stage.is_sound().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_a_running_instance_is_not_cloned() {
    let (stage, id) = Stage::with_instance().await;
    let source = stage.load::<InstanceRecord>(&id).await.boot_volume_id.clone();
    let details = json!({
        "compartmentId": stage.region().tenancy,
        "sourceDetails": {"type": "bootVolume", "id": source},
    });
    let details = serde_json::from_value(details).unwrap();
    let refused = VolumeClone::prepare(&stage.context(), details).await.err().unwrap();
    assert_eq!(refused.status(), 409);
    assert!(refused.message.contains("stop the instance, or detach the volume"), "{refused}");
}

async fn grow(stage: Stage, volume: &Ocid) -> Scene<GrowBootVolume> {
    let mut volume = stage.load::<BootVolumeRecord>(volume).await;
    volume.value.show_size(GROWN_BYTES);
    volume.value.resource.lifecycle_state = BootVolumeState::Provisioning;
    let job = GrowBootVolume::new(&volume, GROWN_BYTES);
    let batch = Batch::new().replace(&volume);
    Scene { also: Some(is_grown_or_as_it_was), ..Scene::new(stage, job, batch) }
}

/// What is shown is what it is; and grown, if the job has succeeded.
fn is_grown_or_as_it_was(region: &Region, outcome: Outcome) -> BoxFuture<'_, Result<(), String>> {
    Box::pin(async move {
        let volumes = all::<BootVolumeRecord>(region).await;
        let [volume] = &volumes[..] else { return Err(format!("{} volumes", volumes.len())) };
        let is_grown = volume.size_bytes == GROWN_BYTES;
        // A guest that was told keeps what it has.
        let told = volume.instance_id.as_ref().and_then(|id| region.guests.machine(id));
        let right = volume.resource.lifecycle_state == BootVolumeState::Available
            && volume.resource.size_in_gbs == volume.size_bytes.div_ceil(1 << 30)
            && match outcome {
                Outcome::Succeeded => is_grown,
                Outcome::Failed => !is_grown || told.is_some(),
            };
        let seen = told.map(|machine| machine.spec().boot_disk.size_bytes);
        let right = right && seen.is_none_or(|seen| seen <= volume.size_bytes);
        if right { Ok(()) } else { Err(format!("{:?}, seen {seen:?}", volume.value)) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_growth_of_a_free_volume_survives_everything() {
    check(async || {
        let (stage, volume) = at_rest(false).await;
        grow(stage, &volume).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_growth_of_a_running_instances_volume_survives_everything() {
    check(async || {
        let (stage, id) = Stage::with_instance().await;
        let volume = stage.load::<InstanceRecord>(&id).await.boot_volume_id.clone();
        grow(stage, &volume).await
    })
    .await;
}
