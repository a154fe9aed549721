//! Any bytes as the JSON body of every request there is.

use calotype_api::ErrorCode;
use calotype_api::app_catalog::CreateAppCatalogSubscriptionDetails;
use calotype_api::body::from_json;
use calotype_api::boot_volumes::{
    AttachBootVolumeDetails, ChangeBootVolumeCompartmentDetails, UpdateBootVolumeDetails,
};
use calotype_api::buckets::{CreateBucketDetails, UpdateBucketDetails};
use calotype_api::capability_schemas::{
    ChangeComputeImageCapabilitySchemaCompartmentDetails,
    CreateComputeImageCapabilitySchemaDetails, UpdateComputeImageCapabilitySchemaDetails,
};
use calotype_api::console_connections::{
    CreateInstanceConsoleConnectionDetails, UpdateInstanceConsoleConnectionDetails,
};
use calotype_api::console_histories::{CaptureConsoleHistoryDetails, UpdateConsoleHistoryDetails};
use calotype_api::identity::CreateCompartmentDetails;
use calotype_api::images::{ChangeImageCompartmentDetails, CreateImageDetails, UpdateImageDetails};
use calotype_api::instance_actions::{
    ChangeInstanceCompartmentDetails, InstancePowerActionDetails,
};
use calotype_api::instances::{LaunchInstanceDetails, UpdateInstanceDetails};
use calotype_api::networks::{
    CreateSubnetDetails, CreateVcnDetails, GetPublicIpByIpAddressDetails,
    GetPublicIpByPrivateIpIdDetails, UpdatePrivateIpDetails, UpdatePublicIpDetails,
    UpdateSubnetDetails, UpdateVcnDetails, UpdateVnicDetails,
};
use calotype_api::objects::{
    CommitMultipartUploadDetails, CopyObjectDetails, CreateMultipartUploadDetails,
    RenameObjectDetails,
};
use calotype_api::preauthenticated_requests::CreatePreauthenticatedRequestDetails;
use calotype_api::shape_compatibility::AddImageShapeCompatibilityEntryDetails;
use calotype_api::sources::ExportImageDetails;
use calotype_api::tag_definitions::{
    CreateTagDefaultDetails, CreateTagDetails, CreateTagNamespaceDetails, UpdateTagDefaultDetails,
    UpdateTagDetails, UpdateTagNamespaceDetails,
};
use calotype_api::vcn_parts::{
    CreateDhcpDetails, CreateInternetGatewayDetails, CreateNetworkSecurityGroupDetails,
    CreateRouteTableDetails, CreateSecurityListDetails, UpdateDhcpDetails,
    UpdateInternetGatewayDetails, UpdateRouteTableDetails, UpdateSecurityListDetails,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nobody reads more, and an answer that grows with the question is a lever.
const MESSAGE_BYTES_MAX: usize = 2048;

pub(crate) fn run(data: &[u8]) {
    check::<CreateAppCatalogSubscriptionDetails>(data);
    check::<AttachBootVolumeDetails>(data);
    check::<ChangeBootVolumeCompartmentDetails>(data);
    check::<UpdateBootVolumeDetails>(data);
    check::<CreateBucketDetails>(data);
    check::<UpdateBucketDetails>(data);
    check::<ChangeComputeImageCapabilitySchemaCompartmentDetails>(data);
    check::<CreateComputeImageCapabilitySchemaDetails>(data);
    check::<UpdateComputeImageCapabilitySchemaDetails>(data);
    check::<CreateInstanceConsoleConnectionDetails>(data);
    check::<UpdateInstanceConsoleConnectionDetails>(data);
    check::<CaptureConsoleHistoryDetails>(data);
    check::<UpdateConsoleHistoryDetails>(data);
    check::<CreateCompartmentDetails>(data);
    check::<ChangeImageCompartmentDetails>(data);
    check::<CreateImageDetails>(data);
    check::<UpdateImageDetails>(data);
    check::<ChangeInstanceCompartmentDetails>(data);
    check::<InstancePowerActionDetails>(data);
    check::<LaunchInstanceDetails>(data);
    check::<UpdateInstanceDetails>(data);
    check::<CreateSubnetDetails>(data);
    check::<CreateVcnDetails>(data);
    check::<GetPublicIpByIpAddressDetails>(data);
    check::<GetPublicIpByPrivateIpIdDetails>(data);
    check::<UpdatePrivateIpDetails>(data);
    check::<UpdatePublicIpDetails>(data);
    check::<UpdateSubnetDetails>(data);
    check::<UpdateVcnDetails>(data);
    check::<UpdateVnicDetails>(data);
    check::<CommitMultipartUploadDetails>(data);
    check::<CopyObjectDetails>(data);
    check::<CreateMultipartUploadDetails>(data);
    check::<RenameObjectDetails>(data);
    check::<CreatePreauthenticatedRequestDetails>(data);
    check::<AddImageShapeCompatibilityEntryDetails>(data);
    check::<ExportImageDetails>(data);
    check::<CreateTagDefaultDetails>(data);
    check::<CreateTagDetails>(data);
    check::<CreateTagNamespaceDetails>(data);
    check::<UpdateTagDefaultDetails>(data);
    check::<UpdateTagDetails>(data);
    check::<UpdateTagNamespaceDetails>(data);
    check::<CreateDhcpDetails>(data);
    check::<CreateInternetGatewayDetails>(data);
    check::<CreateNetworkSecurityGroupDetails>(data);
    check::<CreateRouteTableDetails>(data);
    check::<CreateSecurityListDetails>(data);
    check::<UpdateDhcpDetails>(data);
    check::<UpdateInternetGatewayDetails>(data);
    check::<UpdateRouteTableDetails>(data);
    check::<UpdateSecurityListDetails>(data);
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
