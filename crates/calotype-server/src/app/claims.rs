//! What only one resource can have is claimed by a document: whoever writes it first has it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::db::Document;

/// A claim to a name or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// What is claimed, for example `address/<subnet>/10.0.0.2`.
    pub(super) what: String,
    /// Within what it is unique; this cannot be deleted while there is a claim.
    pub(super) scope: Option<String>,
    /// Id of the resource that has it.
    pub(super) owner: String,
    /// Since when.
    pub(super) time_created: Timestamp,
}

impl Document for Claim {
    const KIND: &'static str = "claim";

    fn id(&self) -> String {
        self.what.clone()
    }

    fn parent_id(&self) -> Option<String> {
        self.scope.clone()
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}
