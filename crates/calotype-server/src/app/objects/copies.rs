//! What is left of a copy: a work request of object storage's own form, finished when it is first seen.

use std::collections::BTreeMap;

use calotype_api::Ocid;
use calotype_api::objects::{
    WorkRequest, WorkRequestAction, WorkRequestOperation, WorkRequestResource, WorkRequestStatus,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{NewObject, ObjectRecord};
use crate::db::Document;

/// A copy that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyRecord {
    /// As clients see it.
    pub resource: WorkRequest,
    time_created: Timestamp,
}

impl Document for CopyRecord {
    const KIND: &'static str = "object_work_request";

    fn id(&self) -> String {
        self.resource.id.clone().unwrap_or_default()
    }

    fn compartment_id(&self) -> Option<String> {
        self.resource.compartment_id.as_ref().map(ToString::to_string)
    }

    fn time_created(&self) -> Timestamp {
        self.time_created
    }
}

impl CopyRecord {
    /// The copy of `source` to `copy`.
    pub fn new(
        namespace: &str,
        compartment: Ocid,
        source: &ObjectRecord,
        copy: &NewObject,
        now: Timestamp,
    ) -> Self {
        let object = |action, bucket: &str, name: &str| WorkRequestResource {
            action_type: Some(action),
            entity_type: Some("object".to_owned()),
            entity_uri: Some(format!("/n/{namespace}/b/{bucket}/o/{name}")),
            identifier: None,
            metadata: Some(BTreeMap::from([
                ("NAMESPACE".to_owned(), namespace.to_owned()),
                ("BUCKET".to_owned(), bucket.to_owned()),
                ("OBJECT".to_owned(), name.to_owned()),
            ])),
        };
        let resource = WorkRequest {
            compartment_id: Some(compartment),
            id: Some(Uuid::new_v4().to_string()),
            operation_type: Some(WorkRequestOperation::CopyObject),
            percent_complete: Some(100.0),
            resources: Some(vec![
                object(WorkRequestAction::Read, &source.bucket, &source.name),
                object(WorkRequestAction::Written, &copy.bucket, &copy.name),
            ]),
            status: Some(WorkRequestStatus::Completed),
            time_accepted: Some(now.into()),
            time_finished: Some(now.into()),
            time_started: Some(now.into()),
        };
        Self { resource, time_created: now }
    }
}
