//! Capability schemas of images: what an image allows its instances, in place of what the region allows all.
//!
//! An image has at most one. It holds any of the elements of the version of the [`global`] schema that it
//! was made for, with a part of the values there. Elements whose source is `IMAGE` decide how instances
//! are launched: see [`effect`]. The schema ends with its image. An image that is captured, or imported
//! from an archive that has capabilities, gets its schema at the moment it becomes AVAILABLE: [`born`].

use calotype_api::capability_schemas::{
    CapabilitySchemaState, ChangeComputeImageCapabilitySchemaCompartmentDetails,
    ComputeImageCapabilitySchema, ComputeImageCapabilitySchemaSummary,
    CreateComputeImageCapabilitySchemaDetails, UpdateComputeImageCapabilitySchemaDetails,
};
use calotype_api::error::ApiError;
use calotype_api::images::ImageState;
use calotype_api::ocid::Ocid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::claims::Claim;
use super::{Context, identity, images, tags};
use crate::db::{Batch, Db, Document, Query, Versioned};
use crate::http::{Reply, Request};
use crate::records::ImageRecord;

pub mod born;
pub mod effect;
pub mod global;
mod rules;

/// The schema of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CapabilitySchemaRecord {
    /// The schema as clients see it.
    pub resource: ComputeImageCapabilitySchema,
}

impl Document for CapabilitySchemaRecord {
    const KIND: &'static str = "capability_schema";

    fn id(&self) -> String {
        self.resource.id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.resource.image_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        self.resource.compartment_id.as_ref().map(ToString::to_string)
    }

    fn state(&self) -> Option<String> {
        Some(CapabilitySchemaState::Active.as_str().to_owned())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// The schema of an image, if it has one.
pub async fn of_image(
    db: &Db,
    image_id: &Ocid,
) -> Result<Option<Versioned<CapabilitySchemaRecord>>, ApiError> {
    let found =
        db.list_all::<CapabilitySchemaRecord>(Query::new().parent(image_id.as_str())).await?;
    Ok(found.into_iter().next())
}

/// Writes a schema, and that its image has one: of two at once only one is written.
fn created(schema: &Versioned<CapabilitySchemaRecord>) -> Batch {
    let resource = &schema.resource;
    let claim = Claim {
        what: claim_of(&resource.image_id),
        scope: None,
        owner: resource.id.to_string(),
        time_created: resource.time_created.timestamp(),
    };
    Batch::new().create(schema).insert(&claim)
}

/// Deletes the schema of an image, if it has one.
async fn deleted(db: &Db, image_id: &Ocid) -> Result<Batch, ApiError> {
    let mut batch = Batch::new();
    if let Some(schema) = of_image(db, image_id).await? {
        batch = batch.delete(&schema);
    }
    if let Some(claim) = db.get::<Claim>(&claim_of(image_id)).await? {
        batch = batch.delete(&claim);
    }
    Ok(batch)
}

fn claim_of(image_id: &Ocid) -> String {
    format!("capability-schema/{image_id}")
}

/// `CreateComputeImageCapabilitySchema`.
pub async fn create(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CreateComputeImageCapabilitySchemaDetails = request.json()?;
    identity::compartment_exists(&context, &details.compartment_id).await?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags);
    let defined_tags =
        tags::on_create(&context, &details.compartment_id, freeform, defined).await?;
    let image = images::load(&context, &details.image_id).await?;
    may_have_schema(&image)?;
    let version_name = details.compute_global_image_capability_schema_version_name;
    let version = rules::version(&version_name)?;
    rules::check(version, &details.schema_data)?;
    if let Some(other) = of_image(&context.region.db, &details.image_id).await? {
        return Err(ApiError::conflict(format!(
            "Image {} already has the capability schema {}: update it, or delete it first",
            details.image_id, other.resource.id
        )));
    }
    let schema = Versioned::first(CapabilitySchemaRecord {
        resource: ComputeImageCapabilitySchema {
            compartment_id: Some(details.compartment_id),
            compute_global_image_capability_schema_id: global::id(&context.region.config),
            compute_global_image_capability_schema_version_name: version_name,
            defined_tags,
            display_name: details
                .display_name
                .map_or_else(|| born::default_name(context.now), String::from),
            freeform_tags: details.freeform_tags.unwrap_or_default(),
            id: context.region.new_id("computeimgcapschema"),
            image_id: details.image_id,
            lifecycle_state: Some(CapabilitySchemaState::Active),
            schema_data: details.schema_data,
            time_created: context.now.into(),
        },
    });
    let reply = Reply::ok(&schema.resource)?.etag(schema.etag());
    context.commit(created(&schema).require(&image), reply).await
}

/// Refuses a platform image, and one that is not there or not yet.
fn may_have_schema(image: &ImageRecord) -> Result<(), ApiError> {
    let resource = &image.resource;
    match resource.lifecycle_state {
        ImageState::Deleted => Err(ApiError::not_authorized_or_not_found()),
        _ if resource.compartment_id.is_none() => Err(ApiError::not_authorized_or_not_found()),
        ImageState::Available | ImageState::Exporting | ImageState::Disabled => Ok(()),
        state @ (ImageState::Provisioning | ImageState::Importing) => {
            Err(ApiError::incorrect_state(format!(
                "image {} is {state}: wait until it is AVAILABLE",
                resource.id
            )))
        }
    }
}

/// The schema that the path names: by its own id, or its image's.
async fn load(
    context: &Context,
    request: &Request,
) -> Result<Versioned<CapabilitySchemaRecord>, ApiError> {
    let id: Ocid = request.path("computeImageCapabilitySchemaId")?;
    if id.resource_type() != "image" {
        return super::load(context, &id).await;
    }
    let found = of_image(&context.region.db, &id).await?;
    found.ok_or_else(ApiError::not_authorized_or_not_found)
}

/// `GetComputeImageCapabilitySchema`, by schema or image; merged into the global schema if asked for.
pub async fn get(context: Context, request: Request) -> Result<Reply, ApiError> {
    let schema = load(&context, &request).await?;
    let etag = schema.etag();
    let mut resource = schema.value.resource;
    if request.query::<bool>("isMergeEnabled")?.unwrap_or(false) {
        let name = &resource.compute_global_image_capability_schema_version_name;
        let mut merged = rules::version(name)?.schema_data.clone();
        merged.extend(resource.schema_data);
        resource.schema_data = merged;
    }
    Ok(Reply::ok(&resource)?.etag(etag))
}

/// `ListComputeImageCapabilitySchemas`: of a compartment, of an image, or all.
pub async fn list(context: Context, request: Request) -> Result<Reply, ApiError> {
    let mut query = Query::new();
    if let Some(compartment) = request.query::<Ocid>("compartmentId")? {
        identity::compartment_exists(&context, &compartment).await?;
        query = query.compartment(compartment.as_str());
    }
    if let Some(image_id) = request.query::<Ocid>("imageId")? {
        query = query.parent(image_id.as_str());
    }
    super::list_by(&context, &request, query, |record: &CapabilitySchemaRecord| {
        Some(summary(record.resource.clone()))
    })
    .await
}

fn summary(schema: ComputeImageCapabilitySchema) -> ComputeImageCapabilitySchemaSummary {
    ComputeImageCapabilitySchemaSummary {
        compartment_id: schema.compartment_id,
        compute_global_image_capability_schema_version_name: schema
            .compute_global_image_capability_schema_version_name,
        defined_tags: schema.defined_tags,
        display_name: schema.display_name,
        freeform_tags: schema.freeform_tags,
        id: schema.id,
        image_id: schema.image_id,
        schema_data: Some(schema.schema_data),
        time_created: schema.time_created,
    }
}

/// `UpdateComputeImageCapabilitySchema`: name, tags, and the whole of what it says.
pub async fn update(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: UpdateComputeImageCapabilitySchemaDetails = request.json()?;
    let mut schema = load(&context, &request).await?;
    request.check_etag(&schema.etag())?;
    let (freeform, defined) = (details.freeform_tags.as_ref(), details.defined_tags.as_ref());
    tags::on_update(
        &context,
        (&schema.resource.freeform_tags, &schema.resource.defined_tags),
        freeform,
        defined,
    )
    .await?;
    let resource = &mut schema.value.resource;
    if let Some(data) = details.schema_data {
        let name = &resource.compute_global_image_capability_schema_version_name;
        rules::check(rules::version(name)?, &data)?;
        resource.schema_data = data;
    }
    if let Some(name) = details.display_name {
        resource.display_name = name.into();
    }
    if let Some(tags) = details.freeform_tags {
        resource.freeform_tags = tags;
    }
    if let Some(tags) = details.defined_tags {
        resource.defined_tags = tags;
    }
    super::replace(&context, schema, |record| Reply::ok(&record.resource)).await
}

/// `DeleteComputeImageCapabilitySchema`: the image's own launch options are all that is left.
pub async fn delete(context: Context, request: Request) -> Result<Reply, ApiError> {
    let schema = load(&context, &request).await?;
    request.check_etag(&schema.etag())?;
    let batch = deleted(&context.region.db, &schema.resource.image_id).await?;
    // Of the version that the caller meant.
    context.commit(Batch::new().require(&schema).and(batch), Reply::no_content()).await
}

/// `ChangeComputeImageCapabilitySchemaCompartment`. The image stays where it is.
pub async fn change_compartment(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: ChangeComputeImageCapabilitySchemaCompartmentDetails = request.json()?;
    let mut schema = load(&context, &request).await?;
    request.check_etag(&schema.etag())?;
    identity::compartment_exists(&context, &details.compartment_id).await?;
    schema.value.resource.compartment_id = Some(details.compartment_id);
    // Unlike that of an image this change is not published with an etag.
    context.commit(Batch::new().replace(&schema), Reply::no_content()).await
}
