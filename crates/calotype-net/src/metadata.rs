//! The instance metadata service: what a guest may read about itself, and by which rules.

use futures_util::future::BoxFuture;
use serde_json::Value;

/// What the metadata service answers for one VNIC; asked at each request so that it is always
/// current.
pub trait MetadataSource: Send + Sync {
    /// The document of the instance behind `vnic_id`, or `None` when there is none (answered 404).
    fn document(&self, vnic_id: String) -> BoxFuture<'static, Option<MetadataDocument>>;
}

/// The three trees below `/opc/v2/`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataDocument {
    /// `/opc/v2/instance/`, an object.
    pub instance: Value,
    /// `/opc/v2/vnics/`, an array.
    pub vnics: Value,
    /// `/opc/v2/volumeAttachments/`, an array.
    pub volume_attachments: Value,
    /// Whether `/opc/v1/` and `/openstack` answer 404.
    pub legacy_endpoints_disabled: bool,
}
