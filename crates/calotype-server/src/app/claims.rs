//! What only one resource can have is claimed by a document: whoever writes it first has it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::db::Document;

/// A claim to a name or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What is claimed, for example `address/<subnet>/10.0.0.2`.
    pub what: String,
    /// Within what it is unique; this cannot be deleted while there is a claim.
    pub scope: Option<String>,
    /// Id of the resource that has it.
    pub owner: String,
    /// Since when.
    pub time_created: Timestamp,
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
