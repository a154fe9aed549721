//! Every type on the wire beside the published model of its name.

use calotype_api::{
    app_catalog, boot_volumes, buckets, capability_schemas, console_connections, console_histories,
    identity, images, instance_actions, instances, networks, objects, platform_config,
    preauthenticated_requests, shape_compatibility, shapes, sources, tag_definitions, vcn_parts,
    work_requests,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::samples::{attributes, object};

/// Which way a type travels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In a request: what is absent or unknown in it is refused.
    Asked,
    /// In an answer: what clients need in it is there.
    Answered,
}

/// A type of ours as the tests use it: reads an object and writes it again.
struct Row {
    service: &'static str,
    model: &'static str,
    way: Way,
    again: fn(&Map<String, Value>) -> Result<Value, String>,
}

fn again<T: Serialize + DeserializeOwned>(object: &Map<String, Value>) -> Result<Value, String> {
    let read: T =
        serde_json::from_value(Value::Object(object.clone())).map_err(|e| e.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

macro_rules! rows {
    ($($service:literal $way:ident: $($module:ident::$model:ident),+;)+) => {
        &[$($(Row {
            service: $service,
            model: stringify!($model),
            way: Way::$way,
            again: again::<$module::$model>,
        }),+),+]
    };
}

const ROWS: &[Row] = rows! {
    "core" Answered: images::Image, images::InstanceAgentFeatures, instances::Instance,
        instances::InstanceShapeConfig, instances::InstanceAvailabilityConfig,
        instances::InstanceAgentConfig, platform_config::AmdVmPlatformConfig,
        boot_volumes::BootVolume, boot_volumes::BootVolumeAttachment,
        console_histories::ConsoleHistory,
        console_connections::InstanceConsoleConnection, instance_actions::Device, networks::Vcn, networks::Subnet, networks::Vnic,
        networks::VnicAttachment, networks::PrivateIp, networks::PublicIp, shapes::Shape,
        shapes::ShapeOcpuOptions, shapes::ShapeMemoryOptions, shapes::ShapeNetworkingBandwidthOptions,
        shapes::ShapeMaxVnicAttachmentOptions, shapes::ShapeAlternativeObject,
        shape_compatibility::ImageShapeCompatibilityEntry,
        capability_schemas::ComputeGlobalImageCapabilitySchema,
        capability_schemas::ComputeGlobalImageCapabilitySchemaVersion,
        capability_schemas::ComputeGlobalImageCapabilitySchemaVersionSummary,
        capability_schemas::ComputeImageCapabilitySchema,
        capability_schemas::ComputeImageCapabilitySchemaSummary;
    "core" Asked: images::LaunchOptions, images::CreateImageDetails, images::UpdateImageDetails,
        instances::LaunchInstanceDetails, instances::UpdateInstanceDetails,
        instances::InstanceOptions, instances::CreateVnicDetails,
        instances::InstanceAgentPluginConfigDetails, instances::LaunchInstanceShapeConfigDetails,
        instances::LaunchInstanceAvailabilityConfigDetails,
        instances::LaunchInstanceAgentConfigDetails, instances::InstanceSourceImageFilterDetails,
        instances::UpdateInstanceShapeConfigDetails,
        instances::UpdateInstanceAvailabilityConfigDetails,
        instances::UpdateInstanceAgentConfigDetails, instances::UpdateLaunchOptions,
        platform_config::AmdVmLaunchInstancePlatformConfig,
        platform_config::AmdVmUpdateInstancePlatformConfig,
        sources::InstanceSourceDetails, sources::ImageSourceDetails,
        sources::UpdateInstanceSourceDetails, instance_actions::InstancePowerActionDetails,
        instance_actions::ChangeInstanceCompartmentDetails, boot_volumes::CreateBootVolumeDetails,
        boot_volumes::BootVolumeSourceDetails, boot_volumes::UpdateBootVolumeDetails,
        boot_volumes::ChangeBootVolumeCompartmentDetails, boot_volumes::AttachBootVolumeDetails,
        capability_schemas::CreateComputeImageCapabilitySchemaDetails,
        capability_schemas::UpdateComputeImageCapabilitySchemaDetails,
        capability_schemas::ChangeComputeImageCapabilitySchemaCompartmentDetails,
        capability_schemas::ImageCapabilitySchemaDescriptor,
        shape_compatibility::AddImageShapeCompatibilityEntryDetails,
        shape_compatibility::ImageMemoryConstraints, shape_compatibility::ImageOcpuConstraints,
        console_histories::CaptureConsoleHistoryDetails,
        console_histories::UpdateConsoleHistoryDetails,
        console_connections::CreateInstanceConsoleConnectionDetails,
        console_connections::UpdateInstanceConsoleConnectionDetails, networks::CreateVcnDetails,
        networks::CreateSubnetDetails, networks::AttachVnicDetails, networks::GetPublicIpByPrivateIpIdDetails,
        networks::GetPublicIpByIpAddressDetails;
    "core" Answered: networks::VcnDnsResolverAssociation, vcn_parts::InternetGateway,
        vcn_parts::RouteTable, vcn_parts::SecurityList, vcn_parts::DhcpOptions,
        vcn_parts::NetworkSecurityGroup, vcn_parts::NetworkSecurityGroupVnic;
    "core" Asked: networks::UpdateVcnDetails,
        networks::UpdateSubnetDetails, networks::UpdateVnicDetails,
        networks::UpdatePrivateIpDetails, networks::UpdatePublicIpDetails,
        vcn_parts::CreateInternetGatewayDetails, vcn_parts::UpdateInternetGatewayDetails,
        vcn_parts::CreateRouteTableDetails, vcn_parts::UpdateRouteTableDetails,
        vcn_parts::CreateSecurityListDetails, vcn_parts::UpdateSecurityListDetails,
        vcn_parts::CreateDhcpDetails, vcn_parts::UpdateDhcpDetails,
        vcn_parts::CreateNetworkSecurityGroupDetails, vcn_parts::RouteRule,
        vcn_parts::EgressSecurityRule, vcn_parts::IngressSecurityRule, vcn_parts::IcmpOptions,
        vcn_parts::TcpOptions, vcn_parts::UdpOptions, vcn_parts::PortRange;
    "core" Answered: app_catalog::AppCatalogListing, app_catalog::AppCatalogListingSummary,
        app_catalog::AppCatalogListingResourceVersion,
        app_catalog::AppCatalogListingResourceVersionSummary,
        app_catalog::AppCatalogListingResourceVersionAgreements,
        app_catalog::AppCatalogSubscription, app_catalog::AppCatalogSubscriptionSummary;
    "core" Asked: app_catalog::CreateAppCatalogSubscriptionDetails;
    "identity" Answered: identity::Tenancy, identity::Compartment, identity::AvailabilityDomain,
        identity::FaultDomain, identity::Region, identity::RegionSubscription,
        tag_definitions::TagNamespace, tag_definitions::Tag,
        tag_definitions::TagSummary, tag_definitions::TagDefault,
        tag_definitions::TagDefaultSummary;
    "identity" Asked: identity::CreateCompartmentDetails, identity::UpdateCompartmentDetails,
        identity::MoveCompartmentDetails,
        tag_definitions::CreateTagNamespaceDetails, tag_definitions::UpdateTagNamespaceDetails,
        tag_definitions::CreateTagDetails, tag_definitions::UpdateTagDetails,
        tag_definitions::CreateTagDefaultDetails, tag_definitions::UpdateTagDefaultDetails;
    "object_storage" Answered: buckets::Bucket, buckets::BucketSummary, buckets::NamespaceMetadata,
        objects::ListObjects, objects::ObjectSummary, objects::MultipartUpload,
        objects::MultipartUploadPartSummary, objects::WorkRequest, objects::WorkRequestResource,
        preauthenticated_requests::PreauthenticatedRequest,
        preauthenticated_requests::PreauthenticatedRequestSummary;
    "object_storage" Asked: buckets::CreateBucketDetails, buckets::UpdateBucketDetails,
        objects::CopyObjectDetails, objects::RenameObjectDetails,
        objects::CreateMultipartUploadDetails, objects::CommitMultipartUploadDetails,
        objects::CommitMultipartUploadPartDetails,
        preauthenticated_requests::CreatePreauthenticatedRequestDetails;
    "work_requests" Answered: work_requests::WorkRequest, work_requests::WorkRequestSummary,
        work_requests::WorkRequestResource, work_requests::WorkRequestError,
        work_requests::WorkRequestLogEntry;
};

/// Attributes that are published, or required, in one place and rightly otherwise here.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("CreateImageDetails", "launchOptions", "stands in the service's own document, in no client"),
    ("Image", "compartmentId", "a platform image has none"),
    ("Compartment", "compartmentId", "the root compartment has none"),
];

fn excepted(model: &str, attribute: &str) -> bool {
    EXCEPTIONS.iter().any(|(of, name, _)| (*of, *name) == (model, attribute))
}

#[test]
fn every_type_has_the_published_attributes_and_no_others() {
    for row in ROWS {
        let sample = object(row.service, row.model);
        let mut written = match (row.again)(&sample) {
            Ok(Value::Object(written)) => written,
            other => panic!("{} does not read {sample:?}: {other:?}", row.model),
        };
        written.retain(|name, _| sample.contains_key(name) || !excepted(row.model, name));
        assert_eq!(written, sample, "{}", row.model);
    }
}

#[test]
fn every_closed_set_of_words_is_the_published_one() {
    for row in ROWS {
        let sample = object(row.service, row.model);
        for (name, about) in attributes(row.service, row.model) {
            if about["type"] != "str" {
                continue;
            }
            for word in about["enum"].as_array().into_iter().flatten() {
                let mut changed = sample.clone();
                changed.insert(name.clone(), word.clone());
                let written = (row.again)(&changed).unwrap_or_else(|error| {
                    panic!("{}.{name} does not know {word}: {error}", row.model)
                });
                assert_eq!(&written[name], word, "{}.{name}", row.model);
            }
            if about["enum"].is_array() {
                let mut changed = sample.clone();
                changed.insert(name.clone(), "NO_SUCH_WORD".into());
                assert!((row.again)(&changed).is_err(), "{}.{name} takes any word", row.model);
            }
        }
    }
}

#[test]
fn a_request_needs_what_is_required_and_nothing_more() {
    for row in ROWS.iter().filter(|row| row.way == Way::Asked) {
        let sample = object(row.service, row.model);
        let of = attributes(row.service, row.model);
        let required = |name: &str| of.get(name).is_none_or(|about| about["required"] == true);
        for (name, about) in of.iter().filter(|(_, about)| about["required"] == true) {
            let mut lacking = sample.clone();
            lacking.remove(name);
            assert!((row.again)(&lacking).is_err(), "{} needs no {name}: {about}", row.model);
        }
        let mut least = sample.clone();
        least.retain(|name, _| required(name));
        if let Err(error) = (row.again)(&least) {
            panic!("{} is not satisfied with {least:?}: {error}", row.model);
        }
    }
}

#[test]
fn a_request_refuses_what_is_not_published() {
    for row in ROWS.iter().filter(|row| row.way == Way::Asked) {
        let mut sample = object(row.service, row.model);
        sample.insert("colour".into(), "red".into());
        assert!((row.again)(&sample).is_err(), "{} takes anything", row.model);
    }
}

#[test]
fn an_answer_has_a_value_for_what_is_required() {
    let mut nullable = Vec::new();
    for row in ROWS.iter().filter(|row| row.way == Way::Answered) {
        let sample = object(row.service, row.model);
        for (name, about) in attributes(row.service, row.model) {
            if about["required"] != true || excepted(row.model, name) {
                continue;
            }
            let mut lacking = sample.clone();
            lacking.insert(name.clone(), Value::Null);
            if (row.again)(&lacking).is_ok() {
                nullable.push(format!("{}.{name}", row.model));
            }
        }
    }
    assert!(nullable.is_empty(), "may be null: {}", nullable.join(", "));
}
