//! Subscriptions: a compartment has agreed to the terms of one version of a listing.

use calotype_api::app_catalog::{AppCatalogSubscription, CreateAppCatalogSubscriptionDetails};
use calotype_api::error::ApiError;
use calotype_api::ocid::Ocid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ListingRecord, sign, subscription_id};
use crate::app::{Context, identity};
use crate::db::{Batch, Document, Versioned};
use crate::http::{Reply, Request};

/// That a compartment has agreed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SubscriptionRecord {
    pub(super) resource: AppCatalogSubscription,
}

impl Document for SubscriptionRecord {
    const KIND: &'static str = "app_catalog_subscription";

    fn id(&self) -> String {
        let resource = &self.resource;
        let version = &resource.listing_resource_version;
        subscription_id(&resource.compartment_id, &resource.listing_id, version)
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.resource.listing_id.to_string())
    }

    fn compartment_id(&self) -> Option<String> {
        Some(self.resource.compartment_id.to_string())
    }

    fn name(&self) -> Option<String> {
        Some(self.resource.display_name.clone())
    }

    fn time_created(&self) -> Timestamp {
        self.resource.time_created.timestamp()
    }
}

/// `CreateAppCatalogSubscription`: with the agreements as they were retrieved. Who has subscribed is answered so again.
pub async fn create_subscription(context: Context, request: Request) -> Result<Reply, ApiError> {
    let details: CreateAppCatalogSubscriptionDetails = request.json()?;
    identity::compartment_exists(&context, &details.compartment_id).await?;
    let listing: Versioned<ListingRecord> = crate::app::load(&context, &details.listing_id).await?;
    let version = listing.version(&details.listing_resource_version)?;
    let db = &context.region.db;
    let signature = sign(db, version, details.time_retrieved, context.now).await?;
    for (field, right) in [
        ("eulaLink", details.eula_link == version.eula_link),
        ("oracleTermsOfUseLink", details.oracle_terms_of_use_link == version.terms_of_use_link),
        ("signature", details.signature == signature),
    ] {
        if !right {
            let retrieve = "is not that of the agreements: retrieve them with \
                            GetAppCatalogListingAgreements and send back what it answers, with timeRetrieved";
            return Err(ApiError::invalid_parameter(field, retrieve));
        }
    }
    let id = subscription_id(
        &details.compartment_id,
        &details.listing_id,
        &details.listing_resource_version,
    );
    if let Some(known) = db.get::<SubscriptionRecord>(&id).await? {
        return Ok(Reply::ok(&known.resource)?.etag(known.etag()));
    }
    let subscription = Versioned::first(SubscriptionRecord {
        resource: AppCatalogSubscription {
            compartment_id: details.compartment_id,
            display_name: listing.resource.display_name.clone(),
            listing_id: details.listing_id,
            listing_resource_id: version.resource.listing_resource_id.clone(),
            listing_resource_version: details.listing_resource_version,
            publisher_name: listing.resource.publisher_name.clone(),
            summary: listing.resource.summary.clone(),
            time_created: context.now.into(),
        },
    });
    let reply = Reply::ok(&subscription.resource)?.etag(subscription.etag());
    context.commit(Batch::new().require(&listing).create(&subscription), reply).await
}

/// `ListAppCatalogSubscriptions` of a compartment.
pub async fn list_subscriptions(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    identity::compartment_exists(&context, &compartment).await?;
    let listing = request.query::<Ocid>("listingId")?;
    crate::app::list(&context, &request, &compartment, |one: &SubscriptionRecord| {
        let wanted = listing.as_ref().is_none_or(|id| *id == one.resource.listing_id);
        wanted.then(|| one.resource.clone())
    })
    .await
}

/// `DeleteAppCatalogSubscription`. Instances that were launched run on.
pub async fn delete_subscription(context: Context, request: Request) -> Result<Reply, ApiError> {
    let compartment: Ocid = request.required_query("compartmentId")?;
    let listing: Ocid = request.required_query("listingId")?;
    let version: String = request.required_query("resourceVersion")?;
    let db = &context.region.db;
    let id = subscription_id(&compartment, &listing, &version);
    let found = db.get::<SubscriptionRecord>(&id).await?;
    let found = found.ok_or_else(ApiError::not_authorized_or_not_found)?;
    context.commit(Batch::new().delete(&found), Reply::no_content()).await
}
