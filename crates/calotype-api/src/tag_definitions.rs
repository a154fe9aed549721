//! Namespaces and keys of defined tags, and the tags that new resources get by default.

#![expect(missing_docs, reason = "field names are those of the public OCI API reference")]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ocid::Ocid;
use crate::tags::{DefinedTags, FreeformTags};
use crate::text::Text;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// The name of a namespace or key: it cannot be changed.
pub type TagName = Text<1, 100>;
/// What a namespace or key is for.
pub type Description = Text<1, 400>;
/// The value of a tag.
pub type TagValue = Text<1, 256>;

/// A namespace of tags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagNamespace {
    pub id: Ocid,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub description: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub is_retired: bool,
    pub lifecycle_state: TagState,
    pub locks: Option<Vec<Value>>,
    pub name: String,
    pub time_created: Time,
}

/// Body of CreateTagNamespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTagNamespaceDetails {
    pub compartment_id: Ocid,
    pub defined_tags: Option<DefinedTags>,
    pub description: Description,
    pub freeform_tags: Option<FreeformTags>,
    pub locks: Option<Vec<Value>>,
    pub name: TagName,
}

/// Body of UpdateTagNamespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateTagNamespaceDetails {
    pub defined_tags: Option<DefinedTags>,
    pub description: Option<Description>,
    pub freeform_tags: Option<FreeformTags>,
    pub is_retired: Option<bool>,
}

/// A key of a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    pub id: Ocid,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub description: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub is_cost_tracking: Option<bool>,
    pub is_retired: bool,
    pub lifecycle_state: TagState,
    pub name: String,
    pub tag_namespace_id: Ocid,
    pub tag_namespace_name: String,
    pub time_created: Time,
    pub validator: Option<TagValidator>,
}

/// A key of a namespace, in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagSummary {
    pub id: Ocid,
    pub compartment_id: Ocid,
    #[serde(default)]
    pub defined_tags: DefinedTags,
    pub description: String,
    #[serde(default)]
    pub freeform_tags: FreeformTags,
    pub is_cost_tracking: Option<bool>,
    pub is_retired: bool,
    pub lifecycle_state: String,
    pub name: String,
    pub time_created: Time,
}

/// Body of CreateTag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTagDetails {
    pub defined_tags: Option<DefinedTags>,
    pub description: Description,
    pub freeform_tags: Option<FreeformTags>,
    pub is_cost_tracking: Option<bool>,
    pub name: TagName,
    pub validator: Option<TagValidator>,
}

/// Body of UpdateTag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateTagDetails {
    pub defined_tags: Option<DefinedTags>,
    pub description: Option<Description>,
    pub freeform_tags: Option<FreeformTags>,
    pub is_cost_tracking: Option<bool>,
    pub is_retired: Option<bool>,
    pub validator: Option<TagValidator>,
}

/// Which values a key can have: any without a validator or with the default one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "validatorType", rename_all = "UPPERCASE")]
pub enum TagValidator {
    /// One of these.
    Enum { values: Option<Vec<TagValue>> },
    /// Any.
    Default {},
}

/// A tag that new resources of a compartment, and of those below it, get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagDefault {
    pub id: Ocid,
    pub compartment_id: Ocid,
    pub is_required: bool,
    pub lifecycle_state: TagDefaultState,
    pub locks: Option<Vec<Value>>,
    pub tag_definition_id: Ocid,
    pub tag_definition_name: String,
    pub tag_namespace_id: Ocid,
    pub time_created: Time,
    pub value: String,
}

pub type TagDefaultSummary = TagDefault;

/// Body of CreateTagDefault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTagDefaultDetails {
    pub compartment_id: Ocid,
    pub is_required: Option<bool>,
    pub locks: Option<Vec<Value>>,
    pub tag_definition_id: Ocid,
    pub value: Text<0, 256>,
}

/// Body of UpdateTagDefault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateTagDefaultDetails {
    pub is_required: Option<bool>,
    pub value: Text<0, 256>,
}

wire_enum! {
    /// The states of a namespace or key.
    TagState {
        Active = "ACTIVE",
        Inactive = "INACTIVE",
        Deleting = "DELETING",
        Deleted = "DELETED",
    }
}

wire_enum! {
    /// The state of a default.
    TagDefaultState {
        Active = "ACTIVE",
    }
}
