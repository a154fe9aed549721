//! The region's capability schema: what any image can be allowed. It has versions, one data file each;
//! an image's schema keeps to the version it was made for.

use std::sync::LazyLock;

use calotype_api::capability_schemas::{
    ComputeGlobalImageCapabilitySchema, ComputeGlobalImageCapabilitySchemaVersion,
    ComputeGlobalImageCapabilitySchemaVersionSummary, SchemaData,
};
use calotype_api::error::ApiError;
use calotype_api::ocid::{Ocid, RANDOM_BYTES};
use calotype_api::tags::{DefinedTags, FreeformTags};
use calotype_api::time::Time;
use serde::Deserialize;

use crate::app::{Context, identity, page_of};
use crate::config::Config;
use crate::http::{Reply, Request};

/// As in OCI.
const DISPLAY_NAME: &str = "OCI.ComputeGlobalImageCapabilitySchema";

static VERSIONS: LazyLock<Vec<Version>> = LazyLock::new(|| {
    let files = [
        include_str!("versions/02b83c1f-a4db-4867-80df-d50d50f3b759.json"),
        include_str!("versions/807910c5-d2a8-4c82-8dec-7ebe22b841c3.json"),
    ];
    let read = |file| serde_json::from_str(file).expect("the versions of the schema are valid");
    files.into_iter().map(read).collect()
});

/// A version of the schema, as its file has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// A UUID.
    pub name: String,
    time_created: Time,
    /// What can be allowed.
    pub schema_data: SchemaData,
}

/// The version that new schemas are made for.
pub fn current() -> &'static Version {
    VERSIONS.last().expect("there is a version of the schema")
}

/// The version of that name.
pub fn version(name: &str) -> Option<&'static Version> {
    VERSIONS.iter().find(|version| version.name == name)
}

/// Names of all versions, oldest first.
pub(super) fn names() -> Vec<&'static str> {
    VERSIONS.iter().map(|version| version.name.as_str()).collect()
}

/// The schema's OCID, which is the same for as long as there is the region.
pub fn id(config: &Config) -> Ocid {
    let mut digest = blake3::Hasher::new();
    for part in ["global image capability schema", &config.tenancy, &config.region] {
        digest.update(part.as_bytes()).update(&[0]);
    }
    let mut unique = [0; RANDOM_BYTES];
    digest.finalize_xof().fill(&mut unique);
    Ocid::new("computeglobalimgcapschema", &config.realm, Some(&config.region), &unique)
        .expect("the region's own OCIDs have these parts")
}

fn schema(config: &Config) -> ComputeGlobalImageCapabilitySchema {
    ComputeGlobalImageCapabilitySchema {
        compartment_id: None,
        current_version_name: Some(current().name.clone()),
        defined_tags: DefinedTags::new(),
        display_name: DISPLAY_NAME.to_owned(),
        freeform_tags: FreeformTags::new(),
        id: id(config),
        time_created: VERSIONS[0].time_created,
    }
}

/// Whether the request's filter lets the one display name through.
fn is_wanted(request: &Request) -> Result<bool, ApiError> {
    Ok(request.query::<String>("displayName")?.is_none_or(|name| name == DISPLAY_NAME))
}

/// The region has one schema: no other id is known.
fn check_id(context: &Context, request: &Request) -> Result<Ocid, ApiError> {
    let asked: Ocid = request.path("computeGlobalImageCapabilitySchemaId")?;
    if asked == id(&context.region.config) {
        return Ok(asked);
    }
    Err(ApiError::not_authorized_or_not_found())
}

/// `ListComputeGlobalImageCapabilitySchemas`: one.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    if let Some(compartment) = request.query::<Ocid>("compartmentId")? {
        identity::compartment_exists(&context, &compartment).await?;
    }
    let mut schemas = vec![schema(&context.region.config)];
    if !is_wanted(&request)? {
        schemas.clear();
    }
    page_of(&request, &schemas)
}

/// `GetComputeGlobalImageCapabilitySchema`.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    check_id(&context, &request)?;
    Ok(Reply::ok(&schema(&context.region.config))?.etag(&current().name))
}

/// `ListComputeGlobalImageCapabilitySchemaVersions`. All have one display name, so either order is by time.
pub async fn list_versions(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = check_id(&context, &request)?;
    let summary = |version: &Version| ComputeGlobalImageCapabilitySchemaVersionSummary {
        compute_global_image_capability_schema_id: id.clone(),
        display_name: Some(DISPLAY_NAME.to_owned()),
        name: version.name.clone(),
        time_created: version.time_created,
    };
    let wanted = is_wanted(&request)?;
    let mut versions: Vec<_> = VERSIONS.iter().filter(|_| wanted).map(summary).collect();
    let by_name = request.query::<String>("sortBy")?.as_deref() == Some("DISPLAYNAME");
    let ascending = match request.query::<String>("sortOrder")?.as_deref() {
        Some(order) => order == "ASC",
        None => by_name,
    };
    if !ascending {
        versions.reverse();
    }
    page_of(&request, &versions)
}

/// `GetComputeGlobalImageCapabilitySchemaVersion`.
pub async fn get_version(context: Context, request: Request) -> Result<Reply, ApiError> {
    let id = check_id(&context, &request)?;
    let name: String = request.path("computeGlobalImageCapabilitySchemaVersionName")?;
    let version = version(&name).ok_or_else(ApiError::not_authorized_or_not_found)?;
    let shown = ComputeGlobalImageCapabilitySchemaVersion {
        compute_global_image_capability_schema_id: id,
        display_name: DISPLAY_NAME.to_owned(),
        name: version.name.clone(),
        schema_data: version.schema_data.clone(),
        time_created: version.time_created,
    };
    Ok(Reply::ok(&shown)?.etag(&version.name))
}
