//! An image chosen by what it is instead of by its id: the newest that fits.

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::images::ImageState;
use calotype_api::instances::InstanceSourceImageFilterDetails;
use calotype_api::ocid::Ocid;
use calotype_api::tags::DefinedTags;

use crate::app::{Context, identity};
use crate::db::Query;
use crate::records::{ImageRecord, PLATFORM_IMAGES};

/// The newest AVAILABLE image with these properties, of the compartment or of the platform, whose
/// instances may have the shape.
pub(super) async fn newest(
    context: &Context,
    filter: &InstanceSourceImageFilterDetails,
    shape: Option<&str>,
) -> Result<Ocid, ApiError> {
    identity::compartment_exists(context, &filter.compartment_id).await?;
    let mut newest: Option<ImageRecord> = None;
    for compartment in [filter.compartment_id.as_str(), PLATFORM_IMAGES] {
        // As launches by id do: an image is exported without a pause.
        let query = Query::new()
            .compartment(compartment)
            .state(ImageState::Available.as_str())
            .state(ImageState::Exporting.as_str());
        let db = &context.region.db;
        db.for_each::<ImageRecord>(query, |image| {
            let fits = fits(filter, &image) && shape.is_none_or(|shape| image.accepts_shape(shape));
            let created = |image: &ImageRecord| image.resource.time_created.timestamp();
            if fits && newest.as_ref().is_none_or(|best| created(best) < created(&image)) {
                newest = Some(image.value);
            }
        })
        .await?;
    }
    newest.map(|image| image.resource.id).ok_or_else(|| {
        ApiError::new(
            ErrorCode::NotAuthorizedOrNotFound,
            "No image meets sourceDetails.instanceSourceImageFilterDetails, or you are not authorized to use it",
        )
    })
}

fn fits(filter: &InstanceSourceImageFilterDetails, image: &ImageRecord) -> bool {
    let image = &image.resource;
    let same = |asked: &Option<String>, has: &str| asked.as_ref().is_none_or(|asked| asked == has);
    same(&filter.operating_system, &image.operating_system)
        && same(&filter.operating_system_version, &image.operating_system_version)
        && filter
            .defined_tags_filter
            .as_ref()
            .is_none_or(|wanted| has_tags(wanted, &image.defined_tags))
}

/// Whether every tag that is wanted is there, with its value.
fn has_tags(wanted: &DefinedTags, tags: &DefinedTags) -> bool {
    wanted.iter().all(|(namespace, wanted)| {
        let tags = tags.get(namespace);
        wanted.iter().all(|(key, value)| tags.and_then(|tags| tags.get(key)) == Some(value))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tags(value: serde_json::Value) -> DefinedTags {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_tag_that_is_wanted_must_be_there_with_its_value() {
        let has = tags(json!({"build": {"stage": "golden", "team": "paint"}, "other": {"a": "b"}}));
        assert!(has_tags(&tags(json!({})), &has));
        assert!(has_tags(&tags(json!({"build": {"stage": "golden"}, "other": {"a": "b"}})), &has));
        assert!(!has_tags(&tags(json!({"build": {"stage": "raw"}})), &has));
        assert!(!has_tags(&tags(json!({"build": {"owner": "me"}})), &has));
        assert!(!has_tags(&tags(json!({"absent": {"stage": "golden"}})), &has));
    }
}
