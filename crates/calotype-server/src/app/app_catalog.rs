//! The app catalog: what partners publish, backed by listings that the administrator adds from a file.
//!
//! A listing has versions, and each is an image of this region with the publisher's terms. Whoever wants to launch it
//! retrieves the agreements, which are signed, and subscribes a compartment by sending them back: the signature shows
//! that the very links were retrieved. What the terms mean for images is in [`terms`].

use calotype_api::app_catalog::{
    AppCatalogListing, AppCatalogListingResourceVersion,
    AppCatalogListingResourceVersionAgreements, AppCatalogListingResourceVersionSummary,
    AppCatalogListingSummary,
};
use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use calotype_api::time::Time;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Context, page_of, refuse_queries};
use crate::db::{Batch, Db, Document, Query, Versioned};
use crate::http::{Reply, Request};

mod publish;
mod subscriptions;
pub mod terms;

pub use publish::{add_listing, remove_listing};
pub use subscriptions::{create_subscription, delete_subscription, list_subscriptions};

/// A listing with all its versions, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListingRecord {
    /// The listing as clients see it.
    pub resource: AppCatalogListing,
    /// Its versions.
    pub versions: Vec<Version>,
}

/// A version of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The version as clients see it.
    pub resource: AppCatalogListingResourceVersion,
    /// The publisher's licence.
    pub eula_link: Option<String>,
    /// The terms of whoever runs the region.
    pub terms_of_use_link: String,
}

impl Document for ListingRecord {
    const KIND: &'static str = "app_catalog_listing";

    fn id(&self) -> String {
        self.resource.listing_id.to_string()
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_published.timestamp()
    }
}

impl ListingRecord {
    fn version(&self, name: &str) -> Result<&Version, ApiError> {
        let same = |one: &&Version| one.resource.listing_resource_version == name;
        self.versions.iter().find(same).ok_or_else(ApiError::not_authorized_or_not_found)
    }
}

async fn listing(
    context: &Context,
    request: &Request,
) -> Result<Versioned<ListingRecord>, ApiError> {
    super::load(context, &request.path("listingId")?).await
}

/// `ListAppCatalogListings`.
pub async fn list_listings(context: Context, request: Request) -> Result<Reply, ApiError> {
    refuse_queries(&request, &["publisherType"])?;
    let publisher = request.query::<String>("publisherName")?;
    super::list_by(&context, &request, Query::new(), |one: &ListingRecord| {
        let resource = &one.resource;
        let wanted = publisher.as_ref().is_none_or(|name| *name == resource.publisher_name);
        wanted.then(|| AppCatalogListingSummary {
            display_name: resource.display_name.clone(),
            listing_id: resource.listing_id.clone(),
            publisher_name: resource.publisher_name.clone(),
            summary: resource.summary.clone(),
        })
    })
    .await
}

/// `GetAppCatalogListing`.
pub async fn get_listing(context: Context, request: Request) -> Result<Reply, ApiError> {
    let listing = listing(&context, &request).await?;
    Ok(Reply::ok(&listing.resource)?.etag(listing.etag()))
}

/// `ListAppCatalogListingResourceVersions`, newest first.
pub async fn list_versions(context: Context, request: Request) -> Result<Reply, ApiError> {
    let listing = listing(&context, &request).await?;
    let summary = |one: &Version| AppCatalogListingResourceVersionSummary {
        listing_id: one.resource.listing_id.clone(),
        listing_resource_id: one.resource.listing_resource_id.clone(),
        listing_resource_version: one.resource.listing_resource_version.clone(),
        time_published: one.resource.time_published,
    };
    let mut versions: Vec<_> = listing.versions.iter().map(summary).collect();
    if request.query::<String>("sortOrder")?.as_deref() == Some("ASC") {
        versions.reverse();
    }
    page_of(&request, &versions)
}

/// `GetAppCatalogListingResourceVersion`.
pub async fn get_version(context: Context, request: Request) -> Result<Reply, ApiError> {
    let listing = listing(&context, &request).await?;
    let version = listing.version(&request.path::<String>("resourceVersion")?)?;
    Ok(Reply::ok(&version.resource)?.etag(listing.etag()))
}

/// `GetAppCatalogListingAgreements`: signed, for whoever wants to subscribe.
pub async fn get_agreements(context: Context, request: Request) -> Result<Reply, ApiError> {
    let listing = listing(&context, &request).await?;
    let version = listing.version(&request.path::<String>("resourceVersion")?)?;
    // To the millisecond, as it is written.
    let millisecond = context.now.as_millisecond();
    let now = Timestamp::from_millisecond(millisecond).unwrap_or(context.now);
    let signature = sign(&context.region.db, version, now.into(), context.now).await?;
    let agreements = AppCatalogListingResourceVersionAgreements {
        eula_link: version.eula_link.clone(),
        listing_id: listing.resource.listing_id.clone(),
        listing_resource_version: version.resource.listing_resource_version.clone(),
        oracle_terms_of_use_link: version.terms_of_use_link.clone(),
        signature,
        time_retrieved: now.into(),
    };
    Ok(Reply::ok(&agreements)?.etag(listing.etag()))
}

/// The secret that agreements are signed with; made when it is first needed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SigningKey {
    key: [u8; blake3::KEY_LEN],
    time_created: Timestamp,
}

impl Document for SigningKey {
    const KIND: &'static str = "app_catalog_signing_key";

    fn id(&self) -> String {
        "the".to_owned()
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

/// The signature under a version's agreements that were retrieved at that time.
async fn sign(
    db: &Db,
    version: &Version,
    retrieved: Time,
    now: Timestamp,
) -> Result<String, ApiError> {
    let mut key = db.get::<SigningKey>("the").await?;
    if key.is_none() {
        let mut secret = [0; blake3::KEY_LEN];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| ApiError::internal())?;
        let made = SigningKey { key: secret, time_created: now };
        match db.apply(Batch::new().insert(&made)).await {
            Err(error) if !error.is_conflict() => return Err(error.into()),
            _ => key = db.get::<SigningKey>("the").await?,
        }
    }
    let key = key.ok_or_else(ApiError::internal)?;
    let mut hasher = blake3::Hasher::new_keyed(&key.key);
    let resource = &version.resource;
    let time = retrieved.timestamp().as_millisecond().to_string();
    for part in [
        resource.listing_id.as_str(),
        &resource.listing_resource_version,
        version.eula_link.as_deref().unwrap_or_default(),
        &version.terms_of_use_link,
        &time,
    ] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn subscription_id(compartment: &Ocid, listing: &Ocid, version: &str) -> String {
    format!("{compartment}/{listing}/{version}")
}
