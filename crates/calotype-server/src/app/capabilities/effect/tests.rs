//! What schemas do to launches.

use calotype_api::images::{Image, ImageState, ListingType};
use calotype_api::tags::{DefinedTags, FreeformTags};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::app::images::lifecycle::ImageLifecycle;

const ID: &str = "ocid1.image.oc99.home-1.aaaa";

fn image(mode: LaunchMode, is_captured: bool) -> ImageRecord {
    let id: calotype_api::Ocid = ID.parse().unwrap();
    ImageRecord {
        resource: Image {
            id: id.clone(),
            agent_features: None,
            base_image_id: is_captured.then_some(id),
            billable_size_in_gbs: None,
            compartment_id: None,
            create_image_allowed: true,
            defined_tags: DefinedTags::new(),
            display_name: "image".into(),
            freeform_tags: FreeformTags::new(),
            launch_mode: mode,
            launch_options: images::preset(mode),
            lifecycle_state: ImageState::Available,
            listing_type: ListingType::None,
            operating_system: "Custom".into(),
            operating_system_version: "Custom".into(),
            size_in_mbs: None,
            time_created: Timestamp::UNIX_EPOCH.into(),
        },
        manifest: None,
        size_bytes: 0,
        compatible_shapes: Vec::new(),
        chosen_shapes: None,
        capabilities: None,
        lifecycle: ImageLifecycle::default(),
    }
}

fn words(values: &[&str], default: Option<&str>) -> Value {
    let mut said = json!({ "descriptorType": "enumstring", "source": "IMAGE", "values": values });
    if let Some(default) = default {
        said["defaultValue"] = default.into();
    }
    said
}

fn launch(
    image: &ImageRecord,
    schema: Value,
    asked: Option<&LaunchOptions>,
) -> Result<(LaunchMode, LaunchOptions), ApiError> {
    let data = serde_json::from_value(schema).unwrap();
    effective(image, Some(global::current()), &data, asked)
}

#[test]
fn the_default_of_an_element_of_the_image_stands_for_the_images_option() {
    let image = image(LaunchMode::Paravirtualized, false);
    let schema = json!({
        "Compute.Firmware": words(&["BIOS", "UEFI_64"], Some("UEFI_64")),
        "Network.AttachmentType": words(&["E1000"], None),
        "Storage.BootVolumeType": words(&["PARAVIRTUALIZED", "NVME"], None),
        "Storage.RemoteDataVolumeType": words(&["SCSI"], Some("SCSI")),
        "Storage.ConsistentVolumeNaming": {
            "descriptorType": "boolean", "source": "IMAGE", "defaultValue": false,
        },
    });
    let (mode, options) = launch(&image, schema, None).unwrap();
    assert_eq!(mode, LaunchMode::Paravirtualized);
    assert_eq!(options.firmware, Some(Firmware::Uefi64));
    // The first that is allowed, or the image's own if it is.
    assert_eq!(options.network_type, Some(NetworkType::E1000));
    assert_eq!(options.boot_volume_type, Some(VolumeType::Paravirtualized));
    assert_eq!(options.remote_data_volume_type, Some(VolumeType::Scsi));
    assert_eq!(options.is_consistent_volume_naming_enabled, Some(false));
}

#[test]
fn an_element_of_the_region_overrides_nothing() {
    let image = image(LaunchMode::Paravirtualized, false);
    let mut firmware = words(&["UEFI_64"], Some("UEFI_64"));
    firmware["source"] = "GLOBAL".into();
    let bios = LaunchOptions { firmware: Some(Firmware::Bios), ..LaunchOptions::default() };
    let schema = json!({ "Compute.Firmware": firmware });
    assert_eq!(launch(&image, schema, Some(&bios)).unwrap().1.firmware, Some(Firmware::Bios));
}

#[test]
fn a_launch_mode_sets_all_options_but_the_firmware_and_single_elements_come_over_it() {
    let image = image(LaunchMode::Native, true);
    let modes = &["NATIVE", "EMULATED", "PARAVIRTUALIZED", "CUSTOM"];
    let schema = |mode: &str| json!({ "Compute.LaunchMode": words(modes, Some(mode)) });
    let (mode, options) = launch(&image, schema("EMULATED"), None).unwrap();
    assert_eq!(mode, LaunchMode::Emulated);
    assert_eq!(options.network_type, Some(NetworkType::E1000));
    assert_eq!(options.boot_volume_type, Some(VolumeType::Scsi));
    assert_eq!(options.firmware, image.resource.launch_options.firmware);

    let mut both = schema("EMULATED");
    both["Storage.BootVolumeType"] = words(&["IDE"], Some("IDE"));
    let (_, options) = launch(&image, both, None).unwrap();
    assert_eq!(options.boot_volume_type, Some(VolumeType::Ide));
    assert_eq!(options.network_type, Some(NetworkType::E1000));

    let (mode, options) = launch(&image, schema("CUSTOM"), None).unwrap();
    assert_eq!((mode, options), (LaunchMode::Custom, image.resource.launch_options));
}

#[test]
fn what_a_schema_does_not_list_is_refused_with_element_value_and_what_is_allowed() {
    let image = image(LaunchMode::Paravirtualized, false);
    let schema = json!({
        "Compute.Firmware": words(&["UEFI_64"], Some("UEFI_64")),
        "Storage.BootVolumeType": words(&["PARAVIRTUALIZED", "SCSI"], Some("SCSI")),
    });
    let asked = |firmware, boot_volume_type| {
        let asked = LaunchOptions { firmware, boot_volume_type, ..LaunchOptions::default() };
        launch(&image, schema.clone(), Some(&asked))
    };
    let error = asked(Some(Firmware::Bios), None).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidParameter);
    assert_eq!(
        error.message,
        format!(
            "launchOptions.firmware BIOS is not valid for image {ID}: Compute.Firmware of its \
             capability schema allows UEFI_64"
        )
    );
    let error = asked(None, Some(VolumeType::Ide)).unwrap_err();
    assert!(error.message.ends_with("allows PARAVIRTUALIZED, SCSI"), "{error}");
    let (_, options) = asked(None, Some(VolumeType::Paravirtualized)).unwrap();
    assert_eq!(options.boot_volume_type, Some(VolumeType::Paravirtualized));
    assert_eq!(options.firmware, Some(Firmware::Uefi64));
}

#[test]
fn packers_copy_of_the_global_schema_leaves_a_captured_image_as_it_boots() {
    let mut copy = serde_json::to_value(&global::current().schema_data).unwrap();
    for element in copy.as_object_mut().unwrap().values_mut() {
        element["source"] = "IMAGE".into();
    }
    let captured = image(LaunchMode::Emulated, true);
    let own = (captured.resource.launch_mode, captured.resource.launch_options.clone());
    assert_eq!(launch(&captured, copy.clone(), None).unwrap(), own);
    // Then it sets what the template says.
    copy["Network.AttachmentType"] = words(&["E1000", "VFIO", "PARAVIRTUALIZED"], Some("VFIO"));
    let (_, options) = launch(&captured, copy.clone(), None).unwrap();
    assert_eq!(options, LaunchOptions { network_type: Some(NetworkType::Vfio), ..own.1 });
    // Of an import nobody knows how it boots: the schema decides.
    let imported = image(LaunchMode::Emulated, false);
    let (_, options) = launch(&imported, copy, None).unwrap();
    assert_eq!(options.firmware, Some(Firmware::Uefi64));
    assert_eq!(options.boot_volume_type, Some(VolumeType::Paravirtualized));
}
