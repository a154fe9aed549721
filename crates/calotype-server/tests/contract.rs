//! The published API is the contract: every operation of the table, and every type on the wire, is held
//! against it, so that a misspelt name fails here and not in somebody's client.
//!
//! `contract/oci-api.json` describes the API as the official clients know it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use calotype_server::operations::{self, Body, Operation, Service};
use serde_json::Value;

mod contract {
    pub(crate) mod models;
    pub(crate) mod samples;
}

/// The published API.
pub(crate) static API: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("contract/oci-api.json")).expect("the document is JSON")
});

fn client_of(service: Service) -> Option<&'static str> {
    match service {
        Service::Compute => Some("ComputeClient"),
        Service::Blockstorage => Some("BlockstorageClient"),
        Service::VirtualNetwork => Some("VirtualNetworkClient"),
        Service::Identity => Some("IdentityClient"),
        Service::WorkRequest => Some("WorkRequestClient"),
        Service::ObjectStorage => Some("ObjectStorageClient"),
        Service::Preauthenticated | Service::Calotype => None,
    }
}

/// Our rows, each with the published description of the operation of its name.
fn rows() -> Vec<(&'static Operation, &'static Value)> {
    let published = API["operations"].as_object().expect("operations are an object");
    operations::all()
        .filter_map(|row| Some((row, client_of(row.service)?)))
        .map(|(row, client)| {
            let same = |one: &&Value| one["operation_id"] == row.name && one["client"] == client;
            let found = published.values().find(same);
            (row, found.unwrap_or_else(|| panic!("{client} has no operation {}", row.name)))
        })
        .collect()
}

fn words(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn every_operation_has_the_published_method_and_path() {
    assert!(rows().len() > 40);
    for (row, published) in rows() {
        assert_eq!(row.method.as_str(), published["method"], "{}", row.name);
        assert_eq!(row.path, published["full_path"], "{}", row.name);
    }
}

#[test]
fn every_operation_takes_the_published_query_parameters() {
    for (row, published) in rows() {
        let published = published["query_params"].as_array().expect("parameters are an array");
        let theirs: BTreeMap<_, _> = published
            .iter()
            .map(|one| {
                let required = one["required"].as_bool().unwrap_or(false);
                (one["name"].as_str().unwrap(), (required, words(&one["enum"])))
            })
            .collect();
        let ours: BTreeMap<_, _> = row
            .query
            .iter()
            .map(|one| (one.name, (one.required, one.values.iter().copied().collect())))
            .collect();
        assert_eq!(ours.len(), row.query.len(), "{} names a parameter twice", row.name);
        assert_eq!(ours, theirs, "{}", row.name);
    }
}

#[test]
fn every_operation_reads_a_body_where_the_published_one_does() {
    for (row, published) in rows() {
        let theirs = match &published["body"] {
            Value::Null => Body::None,
            body if body["raw_stream"] == true => Body::Stream,
            body if body["required"] == true => Body::Json,
            _ => Body::OptionalJson,
        };
        assert_eq!(row.body, theirs, "{}", row.name);
    }
}

#[test]
fn every_parameter_of_a_path_is_the_target_of_nothing_else() {
    for row in operations::all() {
        for (permission, target) in row.permissions {
            let operations::Target::Path(name) = target else { continue };
            let segment = format!("{{{name}}}");
            assert!(row.path.contains(&segment), "{}: {permission} on {name}", row.name);
        }
    }
}

#[test]
fn no_two_operations_have_the_same_name_or_place() {
    let mut names = BTreeSet::new();
    let mut places = BTreeMap::<_, &Operation>::new();
    for row in operations::all() {
        // Clients of two services may call different operations the same, and have the same one at the same place.
        let name = (client_of(row.service), row.name);
        assert!(names.insert(name), "{} stands twice in the table", row.name);
        let place = (row.method.as_str(), row.path);
        if let Some(other) = places.insert(place, row) {
            assert_eq!(other.name, row.name, "{place:?} stands twice in the table");
        }
    }
}

#[test]
fn what_is_not_of_the_published_api_lies_beside_it() {
    for row in operations::all().filter(|row| row.service == Service::Calotype) {
        assert!(row.path.starts_with("/calotype/"), "{}", row.path);
    }
}

#[test]
fn whatever_is_not_signed_has_a_secret_in_its_path() {
    for row in operations::all() {
        let is_bearers = row.service == Service::Preauthenticated;
        assert_eq!(row.path.starts_with("/p/{token}/"), is_bearers, "{}", row.name);
    }
}

#[test]
fn the_bodies_that_are_not_signed_are_those_that_clients_do_not_sign() {
    for (row, published) in rows() {
        let unsigned = published["signed_without_body_headers"] == true;
        assert_eq!(row.body == Body::Stream, unsigned, "{}", row.name);
    }
}
