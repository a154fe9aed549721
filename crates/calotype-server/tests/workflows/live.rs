//! Captures of instances that run on.

use calotype_api::Ocid;
use calotype_api::images::ImageState;
use calotype_api::instances::InstanceState;
use calotype_server::app::images::Capture;
use calotype_server::db::Batch;
use calotype_server::jobs::capture_image::CaptureImage;
use calotype_server::jobs::power_instance::{Action, PowerInstance};
use calotype_server::jobs::{Seeded as _, WorkRequestRecord};
use calotype_server::records::{BootVolumeRecord, ImageRecord, InstanceRecord};

use crate::{Stage, details};

/// Captures the instance; the finished work request and the image.
async fn captured(stage: &Stage, id: &Ocid, way: &str) -> (WorkRequestRecord, ImageRecord) {
    let context = stage.context();
    let capture = Capture::prepare(&context, details(stage, id, way)).await.unwrap();
    let settings = &stage.config.capture;
    let (image, instance) = (&capture.image, &capture.instance);
    let job = CaptureImage::new(image, instance, capture.way, context.now, settings);
    let (jobs, seed) = (&stage.region().jobs, job.seed(stage.region()));
    let request = jobs.submit(job, seed, capture.batch).await.unwrap();
    let request = jobs.wait(&request).await.unwrap();
    (request, stage.load::<ImageRecord>(&capture.image.resource.id).await.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_captured_live_runs_on() {
    let (stage, id) = Stage::with_instance().await;
    let before = stage.region().guests.machine(&id).unwrap();
    for round in 1..=3 {
        let context = stage.context();
        let wanted = details(&stage, &id, "crash-consistent");
        let capture = Capture::prepare(&context, wanted).await.unwrap();
        assert_eq!(capture.instance.resource.lifecycle_state, InstanceState::Running);
        let (request, image) = captured(&stage, &id, "crash-consistent").await;
        assert!(request.errors.is_empty(), "{request:?}");
        assert_eq!(image.resource.lifecycle_state, ImageState::Available);
        assert_eq!(stage.region().guests.machine(&id).unwrap().pid(), before.pid());
        let instance = stage.load::<InstanceRecord>(&id).await;
        assert_eq!(instance.resource.lifecycle_state, InstanceState::Running);
        let volume = stage.load::<BootVolumeRecord>(&instance.boot_volume_id).await;
        assert_eq!(Some(volume.base), image.manifest, "the chain is short again");
        assert_eq!(volume.layers, [format!("overlay-{}.qcow2", round + 1)]);
        stage.is_sound().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_an_agent_is_not_quiesced_and_runs_on_as_before() {
    let (stage, id) = Stage::with_instance().await;
    let before = stage.region().guests.machine(&id).unwrap();
    let spec = before.spec();
    let (request, image) = captured(&stage, &id, "quiesced").await;
    assert!(
        request.errors[0].message.contains("Install and start qemu-guest-agent"),
        "{request:?}"
    );
    assert_eq!(image.resource.lifecycle_state, ImageState::Deleted);
    let after = stage.region().guests.machine(&id).unwrap();
    assert_eq!((after.pid(), after.spec()), (before.pid(), spec));
    stage.is_sound().await.unwrap();
    // It can be captured in another way.
    let (request, _) = captured(&stage, &id, "crash-consistent").await;
    assert!(request.errors.is_empty(), "{request:?}");
    stage.is_sound().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_stopped_first_is_captured_at_rest() {
    let (stage, id) = Stage::with_instance().await;
    let mut instance = stage.load::<InstanceRecord>(&id).await;
    instance.value.resource.lifecycle_state = InstanceState::Stopping;
    let job = PowerInstance::new(&instance, Action::Stop, &stage.config.guests);
    stage.run(job, Batch::new().replace(&instance)).await;
    let (request, image) = captured(&stage, &id, "quiesced").await;
    assert!(request.errors.is_empty(), "{request:?}");
    assert_eq!(image.resource.lifecycle_state, ImageState::Available);
    stage.is_sound().await.unwrap();
}
