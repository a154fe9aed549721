//! Any bytes as the JSON body of every request there is.

use calotype_api::ErrorCode;
use calotype_api::body::from_json;
use calotype_api::console_histories::CaptureConsoleHistoryDetails;
use calotype_api::identity::CreateCompartmentDetails;
use calotype_api::images::{CreateImageDetails, UpdateImageDetails};
use calotype_api::instances::{LaunchInstanceDetails, UpdateInstanceDetails};
use calotype_api::networks::{
    CreateSubnetDetails, CreateVcnDetails, GetPublicIpByIpAddressDetails,
    GetPublicIpByPrivateIpIdDetails,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nobody reads more, and an answer that grows with the question is a lever.
const MESSAGE_BYTES_MAX: usize = 2048;

pub(crate) fn run(data: &[u8]) {
    check::<CaptureConsoleHistoryDetails>(data);
    check::<CreateCompartmentDetails>(data);
    check::<CreateImageDetails>(data);
    check::<CreateSubnetDetails>(data);
    check::<CreateVcnDetails>(data);
    check::<GetPublicIpByIpAddressDetails>(data);
    check::<GetPublicIpByPrivateIpIdDetails>(data);
    check::<LaunchInstanceDetails>(data);
    check::<UpdateImageDetails>(data);
    check::<UpdateInstanceDetails>(data);
}

fn check<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) {
    match from_json::<T>(data) {
        Ok(details) => {
            let written = serde_json::to_vec(&details).unwrap();
            assert_eq!(from_json::<T>(&written).as_ref(), Ok(&details));
        }
        Err(error) => {
            let codes = [
                ErrorCode::CannotParseRequest,
                ErrorCode::InvalidParameter,
                ErrorCode::MissingParameter,
            ];
            assert!(codes.contains(&error.code), "{error}");
            let length = error.message.len();
            assert!(length <= MESSAGE_BYTES_MAX, "a message of {length} bytes");
        }
    }
}
