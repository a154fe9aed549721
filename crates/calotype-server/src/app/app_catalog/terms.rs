//! What a publisher's terms mean for an image, its instances, and the images made of those.
//!
//! An image that is published is launched only in a compartment that has subscribed. What is captured of its instances,
//! if the terms allow that at all, carries the same terms on, and is never exported.

use calotype_api::app_catalog::AllowedAction;
use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::ocid::Ocid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::subscription_id;
use super::subscriptions::SubscriptionRecord;
use crate::db::{Batch, Db, Document};

/// The terms of an image. They outlive the image, for its instances do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TermsRecord {
    pub(super) image_id: Ocid,
    pub(super) listing_id: Ocid,
    pub(super) listing_version: String,
    pub(super) allowed_actions: Vec<AllowedAction>,
    /// Whether it was captured of an instance of what is published.
    pub(super) is_derived: bool,
    pub(super) time_created: Timestamp,
}

impl Document for TermsRecord {
    const KIND: &'static str = "image_terms";

    fn id(&self) -> String {
        self.image_id.to_string()
    }

    fn parent_id(&self) -> Option<String> {
        Some(self.listing_id.to_string())
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

/// Refuses to launch what is published in a compartment that has not subscribed.
pub async fn may_be_launched(db: &Db, image: &Ocid, compartment: &Ocid) -> Result<(), ApiError> {
    let Some(terms) = db.get::<TermsRecord>(image.as_str()).await? else { return Ok(()) };
    let id = subscription_id(compartment, &terms.listing_id, &terms.listing_version);
    if terms.is_derived || db.get::<SubscriptionRecord>(&id).await?.is_some() {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::NotAuthorizedOrNotFound,
        format!(
            "Compartment {compartment} is not subscribed to version {} of app catalog listing {}: accept its \
             agreements with CreateAppCatalogSubscription first",
            terms.listing_version, terms.listing_id
        ),
    ))
}

/// Refuses to capture an instance whose image's publisher does not allow it; else the terms of the new image.
pub async fn may_be_captured(
    db: &Db,
    base: Option<&Ocid>,
    new: &Ocid,
    now: Timestamp,
) -> Result<Batch, ApiError> {
    let Some(base) = base else { return Ok(Batch::new()) };
    let Some(terms) = db.get::<TermsRecord>(base.as_str()).await? else { return Ok(Batch::new()) };
    if !terms.allowed_actions.contains(&AllowedAction::Snapshot) {
        return Err(ApiError::new(
            ErrorCode::NotAllowed,
            format!(
                "The instance was launched from image {base}, whose publisher does not allow images of its \
                 instances: SNAPSHOT is not among the allowedActions of version {} of app catalog listing {}",
                terms.listing_version, terms.listing_id
            ),
        ));
    }
    let mut derived = terms.value;
    derived.image_id = new.clone();
    derived.is_derived = true;
    derived.time_created = now;
    Ok(Batch::new().insert(&derived))
}

/// Refuses to export what is published and what was made of it.
pub async fn may_be_exported(db: &Db, image: &Ocid) -> Result<(), ApiError> {
    let Some(terms) = db.get::<TermsRecord>(image.as_str()).await? else { return Ok(()) };
    let made = if terms.is_derived { "was made from" } else { "is" };
    Err(ApiError::new(
        ErrorCode::NotAllowed,
        format!(
            "image {image} {made} a Marketplace image, of app catalog listing {}: such images cannot be exported",
            terms.listing_id
        ),
    ))
}
