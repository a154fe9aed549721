//! Request bodies: whatever is wrong with one, the answer names the field.

use calotype_api::body::from_json;
use calotype_api::images::{CreateImageDetails, LaunchMode, UpdateImageDetails};
use calotype_api::instances::LaunchInstanceDetails;
use calotype_api::sources::InstanceSourceDetails;
use calotype_api::{ApiError, ErrorCode};
use serde_json::{Value, json};

const COMPARTMENT: &str = "ocid1.tenancy.oc99..aaaa";
const IMAGE: &str = "ocid1.image.oc99.home-1.aaaa";

fn launch(change: impl FnOnce(&mut Value)) -> Result<LaunchInstanceDetails, ApiError> {
    let mut body = json!({
        "availabilityDomain": "abcd:HOME-1-AD-1",
        "compartmentId": COMPARTMENT,
        "shape": "VM.Standard.E4.Flex",
        "sourceDetails": {"sourceType": "image", "imageId": IMAGE},
    });
    change(&mut body);
    from_json(body.to_string().as_bytes())
}

fn refuses(change: impl FnOnce(&mut Value), code: ErrorCode, message: &str) {
    assert_eq!(launch(change).unwrap_err(), ApiError::new(code, message));
}

#[test]
fn names_a_field_that_is_absent() {
    let missing = ErrorCode::MissingParameter;
    refuses(
        |b| drop(b.as_object_mut().unwrap().remove("compartmentId")),
        missing,
        "compartmentId may not be empty",
    );
    refuses(
        |b| b["sourceDetails"] = json!({"imageId": IMAGE}),
        missing,
        "sourceDetails.sourceType may not be empty",
    );
}

#[test]
fn names_a_field_of_the_wrong_type_size_or_form() {
    let invalid = ErrorCode::InvalidParameter;
    let check = |change: fn(&mut Value), message: &str| refuses(change, invalid, message);
    check(
        |b| b["displayName"] = json!("x".repeat(256)),
        "displayName size must be between 1 and 255",
    );
    check(|b| b["displayName"] = json!(""), "displayName size must be between 1 and 255");
    check(
        |b| b["displayName"] = json!(5),
        "displayName: invalid type: integer `5`, expected a string",
    );
    check(
        |b| b["compartmentId"] = json!("root"),
        "compartmentId must be an OCID of the form ocid1.<type>.<realm>.[region].<unique>",
    );
    check(
        |b| b["sourceDetails"]["bootVolumeSizeInGBs"] = json!("50"),
        "sourceDetails.bootVolumeSizeInGBs: invalid type: string \"50\", expected u64",
    );
    check(
        |b| b["metadata"] = json!({"a": 1}),
        "metadata.a: invalid type: integer `1`, expected a string",
    );
}

#[test]
fn names_a_field_that_is_not_known() {
    let check = |change: fn(&mut Value), message: &str| {
        refuses(change, ErrorCode::InvalidParameter, message);
    };
    check(|b| b["colour"] = json!("red"), "colour is not a known field");
    check(
        |b| b["createVnicDetails"] = json!({"colour": "red"}),
        "createVnicDetails.colour is not a known field",
    );
    check(
        |b| b["sourceDetails"]["bootVolumeId"] = json!(IMAGE),
        "sourceDetails must not have bootVolumeId when sourceType is image",
    );
}

#[test]
fn names_the_words_an_enum_allows() {
    let error = from_json::<CreateImageDetails>(
        json!({"compartmentId": COMPARTMENT, "launchMode": "FAST"}).to_string().as_bytes(),
    )
    .unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidParameter);
    for word in LaunchMode::ALL {
        assert!(error.message.contains(word.as_str()), "{error}");
    }
    assert!(error.message.starts_with("launchMode: unknown variant `FAST`"), "{error}");
}

#[test]
fn repeats_only_a_part_of_what_is_long() {
    let long = "ä".repeat(50_000);
    for body in [
        json!({"shapeConfig": {"ocpus": long}}),
        json!({"metadata": {&long: 1}}),
        json!({&long: 1}),
    ] {
        let error = from_json::<LaunchInstanceDetails>(body.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidParameter);
        assert!(error.message.len() < 2048 && error.message.contains("ää…ää"), "{error}");
    }
    let mode = json!({"compartmentId": COMPARTMENT, "launchMode": long}).to_string();
    let error = from_json::<CreateImageDetails>(mode.as_bytes()).unwrap_err();
    assert!(error.message.starts_with("launchMode: unknown variant `ää"), "{error}");
    assert!(error.message.ends_with("`CUSTOM`"), "{error}");
}

#[test]
fn what_is_no_json_cannot_be_parsed() {
    for body in ["{", "nonsense", "{} {}", "{\"displayName\": \"\\ud800\"}", "\u{feff}{}"] {
        let error = from_json::<UpdateImageDetails>(body.as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::CannotParseRequest, "{body}: {error}");
    }
    let error = from_json::<UpdateImageDetails>(b"{\"displayName\": \"\xff\"}").unwrap_err();
    assert_eq!(error.code, ErrorCode::CannotParseRequest);
    let deep = "[".repeat(100_000);
    let body = format!("{{\"definedTags\": {{\"a\": {{\"b\": {deep}");
    let error = from_json::<UpdateImageDetails>(body.as_bytes()).unwrap_err();
    assert_eq!(error.code, ErrorCode::CannotParseRequest);
}

#[test]
fn another_json_value_than_an_object_is_named_as_the_body() {
    let error = from_json::<UpdateImageDetails>(b"5").unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidParameter);
    assert!(error.message.starts_with("body: invalid type: integer `5`"), "{error}");
}

#[test]
fn an_empty_body_reads_as_an_empty_object() {
    assert_eq!(from_json::<UpdateImageDetails>(b"").unwrap(), UpdateImageDetails::default());
    let error = from_json::<CreateImageDetails>(b"").unwrap_err();
    assert_eq!(error.code, ErrorCode::MissingParameter);
}

#[test]
fn explicit_nulls_are_absent_fields() {
    let details = launch(|b| b["displayName"] = Value::Null).unwrap();
    assert_eq!(details.display_name, None);
    let Some(InstanceSourceDetails::Image(source)) = details.source_details else {
        panic!("not an image source");
    };
    assert_eq!(source.image_id.unwrap().as_str(), IMAGE);
}
