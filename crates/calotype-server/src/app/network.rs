//! Networks: VCNs, subnets, VNICs and their addresses.
//
// For whoever fills this file in: operations.rs names the handlers (`create_vcn`, `get_vcn`, …; see
// operations/virtual_network.rs and compute.rs); images.rs shows the style. The workflows need just these:
//
// /// Where an instance's primary VNIC goes: documents for the launch's batch, nothing written yet.
// /// A taken private IP is a Conflict when the batch is applied: the caller plans again (or, for an address
// /// that was asked for, answers 409/400).
// pub async fn plan_vnic(context: &Context, owner: &VnicOwner /* instance id, compartment, display name, AD */,
//     details: &CreateVnicDetails) -> Result<PlannedVnic { vnic_id: Ocid, hostname: Option<String>, batch: Batch }, ApiError>;
// /// Detaches: VNIC TERMINATED, attachment DETACHED, addresses free again. Idempotent.
// pub async fn release_vnic(db: &Db, vnic_id: &Ocid) -> Result<(), db::Error>;
// /// What calotype-net must know to plug the VNIC in (outbound from the subnet; public ports: 22 and those of
// /// the instance's metadata key `public_tcp_ports`, comma separated, passed in).
// pub async fn vnic_config(db: &Db, vnic_id: &Ocid, public_tcp_ports: &[u16]) -> Result<Option<calotype_net::VnicConfig>, db::Error>;
// /// IMDS `vnics` document (behaviour.md 7.3) for a VNIC.
// pub async fn metadata_of(db: &Db, vnic_id: &Ocid) -> Result<serde_json::Value, db::Error>;
// /// Default VCN + subnet (named "default") of a new region (documents only); ids by crate::init::new_ocid(kind, &config.realm, Some(&config.region)).
// pub fn default_network(config: &Config, compartment: &Ocid, now: Timestamp) -> crate::error::Result<Batch>;
// pub async fn mac_address(db, vnic_id) -> Result<Option<String>, db::Error>;  pub async fn owner_of(db, vnic_id) -> Result<Option<VnicOwnerView{instance_id: Ocid, hostname: Option<String>}>, db::Error>;
// identity.rs likewise: `compartment_exists(&Context, &Ocid) -> Result<(), ApiError>` (404 if not or not ACTIVE),
// `availability_domain_exists(&Context, &str) -> Result<(), ApiError>`, `fault_domain(Option<&str>) -> Result<String, ApiError>`,
// `root_documents(config: &Config, tenancy: &Ocid, now: Timestamp) -> Batch` for init (tenancy = its root compartment). AD name: Config::availability_domain().

use calotype_api::error::ApiError;
use calotype_api::instances::CreateVnicDetails;
use calotype_api::ocid::Ocid;
use jiff::Timestamp;

use super::Context;
use crate::config::Config;
use crate::db::{self, Batch, Db};
use crate::http::{Reply, Request};

pub struct VnicOwner { pub instance_id: Ocid, pub compartment_id: Ocid, pub display_name: String, pub availability_domain: String }
pub struct PlannedVnic { pub vnic_id: Ocid, pub hostname: Option<String>, pub batch: Batch }
pub struct VnicOwnerView { pub instance_id: Ocid, pub hostname: Option<String> }
pub async fn plan_vnic(_: &Context, _: &VnicOwner, _: &CreateVnicDetails) -> Result<PlannedVnic, ApiError> { Err(ApiError::internal()) }
pub async fn release_vnic(_: &Db, _: &Ocid) -> Result<(), db::Error> { Ok(()) }
pub async fn vnic_config(_: &Db, _: &Ocid, _: &[u16]) -> Result<Option<calotype_net::VnicConfig>, db::Error> { Ok(None) }
pub async fn metadata_of(_: &Db, _: &Ocid) -> Result<serde_json::Value, db::Error> { Ok(serde_json::Value::Null) }
pub fn default_network(_: &Config, _: &Ocid, _: Timestamp) -> crate::error::Result<Batch> { Ok(Batch::new()) }
pub async fn mac_address(_: &Db, _: &Ocid) -> Result<Option<String>, db::Error> { Ok(None) }
pub async fn owner_of(_: &Db, _: &Ocid) -> Result<Option<VnicOwnerView>, db::Error> { Ok(None) }
pub async fn create_subnet(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn create_vcn(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn delete_subnet(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn delete_vcn(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_private_ip(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_public_ip(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_public_ip_by_private_ip_id(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_subnet(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_vcn(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_vnic(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn get_vnic_attachment(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_private_ips(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_public_ips(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_subnets(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_vcns(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
pub async fn list_vnic_attachments(_: Context, _: Request) -> Result<Reply, ApiError> { Err(ApiError::internal()) }
