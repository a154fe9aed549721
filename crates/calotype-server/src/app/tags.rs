//! The one gate of tags: whatever is tagged passes here, when it is made and when it is changed. What hangs on a resource
//! stays small enough to be listed with it, and a defined tag has a namespace and a key that are there and in use.

use std::collections::BTreeSet;

use calotype_api::error::{ApiError, ErrorCode};
use calotype_api::ocid::Ocid;
use calotype_api::tag_definitions::{TagState, TagValidator};
use calotype_api::tags::{DefinedTags, FreeformTags};
use serde_json::Value;

use super::Context;
use crate::db::{Db, Query};

mod defaults;
mod keys;
mod namespaces;
mod strip;

pub use defaults::{
    create_tag_default, delete_tag_default, get_tag_default, list_tag_defaults, update_tag_default,
};
pub use keys::{TagRecord, create_tag, delete_tag, get_tag, list_tags, update_tag};
pub use namespaces::{
    create_tag_namespace, delete_tag_namespace, get_tag_namespace, list_tag_namespaces,
    update_tag_namespace,
};

pub(crate) use keys::removal;
pub(crate) use strip::strip;

use namespaces::NamespaceRecord;

/// Free-form tags of one resource.
const FREEFORM_TAGS_MAX: usize = 10;
/// Defined tags of one resource.
const DEFINED_TAGS_MAX: usize = 64;
/// Characters of a tag's key.
const KEY_LENGTH_MAX: usize = 100;
/// Characters of a tag's value.
const VALUE_LENGTH_MAX: usize = 256;
/// Bytes of all tags of a resource as JSON.
const TOTAL_BYTES_MAX: usize = 5 * 1024;

/// The defined tags of a new resource: those that were asked for, and the compartment's defaults.
pub async fn on_create(
    context: &Context,
    compartment: &Ocid,
    freeform: Option<&FreeformTags>,
    defined: Option<DefinedTags>,
) -> Result<DefinedTags, ApiError> {
    let mut defined = defined.unwrap_or_default();
    check_limits(freeform, Some(&defined))?;
    check_defined(&context.region.db, &defined, &DefinedTags::new()).await?;
    defaults::apply(context, compartment, &mut defined).await?;
    check_limits(freeform, Some(&defined))?;
    Ok(defined)
}

/// Refuses tags that a resource cannot be given in place of those it has. What hangs on it already may stay, though its
/// key was retired.
pub async fn on_update(
    context: &Context,
    before: (&FreeformTags, &DefinedTags),
    freeform: Option<&FreeformTags>,
    defined: Option<&DefinedTags>,
) -> Result<(), ApiError> {
    if freeform.is_some() || defined.is_some() {
        // What is not given stays, and counts.
        check_limits(freeform.or(Some(before.0)), defined.or(Some(before.1)))?;
    }
    match defined {
        Some(defined) => check_defined(&context.region.db, defined, before.1).await,
        None => Ok(()),
    }
}

/// Refuses tags beyond the limits, naming the limit.
fn check_limits(
    freeform: Option<&FreeformTags>,
    defined: Option<&DefinedTags>,
) -> Result<(), ApiError> {
    let mut total_bytes = 0;
    if let Some(tags) = freeform {
        at_most("freeformTags", "tags", tags.len(), FREEFORM_TAGS_MAX)?;
        for (key, value) in tags {
            at_most("freeformTags", "characters in a key", key.chars().count(), KEY_LENGTH_MAX)?;
            let length = value.chars().count();
            at_most("freeformTags", "characters in a value", length, VALUE_LENGTH_MAX)?;
            total_bytes += key.len() + value.len();
        }
    }
    if let Some(namespaces) = defined {
        let count = namespaces.values().map(std::collections::BTreeMap::len).sum();
        at_most("definedTags", "tags", count, DEFINED_TAGS_MAX)?;
        at_most("definedTags", "namespaces", namespaces.len(), DEFINED_TAGS_MAX)?;
        total_bytes += namespaces.keys().map(String::len).sum::<usize>();
        for (key, value) in namespaces.values().flatten() {
            at_most("definedTags", "characters in a key", key.chars().count(), KEY_LENGTH_MAX)?;
            let length = value.as_str().map_or(0, |text| text.chars().count());
            at_most("definedTags", "characters in a value", length, VALUE_LENGTH_MAX)?;
            total_bytes += key.len() + value.to_string().len();
        }
    }
    at_most("freeformTags and definedTags", "bytes together", total_bytes, TOTAL_BYTES_MAX)
}

fn at_most(field: &str, what: &str, count: usize, limit: usize) -> Result<(), ApiError> {
    if count <= limit {
        return Ok(());
    }
    Err(ApiError::invalid_parameter(field, format!("has {count} {what}; the limit is {limit}")))
}

/// Each tag that was not there before has a key that is there, in use, and allows its value.
async fn check_defined(
    db: &Db,
    defined: &DefinedTags,
    before: &DefinedTags,
) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for (namespace, tags) in defined {
        if tags.is_empty() && !before.contains_key(namespace) {
            let empty = format!("{namespace} has no keys: leave the namespace out");
            return Err(ApiError::invalid_parameter("definedTags", empty));
        }
        for (key, value) in tags {
            if !seen.insert((namespace.to_lowercase(), key.to_lowercase())) {
                let twice = format!("{namespace}.{key} is given twice: case makes no difference");
                return Err(ApiError::invalid_parameter("definedTags", twice));
            }
            let was = before.get(namespace).and_then(|tags| tags.get(key));
            if was != Some(value) {
                check_tag(db, namespace, key, value).await?;
            }
        }
    }
    Ok(())
}

async fn check_tag(db: &Db, namespace: &str, key: &str, value: &Value) -> Result<(), ApiError> {
    let unknown = |what: String| {
        ApiError::new(
            ErrorCode::RelatedResourceNotAuthorizedOrNotFound,
            format!("The following tag namespaces / keys are not authorized or not found: {what}"),
        )
    };
    let Some(found) = namespace_named(db, namespace).await? else {
        return Err(unknown(format!("'{namespace}'")));
    };
    let Some(tag) = key_named(db, &found.resource.id, key).await? else {
        return Err(unknown(format!("'{namespace}.{key}'")));
    };
    if found.resource.is_retired || tag.resource.lifecycle_state != TagState::Active {
        let retired = format!("{namespace}.{key} is retired and can be given to nothing more");
        return Err(ApiError::invalid_parameter("definedTags", retired));
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => {
            let form = format!("{namespace}.{key} must be a text, a number or a boolean");
            return Err(ApiError::invalid_parameter("definedTags", form));
        }
    };
    check_value(&tag, &text)
}

/// Refuses a value that the key's validator does not know.
fn check_value(tag: &TagRecord, value: &str) -> Result<(), ApiError> {
    let Some(TagValidator::Enum { values: Some(allowed) }) = &tag.resource.validator else {
        return Ok(());
    };
    if allowed.iter().any(|one| one.as_str() == value) {
        return Ok(());
    }
    let allowed: Vec<_> = allowed.iter().map(calotype_api::text::Text::as_str).collect();
    let resource = &tag.resource;
    let what = format!(
        "{}.{} is {value:?}; it must be one of {}",
        resource.tag_namespace_name,
        resource.name,
        allowed.join(", ")
    );
    Err(ApiError::invalid_parameter("definedTags", what))
}

/// Names are told apart without their case.
async fn namespace_named(db: &Db, name: &str) -> Result<Option<NamespaceRecord>, ApiError> {
    let query = Query::new().name(name.to_lowercase()).limit(1);
    let found = db.list::<NamespaceRecord>(query).await?.items;
    Ok(found.into_iter().next().map(|namespace| namespace.value))
}

async fn key_named(db: &Db, namespace: &Ocid, name: &str) -> Result<Option<TagRecord>, ApiError> {
    let query = Query::new().parent(namespace.as_str()).name(name.to_lowercase()).limit(1);
    let found = db.list::<TagRecord>(query).await?.items;
    Ok(found.into_iter().next().map(|tag| tag.value))
}

/// Refuses a name with characters that would not tell where it ends.
fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_graphic() && c != '.';
    if name.chars().all(allowed) {
        return Ok(());
    }
    let rule = "can have only printable ASCII characters, no spaces and no periods";
    Err(ApiError::invalid_parameter("name", rule))
}
