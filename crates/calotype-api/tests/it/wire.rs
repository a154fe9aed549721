//! Wire types: names as in the API document, nulls where nothing is, and stored values read back equal.

use calotype_api::images::{
    CreateImageDetails, Image, ImageState, LaunchMode, LaunchOptions, ListingType,
};
use calotype_api::instances::{Instance, LaunchInstanceDetails};
use calotype_api::shapes::Shape;
use calotype_api::sources::{InstanceSourceDetails, InstanceSourceViaBootVolumeDetails};
use calotype_api::work_requests::{WorkRequest, WorkRequestStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const TIME: &str = "2016-08-25T21:10:29.600Z";
const COMPARTMENT: &str = "ocid1.compartment.oc99..aaaa";

/// Reads `value` as a `T` and expects to write the same, and every field of `value` with its name.
fn round_trips<T: Serialize + DeserializeOwned>(value: &Value) -> Value {
    let read: T = serde_json::from_value(value.clone()).unwrap();
    let written = serde_json::to_value(&read).unwrap();
    for (name, field) in value.as_object().unwrap() {
        assert_eq!(&written[name], field, "{name}");
    }
    let again: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
    written
}

#[test]
fn an_image_writes_null_for_what_it_lacks() {
    let image = Image {
        id: "ocid1.image.oc99..aaaa".parse().unwrap(),
        agent_features: None,
        base_image_id: None,
        billable_size_in_gbs: Some(1),
        compartment_id: None,
        create_image_allowed: true,
        defined_tags: [].into(),
        display_name: "tiny".into(),
        freeform_tags: [].into(),
        launch_mode: LaunchMode::Paravirtualized,
        launch_options: LaunchOptions::default(),
        lifecycle_state: ImageState::Provisioning,
        listing_type: ListingType::None,
        operating_system: "Linux".into(),
        operating_system_version: "1".into(),
        size_in_mbs: None,
        time_created: TIME.parse().unwrap(),
    };
    let written = serde_json::to_value(&image).unwrap();
    assert_eq!(written["sizeInMBs"], Value::Null);
    assert_eq!(written["billableSizeInGBs"], 1);
    assert_eq!(written["compartmentId"], Value::Null);
    assert_eq!(written["lifecycleState"], "PROVISIONING");
    assert_eq!(written["listingType"], "NONE");
    assert_eq!(written["freeformTags"], json!({}));
    assert_eq!(written["timeCreated"], TIME);
    assert_eq!(written.as_object().unwrap().len(), 17);
    assert_eq!(serde_json::from_value::<Image>(written).unwrap(), image);
}

#[test]
fn an_instance_reads_back_as_it_was_written() {
    let written = round_trips::<Instance>(&json!({
        "id": "ocid1.instance.oc99.home-1.aaaa",
        "agentConfig": {"isMonitoringDisabled": false, "isManagementDisabled": null,
            "areAllPluginsDisabled": null, "pluginsConfig": [{"name": "Bastion", "desiredState": "DISABLED"}]},
        "availabilityConfig": {"recoveryAction": "RESTORE_INSTANCE", "isLiveMigrationPreferred": null},
        "availabilityDomain": "abcd:HOME-1-AD-1",
        "compartmentId": COMPARTMENT,
        "definedTags": {"Oracle-Tags": {"CreatedBy": "someone"}},
        "displayName": "one",
        "extendedMetadata": {"a": {"b": 1}},
        "faultDomain": "FAULT-DOMAIN-1",
        "freeformTags": {"a": "b"},
        "instanceOptions": {"areLegacyImdsEndpointsDisabled": true},
        "isAIEnterpriseEnabled": false,
        "launchMode": "CUSTOM",
        "launchOptions": {"bootVolumeType": "ISCSI", "firmware": "UEFI_64", "networkType": "VFIO",
            "remoteDataVolumeType": "NVME", "isConsistentVolumeNamingEnabled": true,
            "isEncryptionInTransitEnabled": null, "isPvEncryptionInTransitEnabled": false},
        "lifecycleState": "CREATING_IMAGE",
        "metadata": {"ssh_authorized_keys": "ssh-ed25519 AAAA"},
        "region": "home-1",
        "shape": "VM.Standard.E4.Flex",
        "shapeConfig": {},
        "sourceDetails": {"sourceType": "bootVolume", "bootVolumeId": "ocid1.bootvolume.oc99.home-1.aaaa"},
        "systemTags": {},
        "timeCreated": TIME,
    })
    .as_object()
    .map(|object| {
        let mut object = object.clone();
        object["shapeConfig"] = json!({
            "baselineOcpuUtilization": "BASELINE_1_8", "ocpus": 1.0, "memoryInGBs": 0.5, "vcpus": 2,
            "gpuDescription": null, "gpus": 0, "localDiskDescription": null, "localDisks": 0,
            "localDisksTotalSizeInGBs": null, "localVolumeSizeInGBs": null, "maxVnicAttachments": 2,
            "networkingBandwidthInGbps": 1.0, "processorDescription": "any", "resourceManagement": null,
        });
        Value::Object(object)
    })
    .unwrap());
    assert_eq!(written["imageId"], Value::Null);
}

#[test]
fn a_shape_and_a_work_request_read_back_as_they_were_written() {
    round_trips::<Shape>(&json!({
        "shape": "VM.Standard.E4.Flex", "isFlexible": true, "ocpus": 1.0, "memoryInGBs": 16.0,
        "ocpuOptions": {"min": 1.0, "max": 64.0, "maxPerNumaNode": null},
        "memoryOptions": {"minInGBs": 1.0, "maxInGBs": 1024.0, "defaultPerOcpuInGBs": 16.0,
            "minPerOcpuInGBs": 1.0, "maxPerOcpuInGBs": 64.0, "maxPerNumaNodeInGBs": null},
        "baselineOcpuUtilizations": ["BASELINE_1_8"], "rdmaBandwidthInGbps": 0, "billingType": "PAID",
    }));
    round_trips::<WorkRequest>(&json!({
        "id": "ocid1.coreservicesworkrequest.oc99.home-1.aaaa", "compartmentId": COMPARTMENT,
        "operationType": "Create Image", "percentComplete": 12.5, "status": "IN_PROGRESS",
        "resources": [{"actionType": "CREATED", "entityType": "image", "entityUri": null,
            "identifier": "ocid1.image.oc99.home-1.aaaa"}],
        "timeAccepted": TIME, "timeStarted": null, "timeFinished": null,
    }));
}

#[test]
fn sources_are_tagged_by_their_type() {
    let source = InstanceSourceDetails::BootVolume(InstanceSourceViaBootVolumeDetails {
        boot_volume_id: "ocid1.bootvolume.oc99.home-1.aaaa".parse().unwrap(),
    });
    let written = serde_json::to_value(&source).unwrap();
    let expected =
        json!({"sourceType": "bootVolume", "bootVolumeId": "ocid1.bootvolume.oc99.home-1.aaaa"});
    assert_eq!(written, expected);
    assert_eq!(serde_json::from_value::<InstanceSourceDetails>(written).unwrap(), source);
    let import = json!({
        "compartmentId": COMPARTMENT, "displayName": "x",
        "launchOptions": {"firmware": "BIOS"},
        "imageSourceDetails": {"sourceType": "objectStorageUri", "sourceUri": "https://x/o",
            "sourceImageType": "QCOW2"},
    });
    let details: CreateImageDetails = serde_json::from_value(import.clone()).unwrap();
    let written = serde_json::to_value(&details).unwrap();
    assert_eq!(written["imageSourceDetails"]["sourceType"], "objectStorageUri");
    assert_eq!(written["imageSourceDetails"]["sourceUri"], "https://x/o");
    assert_eq!(serde_json::from_value::<CreateImageDetails>(written).unwrap(), details);
}

#[test]
fn what_a_client_builds_the_server_reads() {
    let details = LaunchInstanceDetails::new(
        COMPARTMENT.parse().unwrap(),
        "abcd:HOME-1-AD-1".parse().unwrap(),
    );
    let written = serde_json::to_vec(&details).unwrap();
    assert_eq!(calotype_api::body::from_json::<LaunchInstanceDetails>(&written).unwrap(), details);
}

#[test]
fn words_parse_in_any_case_and_name_the_allowed_ones() {
    assert_eq!("succeeded".parse(), Ok(WorkRequestStatus::Succeeded));
    let error = "done".parse::<WorkRequestStatus>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "must be one of ACCEPTED, IN_PROGRESS, FAILED, SUCCEEDED, CANCELING, CANCELED"
    );
}
