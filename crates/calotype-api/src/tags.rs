//! Tags: words that users and services hang on resources.

use std::collections::BTreeMap;

use serde_json::Value;

/// Tags without a schema: key to value.
pub type FreeformTags = BTreeMap<String, String>;

/// Tags with a schema: namespace to key to value. System tags and security attributes have the same form.
pub type DefinedTags = BTreeMap<String, BTreeMap<String, Value>>;
