//! How listings come into the catalog: the administrator adds them, from a file.

use calotype_api::app_catalog::{
    AllowedAction, AppCatalogListing, AppCatalogListingResourceVersion,
};
use calotype_api::error::ApiError;
use calotype_api::images::ImageState;
use calotype_api::ocid::Ocid;
use calotype_api::text::Text;
use serde::{Deserialize, Serialize};

use super::subscriptions::SubscriptionRecord;
use super::terms::TermsRecord;
use super::{ListingRecord, Version, listing};
use crate::app::{Context, images};
use crate::db::{Batch, Db, ErrorKind, Query, Versioned};
use crate::http::{Reply, Request};

/// Versions of one listing.
const VERSIONS_MAX: usize = 100;

type Short = Text<1, 255>;
type Link = Text<1, 2048>;
type Long = Text<1, 65_536>;

/// Body of `AddAppCatalogListing`: what the administrator's file says. The same publisher and name again adds a version.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AddListingDetails {
    display_name: Short,
    publisher_name: Short,
    summary: Option<Short>,
    description: Option<Long>,
    contact_url: Option<Link>,
    publisher_logo_url: Option<Link>,
    version: Short,
    image_id: Ocid,
    eula_link: Option<Link>,
    oracle_terms_of_use_link: Link,
    #[serde(default)]
    allowed_actions: Vec<AllowedAction>,
    #[serde(default)]
    accessible_ports: Vec<u16>,
}

/// `AddAppCatalogListing`.
pub async fn add_listing(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: AddListingDetails = request.json()?;
    let db = &context.region.db;
    let mut image = images::load(&context, &details.image_id).await?;
    if image.resource.lifecycle_state != ImageState::Available {
        let state = format!("names an image that is {}", image.resource.lifecycle_state);
        return Err(ApiError::invalid_parameter("imageId", state));
    }
    let named = Query::new().name(details.display_name.as_str());
    let named = db.list_all::<ListingRecord>(named).await?;
    let same = |one: &Versioned<ListingRecord>| {
        one.resource.publisher_name == details.publisher_name.as_str()
    };
    let known = named.into_iter().find(same);
    let is_known = known.is_some();
    let mut listing = known.unwrap_or_else(|| Versioned::first(new_listing(&context, &details)));
    let version = details.version.as_str();
    if listing.version(version).is_ok() {
        let there = format!("{version} is a version of the listing already");
        return Err(ApiError::conflict(format!("version {there}")));
    }
    if listing.versions.len() >= VERSIONS_MAX {
        let limit = format!("A listing can have at most {VERSIONS_MAX} versions");
        return Err(ApiError::limit_exceeded(limit));
    }
    let terms = TermsRecord {
        image_id: details.image_id.clone(),
        listing_id: listing.resource.listing_id.clone(),
        listing_version: version.to_owned(),
        allowed_actions: details.allowed_actions.clone(),
        is_derived: false,
        time_created: context.now,
    };
    let batch = publish(db, terms).await?;
    let shapes: Vec<_> = image.shapes().iter().map(|one| one.shape.clone()).collect();
    let new = new_version(&context, &listing.resource, details, &shapes);
    image.value.resource.create_image_allowed =
        new.resource.allowed_actions.contains(&AllowedAction::Snapshot);
    listing.value.versions.insert(0, new);
    let batch = batch.replace(&image);
    if is_known {
        return context
            .commit(batch.replace(&listing), Reply::ok(&listing.value)?.etag(listing.next_etag()))
            .await;
    }
    let listing = Versioned::first(listing.value);
    context.commit(batch.create(&listing), Reply::ok(&listing.value)?.etag(listing.etag())).await
}

/// Writes the terms of an image that is not published: never, or by a listing that was removed since.
async fn publish(db: &Db, terms: TermsRecord) -> Result<Batch, ApiError> {
    let Some(before) = db.get::<TermsRecord>(terms.image_id.as_str()).await? else {
        return Ok(Batch::new().insert(&terms));
    };
    let listing = db.get::<ListingRecord>(before.listing_id.as_str()).await?;
    if before.is_derived || listing.is_some() {
        let already = format!("image {} is published already", terms.image_id);
        return Err(ApiError::conflict(already));
    }
    Ok(Batch::new().replace(&Versioned { value: terms, ..before }))
}

fn new_listing(context: &Context, details: &AddListingDetails) -> ListingRecord {
    ListingRecord {
        resource: AppCatalogListing {
            contact_url: details.contact_url.clone().map(String::from),
            description: details.description.clone().map(String::from),
            display_name: details.display_name.to_string(),
            listing_id: context.region.new_global_id("appcataloglisting"),
            publisher_logo_url: details.publisher_logo_url.clone().map(String::from),
            publisher_name: details.publisher_name.to_string(),
            summary: details.summary.clone().map(String::from),
            time_published: context.now.into(),
        },
        versions: Vec::new(),
    }
}

fn new_version(
    context: &Context,
    listing: &AppCatalogListing,
    details: AddListingDetails,
    shapes: &[String],
) -> Version {
    Version {
        resource: AppCatalogListingResourceVersion {
            accessible_ports: details.accessible_ports,
            allowed_actions: details.allowed_actions,
            available_regions: vec![context.region.config.region.clone()],
            compatible_shapes: shapes.to_vec(),
            listing_id: listing.listing_id.clone(),
            listing_resource_id: details.image_id,
            listing_resource_version: details.version.into(),
            time_published: context.now.into(),
        },
        eula_link: details.eula_link.map(String::from),
        terms_of_use_link: details.oracle_terms_of_use_link.into(),
    }
}

/// `RemoveAppCatalogListing`: of one that nobody is subscribed to. The terms stay with its images and what was made of them.
pub async fn remove_listing(context: Context, request: Request) -> Result<Reply, ApiError> {
    let listing = listing(&context, &request).await?;
    let id = listing.resource.listing_id.to_string();
    let batch = Batch::new().require_none::<SubscriptionRecord>(&id).delete(&listing);
    match context.region.db.apply(batch).await {
        Ok(()) => Ok(Reply::no_content()),
        Err(error) if matches!(&error.kind, ErrorKind::Conflict { id: of, kind } if *of == id && kind == "app_catalog_subscription") => {
            Err(ApiError::conflict(format!(
                "App catalog listing {id} has subscriptions: delete them first"
            )))
        }
        Err(error) => Err(error.into()),
    }
}
